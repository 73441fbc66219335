"""The server's process: listen, say where, serve and obey the owner until told to stop.

Assumption: one event loop, one thread. The server stops on SIGTERM and SIGINT and, if it was started by an owner, at
the end of its standard input: an owner that dies closes that pipe, whatever it dies of. Processes that the owner forked
may hold the pipe open beyond its death, so its death is also seen by the change of this process's parent.

The owner's orders come as `POST /_control/<command>`. Arguments and result are MessagePack. An order that cannot be
carried out is answered with 400 and the sentence that says why. It is only as private as the loopback interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from airflow_dataflux.testing.buckets import Bucket
from airflow_dataflux.testing.control_messages import (
    BucketSettings,
    ChangeRule,
    FaultCount,
    FaultRule,
    ListingDigest,
    RequestCounters,
    RequestRecord,
    Settings,
    StoredVersion,
    SyntheticObjects,
)
from airflow_dataflux.testing.http_messages import ApiError
from airflow_dataflux.testing.object_record import ObjectRecord
from airflow_dataflux.testing.objects_list import digest, successor
from airflow_dataflux.testing.request_handler import RequestHandler
from airflow_dataflux.testing.service import add_synthetic_objects, owned_bucket, put_object, seed_directory

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
        prepare: called with the request handler before that.
    """

    host: str = "127.0.0.1"
    port: int = 0
    until_stdin_ends: bool = False
    announce: Callable[[str], None]
    prepare: Callable[[RequestHandler], None]


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
    options.prepare(dispatcher.control.handler)
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
        return await self.control.handler.handle(request)

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


CONTROL_PATH = "/_control/"


class Control:
    """Carries out the owner's orders. Every public method is a command; its parameters are its arguments."""

    def __init__(self, endpoint: str, drop_connections: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._handler = RequestHandler(endpoint)
        self._drop_connections = drop_connections

    @property
    def handler(self) -> RequestHandler:
        """The state that new requests meet."""
        return self._handler

    async def handle(self, request: web.BaseRequest, command: str) -> web.Response:
        """Answer one order."""
        method = getattr(self, command, None)
        if command.startswith("_") or command in ("handle", "handler") or method is None:
            return web.Response(status=404, text=f"There is no command {command!r}.")
        body = await request.content.read()
        try:
            arguments = msgspec.msgpack.decode(body) if body else {}
            result = method(**arguments)
        except (ApiError, msgspec.MsgspecError, TypeError, ValueError, OSError) as error:
            return web.Response(status=400, text=f"{command}: {error}")
        return web.Response(body=msgspec.msgpack.encode(result), content_type="application/msgpack")

    def ping(self) -> str:
        """Answer that the server is there."""
        return "pong"

    def reset(self) -> None:
        """Forget everything and drop all connections, except the one this order came by."""
        self._handler = RequestHandler(self._endpoint)
        self._drop_connections()

    def configure(self, **changes: Any) -> None:
        """Change some settings."""
        known = msgspec.structs.asdict(self._handler.service.settings)
        self._handler.configure(msgspec.convert({**known, **changes}, Settings))

    def create_bucket(self, *, name: str, **settings: Any) -> None:
        """Make a bucket."""
        self._handler.service.create_bucket(name, msgspec.convert(settings, BucketSettings))

    def change_bucket(self, *, name: str, **settings: Any) -> None:
        """Change some settings of a bucket."""
        bucket = self._bucket(name)
        known = msgspec.structs.asdict(bucket.settings)
        bucket.settings = msgspec.convert({**known, **settings}, BucketSettings)

    def put(self, *, bucket: str, name: str, data: bytes, metadata: dict[str, Any]) -> StoredVersion:
        """Put an object; `metadata` is in the form of an object resource."""
        return put_object(self._handler.service, bucket, name, data, metadata)

    def put_many(self, *, bucket: str, objects: dict[str, bytes]) -> None:
        """Put many objects."""
        for name, data in objects.items():
            put_object(self._handler.service, bucket, name, data, {})

    def delete(self, *, bucket: str, name: str) -> None:
        """Delete an object, as another writer would."""
        self._handler.change(ChangeRule(bucket=bucket, name=name))

    def synthesize(self, **order: Any) -> None:
        """Add a synthetic range to a bucket."""
        add_synthetic_objects(self._handler.service, msgspec.convert(order, SyntheticObjects))

    def seed_directory(self, *, bucket: str, directory: str, prefix: str) -> tuple[int, int]:
        """Serve the files below a directory; return how many they are, and their bytes."""
        return seed_directory(self._handler.service, bucket, directory, prefix)

    def fail(self, **rule: Any) -> int:
        """Add a fault and return its identity."""
        return self._handler.faults.add(msgspec.convert(rule, FaultRule))

    def stop_failing(self, *, fault: int) -> None:
        """Stop a fault; its counts stay."""
        self._handler.faults.remove(fault)

    def faults(self) -> list[FaultCount]:
        """Return what became of every fault, by identity."""
        return self._handler.faults.counts()

    def change_later(self, **rule: Any) -> None:
        """Change an object when a certain request comes."""
        self._handler.changes.add(msgspec.convert(rule, ChangeRule))

    def changes_made(self) -> int:
        """Return how many of those changes were made."""
        return self._handler.changes.done

    def requests(self) -> RequestCounters:
        """Return the counters."""
        return self._handler.log.counters

    def forget_requests(self) -> None:
        """Start counting anew."""
        self._handler.log.forget()

    def log(self, *, operation: str | None) -> list[RequestRecord]:
        """Return the last requests."""
        return self._handler.log.log(operation)

    def listing(self, *, bucket: str, prefix: str) -> ListingDigest:
        """Return what a listing must contain."""
        return digest(self._bucket(bucket), prefix)

    def names(self, *, bucket: str, prefix: str) -> list[str]:
        """Return the names of the live objects, in UTF-8 byte order."""
        start, names = prefix.encode(), []
        for run in self._bucket(bucket).runs(start, successor(start)):
            if isinstance(run, ObjectRecord):
                names.append(run.name.decode())
            else:
                names += [run[0].name(index).decode() for index in range(run[1], run[2])]
        return names

    def find(self, *, bucket: str, name: str) -> list[StoredVersion]:
        """Return the live version of an object in a list, which is empty if there is none."""
        record = self._bucket(bucket).get(name.encode())
        return [] if record is None else [record.version()]

    def soft_deleted(self, *, bucket: str) -> list[StoredVersion]:
        """Return the soft-deleted versions."""
        return [record.version() for record in self._bucket(bucket).soft_deleted]

    def unfinished_uploads(self, *, bucket: str) -> list[str]:
        """Return the names of the objects whose resumable uploads are open."""
        return self._handler.service.uploads.unfinished(self._bucket(bucket))

    def _bucket(self, name: str) -> Bucket:
        return owned_bucket(self._handler.service, name)
