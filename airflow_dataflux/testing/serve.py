"""The server's life: listen, say where, serve until told to stop.

Assumption: one event loop, one thread. The server stops on SIGTERM and SIGINT and, if it was started by an owner,
at the end of its standard input: an owner that dies closes that pipe, whatever it dies of. Processes that the owner
forked may hold the pipe open beyond its death, so its death is also seen by the change of this process's parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from airflow_dataflux.testing.control import CONTROL_PATH, Control
from airflow_dataflux.testing.pipeline import Pipeline

_LINE_BYTES = 1 << 16
"""A listing's URL can hold four percent-encoded names of 1,024 bytes; aiohttp's default is 8,190."""

_BACKLOG = 1024

_PARENT_WATCH_S = 1.0
"""There is no event for the death of a parent; once a second costs nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """How to serve.

    Attributes:
        host, port: where; port 0 chooses a free one.
        until_stdin_ends: stop at the end of the standard input.
        announce: called with the endpoint once the server listens.
        prepare: called with the pipeline before that.
    """

    host: str = "127.0.0.1"
    port: int = 0
    until_stdin_ends: bool = False
    announce: Callable[[str], None]
    prepare: Callable[[Pipeline], None]


async def serve(options: ServeOptions) -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.until_stdin_ends:
        await _watch_stdin(loop, stop)
        _watch_parent(loop, stop, os.getppid())
    dispatcher = _Dispatcher()
    server = web.Server(
        dispatcher.handle,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=3600.0,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
    )
    listener = await loop.create_server(server, options.host, options.port, backlog=_BACKLOG)
    host, port = listener.sockets[0].getsockname()[:2]
    endpoint = f"http://{host}:{port}"
    dispatcher.open(endpoint, server)
    options.prepare(dispatcher.control.pipeline)
    options.announce(endpoint)
    await stop.wait()
    listener.close()
    dispatcher.drop_connections()
    with contextlib.suppress(asyncio.TimeoutError):
        await server.shutdown(timeout=0.1)


class _Dispatcher:
    """Tells the owner's orders from the callers' requests."""

    control: Control

    def open(self, endpoint: str, server: web.Server) -> None:
        self._server = server
        self.control = Control(endpoint, self.drop_connections)
        self._controlling: set[object] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(CONTROL_PATH):
            self._controlling.add(request.transport)
            try:
                return await self.control.handle(request, request.raw_path[len(CONTROL_PATH) :])
            finally:
                self._controlling.discard(request.transport)
        return await self.control.pipeline.handle(request)

    def drop_connections(self) -> None:
        """Abort every connection that does not carry an order just now."""
        for connection in self._server.connections:
            transport = connection.transport
            if transport is not None and transport not in self._controlling:
                transport.abort()


async def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    class Watcher(asyncio.Protocol):
        def connection_lost(self, error: Exception | None) -> None:
            stop.set()

    await loop.connect_read_pipe(Watcher, sys.stdin)


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, parent: int) -> None:
    if os.getppid() == parent:
        loop.call_later(_PARENT_WATCH_S, _watch_parent, loop, stop, parent)
    else:
        stop.set()
