"""The owner's side of a server: start it in a process of its own, direct it, stop it.

Guarantees: when `start` returns, the server answers; when `stop` returns, its process is gone and waited for. A
server never outlives its owner: it ends when the pipe to its standard input closes.

Thread-safe: orders go one after the other over one connection.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from airflow_dataflux.testing.control_messages import (
    FaultCount,
    FaultKind,
    ListingDigest,
    NameStyle,
    RequestCounters,
    RequestRecord,
    StoredVersion,
)

_T = TypeVar("_T")
_ORDER_TIMEOUT_S = 300.0
"""Seeding hashes every file; a large directory takes minutes on a slow disk."""

_STOP_TIMEOUT_S = 10.0

_API_NAMES = {
    "content_type": "contentType",
    "content_encoding": "contentEncoding",
    "cache_control": "cacheControl",
    "content_disposition": "contentDisposition",
    "content_language": "contentLanguage",
    "custom_time": "customTime",
    "storage_class": "storageClass",
    "event_based_hold": "eventBasedHold",
    "temporary_hold": "temporaryHold",
    "component_count": "componentCount",
    "metadata": "metadata",
}


class GCSServerError(Exception):
    """The server did not start, has ended, or refused a call."""


class GCSServer:
    """An embedded Cloud Storage server in its own process; a context manager.

    Args:
        port: where to listen on 127.0.0.1; 0 chooses a free port.
        settings: as for `configure`.
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        self._port = port
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()
        self._endpoint = ""

    def __enter__(self) -> GCSServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> GCSServer:
        """Start the process and wait until it listens. Raises GCSServerError if it does not."""
        if self._process is not None:
            raise GCSServerError(f"This server is running already at {self._endpoint}.")
        command = [sys.executable, "-m", "airflow_dataflux.testing", "--until-stdin-ends", "--port", str(self._port)]

        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True
        )
        try:
            self._endpoint = _read_endpoint(self._process)
            if self._settings:
                self.configure(**self._settings)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the process and wait for its end. Idempotent."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        # The end of its input is not enough here: processes that were forked meanwhile hold the pipe open, too.
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    @property
    def endpoint(self) -> str:
        """Scheme, host and port."""
        return self._endpoint

    @property
    def pid(self) -> int | None:
        """The server's process, None when it is not running."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    def environment(self) -> dict[str, str]:
        """Return the variables that send Google's clients, and this project, to this server."""
        return {"STORAGE_EMULATOR_HOST": self._endpoint}

    def reset(self) -> None:
        """Forget all buckets, settings, faults and counters; requests under way are cut off."""
        self._tell("reset")
        if self._settings:
            self.configure(**self._settings)

    def configure(self, **settings: Any) -> None:
        """Change some settings of the service: latency, bandwidth, page cap, budgets, tokens (`Settings`)."""
        self._tell("configure", **settings)

    def create_bucket(self, name: str, **settings: Any) -> None:
        """Make a bucket; keywords as in `BucketSettings`, such as soft_delete_s, versioning or permissions."""
        self._tell("create_bucket", name=name, **_lists(settings))

    def change_bucket(self, name: str, **settings: Any) -> None:
        """Change some settings of a bucket."""
        self._tell("change_bucket", name=name, **_lists(settings))

    def put(self, bucket: str, name: str, data: bytes, **metadata: Any) -> StoredVersion:
        """Put an object and return what was stored.

        Keywords: content_type, content_encoding, cache_control, content_disposition, content_language, custom_time,
        storage_class, metadata (a dict), event_based_hold, temporary_hold, component_count (as if composed: no MD5).
        """
        unknown = metadata.keys() - _API_NAMES.keys()
        if unknown:
            raise TypeError(f"put() knows no {', '.join(sorted(unknown))}; it knows {', '.join(_API_NAMES)}.")
        resource = {_API_NAMES[key]: value for key, value in metadata.items()}
        return self._ask("put", StoredVersion, bucket=bucket, name=name, data=data, metadata=resource)

    def put_many(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Put many objects by one order."""
        self._tell("put_many", bucket=bucket, objects=dict(objects))

    def delete(self, bucket: str, name: str) -> None:
        """Delete an object, as another writer would."""
        self._tell("delete", bucket=bucket, name=name)

    def synthesize(
        self,
        bucket: str,
        *,
        count: int,
        style: NameStyle = "flat",
        size: int | Sequence[int] = 1024,
        prefix: str = "",
        seed: int = 0,
        storage_class: str = "STANDARD",
    ) -> None:
        """Add `count` objects that take no memory; `size` may be several, one of which each object has."""
        sizes = [size] if isinstance(size, int) else list(size)
        order = {"bucket": bucket, "count": count, "style": style, "sizes": sizes, "prefix": prefix}
        self._tell("synthesize", **order, seed=seed, storage_class=storage_class)

    def seed_directory(self, bucket: str, directory: str | os.PathLike[str], *, prefix: str = "") -> tuple[int, int]:
        """Serve every file below `directory` without copying it; return the number of files and their bytes.

        The files are hashed once, now; they must not change while they are served.
        """
        path = os.path.abspath(directory)
        return self._ask("seed_directory", tuple[int, int], bucket=bucket, directory=path, prefix=prefix)

    def fail(self, kind: FaultKind, **rule: Any) -> int:
        """Script a fault (`FaultRule`) and return its identity, the index into `faults()`."""
        return self._ask("fail", int, kind=kind, **rule)

    def stop_failing(self, fault: int) -> None:
        """Stop a fault; its counts stay."""
        self._tell("stop_failing", fault=fault)

    def faults(self) -> list[FaultCount]:
        """Return for every fault the number of requests that matched it, and of those that it hit."""
        return self._ask("faults", list[FaultCount])

    def change_later(
        self, bucket: str, name: str, data: bytes | None, *, operation: str | None = None, after: int = 0
    ) -> None:
        """Overwrite an object, or delete it (`data` None), just before a later request (`ChangeRule`)."""
        self._tell("change_later", bucket=bucket, name=name, data=data, operation=operation, after=after)

    def changes_made(self) -> int:
        """Return how many such changes were made."""
        return self._ask("changes_made", int)

    def requests(self) -> RequestCounters:
        """Return the counters of requests."""
        return self._ask("requests", RequestCounters)

    def forget_requests(self) -> None:
        """Start counting and logging requests anew."""
        self._tell("forget_requests")

    def log(self, operation: str | None = None) -> list[RequestRecord]:
        """Return the last 20,000 requests, oldest first, of one operation or of all."""
        return self._ask("log", list[RequestRecord], operation=operation)

    def listing(self, bucket: str, prefix: str = "") -> ListingDigest:
        """Return what a complete listing contains, computed by the server from its own state."""
        return self._ask("listing", ListingDigest, bucket=bucket, prefix=prefix)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the names of all live objects, in UTF-8 byte order."""
        return self._ask("names", list[str], bucket=bucket, prefix=prefix)

    def find(self, bucket: str, name: str) -> StoredVersion | None:
        """Return the live version of an object, None if there is none."""
        found = self._ask("find", list[StoredVersion], bucket=bucket, name=name)
        return found[0] if found else None

    def soft_deleted(self, bucket: str) -> list[StoredVersion]:
        """Return the versions that soft delete keeps, and bills."""
        return self._ask("soft_deleted", list[StoredVersion], bucket=bucket)

    def unfinished_uploads(self, bucket: str) -> list[str]:
        """Return the names of the objects whose resumable uploads were neither finished nor given up, in order."""
        return self._ask("unfinished_uploads", list[str], bucket=bucket)

    def _tell(self, command: str, **arguments: Any) -> None:
        self._order(command, arguments)

    def _ask(self, command: str, result: type[_T], **arguments: Any) -> _T:
        return msgspec.msgpack.decode(self._order(command, arguments), type=result)

    def _order(self, command: str, arguments: Mapping[str, Any]) -> bytes:
        body = msgspec.msgpack.encode(arguments)
        with self._lock:
            if not self.running:
                raise GCSServerError(f"The embedded GCS server is not running, so it cannot {command}: start it first.")
            if self._connection is None:
                address = self._endpoint.removeprefix("http://")
                self._connection = http.client.HTTPConnection(address, timeout=_ORDER_TIMEOUT_S)
            try:
                self._connection.request("POST", f"/_control/{command}", body)
                response = self._connection.getresponse()
                status, answer = response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                self._connection = None
                raise GCSServerError(
                    f"The embedded GCS server at {self._endpoint} broke off {command}: {error!r}"
                ) from error
        if status != 200:
            raise GCSServerError(answer.decode("utf-8", "replace"))
        return answer


def _read_endpoint(process: subprocess.Popen[bytes]) -> str:
    endpoint = process.stdout.readline().decode().strip() if process.stdout else ""
    if not endpoint:
        raise GCSServerError(
            f"The embedded GCS server ended at its start with status {process.wait(_STOP_TIMEOUT_S)}; its standard "
            "error says why. It needs the optional dependencies: pip install 'airflow-provider-dataflux[testing]'."
        )
    return endpoint


def _lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with sets and tuples as lists, which is what can be sent."""
    return {
        key: list(value) if isinstance(value, set | frozenset | tuple) else value for key, value in settings.items()
    }
