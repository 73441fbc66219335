"""The private control API: what the owner of a server tells it, as `POST /_control/<command>`.

Arguments and result are MessagePack. An order that cannot be carried out is answered with 400 and the sentence that
says why. It is only as private as the loopback interface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from airflow_dataflux.testing import filling
from airflow_dataflux.testing.buckets import Bucket
from airflow_dataflux.testing.listing import digest, successor
from airflow_dataflux.testing.orders import (
    BucketSettings,
    ChangeRule,
    FaultCount,
    FaultRule,
    ListingDigest,
    RequestCounters,
    RequestRecord,
    Settings,
    StoredVersion,
    SyntheticOrder,
)
from airflow_dataflux.testing.pipeline import Pipeline
from airflow_dataflux.testing.records import ObjectRecord
from airflow_dataflux.testing.refusals import Refusal

CONTROL_PATH = "/_control/"


class Control:
    """Carries out the owner's orders. Every public method is a command; its parameters are its arguments."""

    def __init__(self, endpoint: str, drop_connections: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._pipeline = Pipeline(endpoint)
        self._drop_connections = drop_connections

    @property
    def pipeline(self) -> Pipeline:
        """The state that new requests meet."""
        return self._pipeline

    async def handle(self, request: web.BaseRequest, command: str) -> web.Response:
        """Answer one order."""
        method = getattr(self, command, None)
        if command.startswith("_") or command in ("handle", "pipeline") or method is None:
            return web.Response(status=404, text=f"There is no command {command!r}.")
        body = await request.content.read()
        try:
            arguments = msgspec.msgpack.decode(body) if body else {}
            result = method(**arguments)
        except (Refusal, msgspec.MsgspecError, TypeError, ValueError, OSError) as error:
            return web.Response(status=400, text=f"{command}: {error}")
        return web.Response(body=msgspec.msgpack.encode(result), content_type="application/msgpack")

    def ping(self) -> str:
        """Answer that the server is there."""
        return "pong"

    def reset(self) -> None:
        """Forget everything and drop all connections, except the one this order came by."""
        self._pipeline = Pipeline(self._endpoint)
        self._drop_connections()

    def configure(self, **changes: Any) -> None:
        """Change some settings."""
        known = msgspec.structs.asdict(self._pipeline.service.settings)
        self._pipeline.configure(msgspec.convert({**known, **changes}, Settings))

    def create_bucket(self, *, name: str, **settings: Any) -> None:
        """Make a bucket."""
        self._pipeline.service.create_bucket(name, msgspec.convert(settings, BucketSettings))

    def change_bucket(self, *, name: str, **settings: Any) -> None:
        """Change some settings of a bucket."""
        bucket = self._bucket(name)
        known = msgspec.structs.asdict(bucket.settings)
        bucket.settings = msgspec.convert({**known, **settings}, BucketSettings)

    def put(self, *, bucket: str, name: str, data: bytes, metadata: dict[str, Any]) -> StoredVersion:
        """Put an object; `metadata` is in the form of an object resource."""
        return filling.put(self._pipeline.service, bucket, name, data, metadata)

    def put_many(self, *, bucket: str, objects: dict[str, bytes]) -> None:
        """Put many objects."""
        for name, data in objects.items():
            filling.put(self._pipeline.service, bucket, name, data, {})

    def delete(self, *, bucket: str, name: str) -> None:
        """Delete an object, as another writer would."""
        self._pipeline.change(ChangeRule(bucket=bucket, name=name))

    def synthesize(self, **order: Any) -> None:
        """Add a synthetic range to a bucket."""
        filling.synthesize(self._pipeline.service, msgspec.convert(order, SyntheticOrder))

    def seed_directory(self, *, bucket: str, directory: str, prefix: str) -> tuple[int, int]:
        """Serve the files below a directory; return how many they are, and their bytes."""
        return filling.seed_directory(self._pipeline.service, bucket, directory, prefix)

    def fail(self, **rule: Any) -> int:
        """Add a fault and return its identity."""
        return self._pipeline.faults.add(msgspec.convert(rule, FaultRule))

    def stop_failing(self, *, fault: int) -> None:
        """Stop a fault; its counts stay."""
        self._pipeline.faults.remove(fault)

    def faults(self) -> list[FaultCount]:
        """Return what became of every fault, by identity."""
        return self._pipeline.faults.counts()

    def change_later(self, **rule: Any) -> None:
        """Change an object when a certain request comes."""
        self._pipeline.changes.add(msgspec.convert(rule, ChangeRule))

    def changes_made(self) -> int:
        """Return how many of those changes were made."""
        return self._pipeline.changes.done

    def requests(self) -> RequestCounters:
        """Return the counters."""
        return self._pipeline.journal.counters

    def forget_requests(self) -> None:
        """Start counting anew."""
        self._pipeline.journal.forget()

    def log(self, *, operation: str | None) -> list[RequestRecord]:
        """Return the last requests."""
        return self._pipeline.journal.log(operation)

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

    def _bucket(self, name: str) -> Bucket:
        return filling.owned(self._pipeline.service, name)
