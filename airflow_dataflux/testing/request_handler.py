"""The way of a request through the server, from the connection and back to it.

1. its body is read (as slowly as the modelled bandwidth);
2. the caller's token is checked (401), the path is understood (404), the faults for it are chosen;
3. a fault may end it here (`status`, `reset`), or hold it up (`stall`);
4. the bucket's budgets are asked (429); what waits for this request to change an object changes it;
5. the modelled latency is waited out, and the operation is carried out, at once;
6. the answer is sent, as slowly as the modelled bandwidth, unless a fault loses or breaks it.

A listing is carried out before its latency, which depends on its rows.
What happened is counted and logged, for tests to assert on.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from aiohttp import web

from airflow_dataflux.testing.control_messages import ChangeRule, RequestCounters, RequestRecord, Settings
from airflow_dataflux.testing.faults import (
    BODY_FAULTS,
    AcceptedTokens,
    ActiveFault,
    Changes,
    Faults,
    RequestBudgets,
    Timing,
)
from airflow_dataflux.testing.http_messages import (
    Answer,
    ApiError,
    IncomingCall,
    batch_answer,
    error_answer,
    json_answer,
    make_call,
    object_not_found,
)
from airflow_dataflux.testing.object_bytes import uploaded_name
from airflow_dataflux.testing.routes import Route, find_route
from airflow_dataflux.testing.service import Service, owned_bucket, put_object

_BATCH = Route(operation="batch", action="batch")
_TOKEN = Route(operation="token", action="token")


class _Reset(Exception):  # noqa: N818 - not an error of the server: the scripted end of a connection
    """The connection is to be reset."""


class RequestHandler:
    """One server's state, and the handler of its requests.

    A reset makes a new one; requests that are under way then stay with the state that they began with.
    """

    def __init__(self, endpoint: str) -> None:
        self.service = Service(endpoint)
        self.log = RequestLog()
        self.faults = Faults()
        self.changes = Changes()
        self.tokens = AcceptedTokens()
        self.configure(Settings())

    def configure(self, settings: Settings) -> None:
        """Behave by other settings from now on. Tokens that did not change keep their age."""
        before, self.service.settings = self.service.settings, settings
        self.timing = Timing(settings)
        self.budgets = RequestBudgets(settings)
        self.faults.seed = settings.seed
        if (settings.tokens, settings.token_life_s) != (before.tokens, before.token_life_s):
            self.tokens = AcceptedTokens(settings.tokens, settings.token_life_s)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one HTTP request."""
        self.log.begin()
        try:
            path, _, query = request.raw_path.partition("?")
            body = await request.content.read() if request.can_read_body else b""
            if body and (wait_s := self.timing.transfer_s(len(body))):
                await asyncio.sleep(wait_s)
            call = make_call(request.method, path, query, request.headers, body)
            return await self._serve(request, call)
        except ConnectionError:
            return web.Response()  # the caller left while it was sending: nobody hears this answer
        finally:
            self.log.end()

    async def _serve(self, request: web.BaseRequest, call: IncomingCall) -> web.StreamResponse:
        route = Route(operation="unknown", action="")
        fault: ActiveFault | None = None
        sent: Sent | None = None
        try:
            route = self._route(call)
            fault = self.faults.choose(self._named(route, call), call.query.get("prefix", ""))
            foreign = fault is not None and fault.rule.kind == "answer"
            if fault is not None:
                await self._fail_early(fault)
            if fault is None or not foreign or fault.rule.after_work:
                answer = await self._carry_out(route, call)
            if fault is not None and foreign:
                fault.applied()
                answer = _scripted_answer(fault)
        except ApiError as error:
            answer = error_answer(error, as_text=route.operation == "read")
        except _Reset:
            answer, sent = Answer(status=0), reset_connection(request)
        else:
            if fault is not None and fault.rule.kind == "lose_answer":
                fault.applied()
                sent = reset_connection(request)
        if sent is None:
            try:
                sent = await send(request, answer, fault, self.timing)
            except ConnectionError:
                sent = Sent(web.Response(), 0, complete=False)  # the caller left
        if fault is not None:
            self.faults.give_back(fault)
        rows = answer.rows if sent.complete else 0
        self._note(route, call, answer.status if sent.complete else 0, sent.byte_count, fault, rows)
        return sent.response

    def _route(self, call: IncomingCall) -> Route:
        """Return what a call asks for. Raises ApiError (401, 404)."""
        if call.path == "/token":
            return _TOKEN
        self.tokens.check(call.headers.get("Authorization"))
        if call.path.startswith("/batch"):
            return _BATCH
        return find_route(call.method, call.path, media=call.query.get("alt") == "media")

    def _named(self, route: Route, call: IncomingCall) -> Route:
        """Return the route with the name of the object that an upload makes, for faults that ask for it."""
        if route.operation != "upload" or not self.faults.counts():
            return route
        return replace(route, name=uploaded_name(call))

    @staticmethod
    async def _fail_early(fault: ActiveFault) -> None:
        """Let a fault before the operation happen. Raises ApiError or _Reset for those that end the request."""
        if fault.rule.kind == "status":
            fault.applied()
            raise _scripted_error(fault)
        if fault.rule.kind == "reset":
            fault.applied()
            raise _Reset
        if fault.rule.kind == "stall":
            fault.applied()
            await asyncio.sleep(fault.rule.stall_s)

    async def _carry_out(self, route: Route, call: IncomingCall) -> Answer:
        if route is _BATCH:
            answer, calls = batch_answer(call, self._perform_in_batch)
            await self._wait("batch", calls=calls)
            return answer
        if route is _TOKEN:
            return json_answer(self.tokens.mint())
        self._before(route)
        if route.operation == "list":
            answer = self.service.perform(route, call)
            await self._wait("list", rows=answer.rows)
            return answer
        sources = len(call.json().get("sourceObjects") or ()) if route.operation == "compose" else 0
        await self._wait(route.operation, sources=sources)
        return self.service.perform(route, call)

    async def _wait(self, operation: str, *, rows: int = 0, sources: int = 0, calls: int = 0) -> None:
        latency_s = self.timing.latency_s(operation, rows=rows, sources=sources, calls=calls)
        if latency_s > 0:
            await asyncio.sleep(latency_s)

    def _before(self, route: Route) -> None:
        """Ask the budgets and make the changes that wait for this request. Raises ApiError (429)."""
        self.budgets.spend(route.operation, route.bucket)
        for change in self.changes.due(route):
            self.change(change)

    def change(self, rule: ChangeRule) -> None:
        """Overwrite or delete an object, as another writer would. Raises ApiError (404)."""
        if rule.data is not None:
            put_object(self.service, rule.bucket, rule.name, rule.data, {})
            return
        bucket = owned_bucket(self.service, rule.bucket)
        record = bucket.get(rule.name.encode())
        if record is None:
            raise object_not_found(rule.bucket, rule.name)
        bucket.remove(record, pinned=False)

    def _perform_in_batch(self, call: IncomingCall) -> Answer:
        """Carry out one call of a batch: faults of kind `status` and budgets apply to it, latency does not."""
        route = Route(operation="unknown", action="")
        fault: ActiveFault | None = None
        try:
            route = find_route(call.method, call.path, media=False)
            fault = self.faults.choose(route, call.query.get("prefix", ""), only="status")
            if fault is not None:
                fault.applied()
                raise _scripted_error(fault)
            self._before(route)
            answer = self.service.perform(route, call)
        except ApiError as error:
            answer = error_answer(error, as_text=False)
        self._note(route, call, answer.status, len(answer.body), fault, answer.rows)
        return answer

    def _note(
        self, route: Route, call: IncomingCall, status: int, sent: int, fault: ActiveFault | None, rows: int
    ) -> None:
        self.log.note(
            RequestRecord(
                operation=route.operation,
                method=call.method,
                bucket=route.bucket,
                name=route.name,
                status=status,
                query=dict(call.query),
                user_agent=call.headers.get("User-Agent", ""),
                bytes_sent=sent,
                fault=None if fault is None else fault.identity,
            ),
            rows,
        )


