"""The server as a process, and the handle on it.

with BenchServer(Model()) as server:
    server.add_bucket("b", DatasetSpec(count=1000))
    ... server.endpoint ...
    server.counts()
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import os
import resource
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import Any

from dataflux_bench.paths import environment
from dataflux_bench.server.answers import Answer, Request, Service
from dataflux_bench.server.bucket import Bucket
from dataflux_bench.server.dataset import Dataset, DatasetSpec
from dataflux_bench.server.http import Connection, Counts
from dataflux_bench.server.latency import Model
from dataflux_bench.server.latency import Service as Latency
from dataflux_bench.server.rendering import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCounts:
    """What the server counted since the last reset.

    Attributes:
        operations: requests by operation; a batch is one.
        statuses: answers by status.
        rows, bytes_sent, connections, in_flight_peak: as they say.
        unprepared_pages: pages that had to be rendered while the caller waited; 0 in a valid measurement.
        composites: composites there are now.
        cpu_s: CPU-seconds the server spent.
    """

    operations: dict[str, int]
    statuses: dict[str, int]
    rows: int
    bytes_sent: int
    connections: int
    in_flight_peak: int
    unprepared_pages: int
    composites: int
    cpu_s: float

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(self.operations.values())

    @property
    def rejected(self) -> int:
        """Requests answered with 429."""
        return self.statuses.get("429", 0)

    @property
    def refused(self) -> dict[str, int]:
        """Answers of 400 and above other than 429."""
        return {status: count for status, count in self.statuses.items() if int(status) >= 400 and status != "429"}


class BenchServer:
    """Starts the server in its own process; a context manager."""

    def __init__(self, model: Model, *, directory: str | None = None) -> None:
        self._model = model
        self._directory = directory

    def __enter__(self) -> BenchServer:
        task = json.dumps({"model": dataclasses.asdict(self._model), "directory": self._directory})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dataflux_bench.server.process", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready:
            raise RuntimeError(f"The benchmark's server did not start (exit code {self._process.wait()}).")
        self.endpoint = f"http://127.0.0.1:{json.loads(ready)['port']}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the server ends at the end of its input
        self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def add_bucket(self, name: str, spec: DatasetSpec) -> None:
        """Create a bucket with the data set of a specification."""
        self._control("add", name=name, spec=dataclasses.asdict(spec))

    def drop_bucket(self, name: str) -> None:
        """Forget a bucket and everything rendered for it."""
        self._control("drop", name=name)

    def prepare(self, name: str, forms: list[str]) -> dict[str, int]:
        """Render a bucket's listing in these forms; return the bytes of each."""
        return dict(self._control("prepare", name=name, forms=forms))

    def forms(self) -> list[str]:
        """Return the forms of listings that were asked for since the start, or since they were forgotten."""
        return list(self._control("forms"))

    def forget_forms(self) -> None:
        """Forget which forms were asked for."""
        self._control("forget_forms")

    def set_page_cap(self, rows: int) -> None:
        """Let listing pages have at most this many rows."""
        self._control("page_cap", rows=rows)

    def reset(self) -> None:
        """Set all counts to zero, and draw the same jitter again."""
        self._control("reset")

    def counts(self) -> ServerCounts:
        """Return the counts since the last reset."""
        return ServerCounts(**self._control("counts"))

    def _control(self, action: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self.endpoint}/_bench/{action}", data=json.dumps(arguments).encode(), method="POST"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            found = json.load(answer)
        if "error" in found:
            raise RuntimeError(f"The benchmark's server cannot {action}: {found['error']}")
        return found["result"]


class _Process:
    """The server's side."""

    def __init__(self, model: Model, directory: str | None) -> None:
        self._model = model
        self._directory = directory
        self._service = Service(model)
        self._latency = Latency(model)
        self._counts = Counts()
        self._cpu_before_s = 0.0

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self._service, lambda: self._latency, self._counts, self.control),
            "127.0.0.1",
            0,
            backlog=4096,
        )
        port = server.sockets[0].getsockname()[1]
        self._origin = f"http://127.0.0.1:{port}"
        sys.stdout.write(json.dumps({"port": port}) + "\n")
        sys.stdout.flush()
        ended = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else ended.set())
        await ended.wait()
        server.close()

    def control(self, request: Request) -> Answer:
        action = request.target.rpartition(b"/")[2].decode()
        arguments = json.loads(request.body) if request.body else {}
        try:
            found: dict[str, Any] = {"result": getattr(self, f"_do_{action}")(**arguments)}
        except Exception as error:  # noqa: BLE001 - told to the harness, which raises it
            found = {"error": repr(error)}
        return Answer("control", 0, pieces=(json.dumps(found).encode(),))

    def _do_add(self, name: str, spec: dict[str, Any]) -> None:
        dataset = Dataset(DatasetSpec(**spec))
        self._service.buckets[name] = Bucket(Place(name, self._origin), dataset)
        if dataset.spec.readable:
            dataset.checksums.sum()  # computed now, not during a measurement

    def _do_drop(self, name: str) -> None:
        self._service.buckets.pop(name, None)
        gc.collect()

    def _do_prepare(self, name: str, forms: list[str]) -> dict[str, int]:
        bucket = self._service.buckets[name]
        for form in forms:
            bucket.prepare(form, self._directory)
        return {form: rendering.total_bytes for form, rendering in bucket.renderings.items()}

    def _do_page_cap(self, rows: int) -> None:
        self._model = self._service.model = dataclasses.replace(self._model, page_cap=rows)
        self._latency = Latency(self._model)

    def _do_forms(self) -> list[str]:
        return sorted(self._service.forms - {"none"})

    def _do_forget_forms(self) -> None:
        self._service.forms.clear()

    def _do_reset(self) -> None:
        fresh = Counts(in_flight=self._counts.in_flight)
        for name in Counts.__slots__:
            setattr(self._counts, name, getattr(fresh, name))
        for bucket in self._service.buckets.values():
            bucket.unprepared_pages = 0
        self._latency = Latency(self._model)
        self._cpu_before_s = _cpu_s()

    def _do_counts(self) -> dict[str, Any]:
        buckets = self._service.buckets.values()
        return {
            "operations": dict(self._counts.operations),
            "statuses": {str(status): count for status, count in self._counts.statuses.items()},
            "rows": self._counts.rows,
            "bytes_sent": self._counts.bytes_sent,
            "connections": self._counts.connections,
            "in_flight_peak": self._counts.in_flight_peak,
            "unprepared_pages": sum(bucket.unprepared_pages for bucket in buckets),
            "composites": sum(bucket.composite_count for bucket in buckets),
            "cpu_s": _cpu_s() - self._cpu_before_s,
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str]) -> None:
    """Serve until the input ends."""
    task = json.loads(arguments[0])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process = _Process(Model(**task["model"]), task["directory"])
    run: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    gc.freeze()
    run(process.serve())


if __name__ == "__main__":
    main(sys.argv[1:])
