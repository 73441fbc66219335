"""The way of a request through the server.

1. its body is read (as slowly as the modelled bandwidth);
2. the caller's token is checked (401), the path is understood (404), the faults for it are chosen;
3. a fault may end it here (`status`, `reset`), or hold it up (`stall`);
4. the bucket's budgets are asked (429); what waits for this request to change an object changes it;
5. the modelled latency is waited out, and the operation is carried out, at once;
6. the answer is sent, as slowly as the modelled bandwidth, unless a fault loses or breaks it.

A listing is carried out before its latency, which depends on its rows.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from airflow_dataflux.testing import filling
from airflow_dataflux.testing.access import Access
from airflow_dataflux.testing.answers import Answer, Call, json_answer, make_call, refusal_answer
from airflow_dataflux.testing.batch import batch_answer
from airflow_dataflux.testing.budgets import Budgets
from airflow_dataflux.testing.faults import ActiveFault, Changes, Faults
from airflow_dataflux.testing.journal import Journal
from airflow_dataflux.testing.orders import ChangeRule, RequestRecord, Settings
from airflow_dataflux.testing.refusals import Refusal, object_not_found
from airflow_dataflux.testing.routes import Route, find_route
from airflow_dataflux.testing.sending import Sent, reset_connection, send
from airflow_dataflux.testing.service import Service
from airflow_dataflux.testing.timing import Timing

_BATCH = Route(operation="batch", action="batch")
_TOKEN = Route(operation="token", action="token")


class _Reset(Exception):  # noqa: N818 - not an error of the server: the scripted end of a connection
    """The connection is to be reset."""


class Pipeline:
    """One server's state, and the handler of its requests.

    A reset makes a new one; requests that are under way then stay with the state that they began with.
    """

    def __init__(self, endpoint: str) -> None:
        self.service = Service(endpoint)
        self.journal = Journal()
        self.faults = Faults()
        self.changes = Changes()
        self.access = Access()
        self.configure(Settings())

    def configure(self, settings: Settings) -> None:
        """Behave by other settings from now on. Tokens that did not change keep their age."""
        before, self.service.settings = self.service.settings, settings
        self.timing = Timing(settings)
        self.budgets = Budgets(settings)
        self.faults.seed = settings.seed
        if (settings.tokens, settings.token_life_s) != (before.tokens, before.token_life_s):
            self.access = Access(settings.tokens, settings.token_life_s)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one HTTP request."""
        self.journal.begin()
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
            self.journal.end()

    async def _serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        route = Route(operation="unknown", action="")
        fault: ActiveFault | None = None
        sent: Sent | None = None
        try:
            route = self._route(call)
            fault = self.faults.choose(route, call.query.get("prefix", ""))
            if fault is not None:
                await self._fail_early(fault)
            answer = await self._carry_out(route, call)
        except Refusal as refusal:
            answer = refusal_answer(refusal, as_text=route.operation == "read")
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
        rows = answer.rows if sent.complete else 0
        self._note(route, call, answer.status if sent.complete else 0, sent.byte_count, fault, rows)
        return sent.response

    def _route(self, call: Call) -> Route:
        """Return what a call asks for. Raises Refusal (401, 404)."""
        if call.path == "/token":
            return _TOKEN
        self.access.check(call.headers.get("Authorization"))
        if call.path.startswith("/batch"):
            return _BATCH
        return find_route(call.method, call.path, media=call.query.get("alt") == "media")

    @staticmethod
    async def _fail_early(fault: ActiveFault) -> None:
        """Let a fault before the operation happen. Raises Refusal or _Reset for those that end the request."""
        if fault.rule.kind == "status":
            fault.applied()
            raise _scripted_refusal(fault)
        if fault.rule.kind == "reset":
            fault.applied()
            raise _Reset
        if fault.rule.kind == "stall":
            fault.applied()
            await asyncio.sleep(fault.rule.stall_s)

    async def _carry_out(self, route: Route, call: Call) -> Answer:
        if route is _BATCH:
            answer, calls = batch_answer(call, self._perform_in_batch)
            await self._wait("batch", calls=calls)
            return answer
        if route is _TOKEN:
            return json_answer(self.access.mint())
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
        """Ask the budgets and make the changes that wait for this request. Raises Refusal (429)."""
        self.budgets.spend(route.operation, route.bucket)
        for change in self.changes.due(route):
            self.change(change)

    def change(self, rule: ChangeRule) -> None:
        """Overwrite or delete an object, as another writer would. Raises Refusal (404)."""
        if rule.data is not None:
            filling.put(self.service, rule.bucket, rule.name, rule.data, {})
            return
        bucket = filling.owned(self.service, rule.bucket)
        record = bucket.get(rule.name.encode())
        if record is None:
            raise object_not_found(rule.bucket, rule.name)
        bucket.remove(record, pinned=False)

    def _perform_in_batch(self, call: Call) -> Answer:
        """Carry out one call of a batch: faults of kind `status` and budgets apply to it, latency does not."""
        route = Route(operation="unknown", action="")
        fault: ActiveFault | None = None
        try:
            route = find_route(call.method, call.path, media=False)
            fault = self.faults.choose(route, call.query.get("prefix", ""), only="status")
            if fault is not None:
                fault.applied()
                raise _scripted_refusal(fault)
            self._before(route)
            answer = self.service.perform(route, call)
        except Refusal as refusal:
            answer = refusal_answer(refusal, as_text=False)
        self._note(route, call, answer.status, len(answer.body), fault, answer.rows)
        return answer

    def _note(self, route: Route, call: Call, status: int, sent: int, fault: ActiveFault | None, rows: int) -> None:
        self.journal.note(
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


def _scripted_refusal(fault: ActiveFault) -> Refusal:
    rule = fault.rule
    reason = {429: "rateLimitExceeded", 500: "internalError", 503: "backendError", 408: "requestTimeout"}.get(
        rule.status, "backendError"
    )
    headers = {} if rule.retry_after_s is None else {"Retry-After": f"{rule.retry_after_s:g}"}
    return Refusal(rule.status, reason, f"A scripted fault: {rule.status}.", headers=headers)
