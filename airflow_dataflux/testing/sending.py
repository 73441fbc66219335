"""From an answer to bytes on a connection, with modelled bandwidth, and with the faults that happen there."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from airflow_dataflux.testing.answers import Answer
from airflow_dataflux.testing.faults import BODY_FAULTS, ActiveFault
from airflow_dataflux.testing.timing import Timing

_PIECE_BYTES = 1 << 18
_AT_ONCE_BYTES = 1 << 18
"""Bodies up to this size go out in one piece, if nothing slows or breaks them."""


@dataclass(slots=True)
class Sent:
    """What became of an answer: `response` ends aiohttp's work, `complete` says that no fault cut it short."""

    response: web.StreamResponse
    byte_count: int
    complete: bool = True


def reset_connection(request: web.BaseRequest) -> Sent:
    """Abort the connection with a TCP reset, as a crashing server or a middlebox does."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # Lingering for zero seconds makes close() send RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return Sent(web.Response(), 0, complete=False)


async def send(request: web.BaseRequest, answer: Answer, fault: ActiveFault | None, timing: Timing) -> Sent:
    """Send an answer."""
    body_fault = fault if fault is not None and fault.rule.kind in BODY_FAULTS and answer.length else None
    slow = timing.transfer_s(answer.length) > 0
    whole = answer.length <= _AT_ONCE_BYTES and "Transfer-Encoding" not in answer.headers
    if whole and body_fault is None and not slow:
        body = answer.body if answer.content is None else b"".join(_pieces(answer, _PIECE_BYTES))
        response = web.Response(status=answer.status, body=body)
        _set_headers(response, answer)
        return Sent(response, len(body))
    return await _stream(request, answer, body_fault, timing)


async def _stream(request: web.BaseRequest, answer: Answer, fault: ActiveFault | None, timing: Timing) -> Sent:
    response = web.StreamResponse(status=answer.status)
    if "Transfer-Encoding" in answer.headers:
        del answer.headers["Transfer-Encoding"]
        response.enable_chunked_encoding()
    else:
        response.content_length = answer.length
    _set_headers(response, answer)
    await response.prepare(request)
    clock = asyncio.get_running_loop().time
    start, sent, fault_at = clock(), 0, -1
    if fault is not None:
        after = fault.rule.after_bytes
        fault_at = min(answer.length // 2 if after is None else after, answer.length - 1)
    for piece in _pieces(answer, timing.piece_bytes(_PIECE_BYTES)):
        ahead_s = start + timing.transfer_s(sent + len(piece)) - clock()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        if fault is not None and sent <= fault_at < sent + len(piece):
            cut = fault_at - sent
            await response.write(bytes(piece[:cut]))
            sent += cut
            fault.applied()
            if fault.rule.kind == "reset_body":
                return Sent(reset_connection(request).response, sent, complete=False)
            if fault.rule.kind == "truncate":
                if request.transport is not None:
                    request.transport.close()
                return Sent(response, sent, complete=False)
            if fault.rule.kind == "stall_body":
                await asyncio.sleep(fault.rule.stall_s)
                piece = piece[cut:]
            else:
                piece = bytes([piece[cut] ^ 1]) + bytes(piece[cut + 1 :])
        await response.write(piece if isinstance(piece, bytes) else bytes(piece))
        sent += len(piece)
    await response.write_eof()
    return Sent(response, sent)


def _pieces(answer: Answer, piece_bytes: int) -> Iterator[bytes | memoryview]:
    if answer.content is None:
        view = memoryview(answer.body)
        for start in range(0, len(view), piece_bytes):
            yield view[start : start + piece_bytes]
        return
    # Contents may come in crumbs (a composite of tiny objects): gather them.
    crumbs: list[bytes | memoryview] = []
    gathered = 0
    for piece in answer.content.pieces(answer.start, answer.end):
        for start in range(0, len(piece), piece_bytes):
            crumb = piece[start : start + piece_bytes]
            crumbs.append(crumb)
            gathered += len(crumb)
            if gathered >= piece_bytes:
                yield crumbs[0] if len(crumbs) == 1 else b"".join(crumbs)
                crumbs, gathered = [], 0
    if crumbs:
        yield crumbs[0] if len(crumbs) == 1 else b"".join(crumbs)


def _set_headers(response: web.StreamResponse, answer: Answer) -> None:
    response.headers.update(answer.headers)
    for value in answer.hashes:
        response.headers.add("X-Goog-Hash", value)