def _scripted_answer(fault: ActiveFault) -> Answer:
    rule = fault.rule
    headers = {"Content-Type": "text/html; charset=UTF-8", **rule.headers}
    if rule.retry_after_s is not None:
        headers["Retry-After"] = f"{rule.retry_after_s:g}"
    return Answer(status=rule.status, body=rule.body, headers=headers)


def _scripted_error(fault: ActiveFault) -> ApiError:
    rule = fault.rule
    reason = {429: "rateLimitExceeded", 500: "internalError", 503: "backendError", 408: "requestTimeout"}.get(
        rule.status, "backendError"
    )
    headers = {} if rule.retry_after_s is None else {"Retry-After": f"{rule.retry_after_s:g}"}
    return ApiError(rule.status, reason, f"A scripted fault: {rule.status}.", headers=headers)


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
            elif fault.rule.kind == "trickle":
                for byte in bytes(piece[cut:]):
                    await asyncio.sleep(fault.rule.stall_s)
                    await response.write(bytes([byte]))
                sent += len(piece) - cut
                continue
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


_KEPT = 20_000
"""Requests in the log; about 20 MB."""


class RequestLog:
    """Counters and log of one server."""

    def __init__(self) -> None:
        self.counters = RequestCounters()
        self._log: deque[RequestRecord] = deque(maxlen=_KEPT)

    def begin(self) -> None:
        """Count an HTTP request that is being served."""
        self.counters.in_flight += 1
        self.counters.in_flight_peak = max(self.counters.in_flight_peak, self.counters.in_flight)

    def end(self) -> None:
        """Count it as served."""
        self.counters.in_flight -= 1

    def note(self, record: RequestRecord, rows: int = 0) -> None:
        """Count and log an answer."""
        counters = self.counters
        counters.operations[record.operation] = counters.operations.get(record.operation, 0) + 1
        status = str(record.status)
        counters.statuses[status] = counters.statuses.get(status, 0) + 1
        counters.bytes_sent += record.bytes_sent
        counters.rows += rows
        self._log.append(record)

    def forget(self) -> None:
        """Start counting anew."""
        in_flight = self.counters.in_flight
        self.counters = RequestCounters(in_flight=in_flight, in_flight_peak=in_flight)
        self._log.clear()

    def log(self, operation: str | None) -> list[RequestRecord]:
        """Return the logged requests, oldest first."""
        return [record for record in self._log if operation in (None, record.operation)]
