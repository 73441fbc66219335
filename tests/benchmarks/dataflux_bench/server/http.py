"""HTTP/1.1 over asyncio transports, as little of it as the peers' clients use."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from dataflux_bench.server.answers import Answer, Request, Service
from dataflux_bench.server.latency import Service as Latency

_PACED_AT_ONCE_BYTES = 1 << 18
"""A body up to this size is written in one go when its last byte is due (3.3 ms after its first at 80 MB/s)."""

_CHUNK_BYTES = 1 << 19
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(slots=True)
class Counts:
    """What was served since the last reset."""

    operations: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    rows: int = 0
    bytes_sent: int = 0
    connections: int = 0
    in_flight: int = 0
    in_flight_peak: int = 0


class Connection(asyncio.Protocol):
    """One connection: reads a request, waits as long as the model says, answers, reads the next."""

    def __init__(
        self,
        service: Service,
        latency: Callable[[], Latency],
        counts: Counts,
        control: Callable[[Request], Answer],
    ) -> None:
        self._service = service
        self._latency = latency
        self._counts = counts
        self._control = control
        self._received = bytearray()
        self._busy = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._loop = asyncio.get_running_loop()
        self._counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._busy:
            self._next_request()

    def _next_request(self) -> None:
        request = self._take_request()
        if request is None:
            return
        self._busy = True
        self._counts.in_flight += 1
        if request.target.startswith(b"/_bench/"):
            self._send(request, self._control(request))
            return
        self._counts.in_flight_peak = max(self._counts.in_flight_peak, self._counts.in_flight)
        latency = self._latency()
        answer = self._service.answer(request, latency.admits)
        self._counts.operations[answer.operation] += 1
        self._counts.statuses[answer.status] += 1
        self._counts.rows += answer.rows
        delay_s = latency.jittered(answer.latency_s)
        if answer.paced:
            size = sum(map(len, answer.pieces))
            if size > _PACED_AT_ONCE_BYTES:
                self._loop.call_later(delay_s, self._begin_paced, request, answer)
                return
            delay_s += size / latency.model.bytes_per_s
        if delay_s:
            self._loop.call_later(delay_s, self._send, request, answer)
        else:
            self._send(request, answer)

    def _take_request(self) -> Request | None:
        received = self._received
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = bytes(received[:end]).split(b"\r\n")
        method, target, _ = lines[0].split(b" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        length = int(headers.get(b"content-length", b"0"))
        if len(received) < end + 4 + length:
            return None
        body = bytes(received[end + 4 : end + 4 + length])
        del received[: end + 4 + length]
        return Request(method, target, headers, body)

    def _head(self, answer: Answer, length: int) -> bytes:
        if answer.status == 204:
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (
            answer.status,
            _REASONS[answer.status],
            answer.content_type,
            length,
            answer.headers,
        )

    def _send(self, request: Request, answer: Answer) -> None:
        if self._closed:
            self._finish()
            return
        pieces = list(answer.pieces)
        length = sum(map(len, pieces))
        self._counts.bytes_sent += length
        head = self._head(answer, length)
        if request.method == b"HEAD":
            pieces = []
        if length < 4096:
            self._transport.write(b"".join([head, *pieces]))
        else:
            self._transport.writelines([head, *pieces])
        self._finish()

    def _begin_paced(self, request: Request, answer: Answer) -> None:
        task = self._loop.create_task(self._send_paced(answer))
        self._sending = task  # the loop itself holds tasks weakly

    async def _send_paced(self, answer: Answer) -> None:
        pieces = list(answer.pieces)
        length = sum(map(len, pieces))
        per_s = self._latency().model.bytes_per_s
        began = self._loop.time()
        sent = 0
        self._transport.write(self._head(answer, length))
        parts = itertools.chain.from_iterable(
            (piece[at : at + _CHUNK_BYTES] for at in range(0, len(piece), _CHUNK_BYTES)) for piece in pieces
        )
        for part in parts:
            sent += len(part)
            ahead_s = began + sent / per_s - self._loop.time()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            await self._writable.wait()
            if self._closed:
                break
            self._transport.write(part)
        self._counts.bytes_sent += sent
        self._finish()

    def _finish(self) -> None:
        self._counts.in_flight -= 1
        self._busy = False
        if not self._closed and self._received:
            self._next_request()
