"""Jobs and worker bodies for the tests of the runtime: module-level, so that an engine process can import them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from airflow_dataflux.core.errors import StoreError
from airflow_dataflux.core.runtime.workers import JobContext, WorkerEnded, WorkerLink, WorkerMessage

logger = logging.getLogger("airflow_dataflux.test")


def double(link: WorkerLink) -> None:
    while True:
        link.send((os.getpid(), link.receive() * 2))


def sum_of_doubles(context: JobContext, numbers: list[int]) -> dict[str, object]:
    for position, number in enumerate(numbers):
        context.workers.send(position % context.workers.count, number)
    total, pids = 0, set()
    answers = 0
    while answers < len(numbers):
        for event in context.workers.wait():
            pid, doubled = event.message
            pids.add(pid)
            total += doubled
            answers += 1
    context.emit({"answers": answers})
    return {
        "total": total,
        "pids": pids,
        "engine": os.getpid(),
        "modules": [name for name in ("airflow", "google.auth", "google.cloud.storage") if name in sys.modules],
    }


def what_arrow_loaded(_context: JobContext, _payload: None) -> tuple[object, bool, int]:
    import pyarrow as pa

    from airflow_dataflux.core.arrow import column, total

    added = total(column([1, 2], pa.int64()))
    loaded = "numpy" in sys.modules
    import numpy as np

    return added, loaded, int(np.arange(4).sum())


def report_token(link: WorkerLink) -> None:
    link.receive()
    token = link.tokens.fetch()
    link.send(None if token is None else token.value)
    link.receive()


def report_token_after_refusal(link: WorkerLink) -> None:
    link.receive()
    link.tokens.fetch()
    link.tokens.discard()
    token = link.tokens.fetch()
    link.send(None if token is None else token.value)
    link.receive()


def tokens_of_workers(context: JobContext, _payload: None) -> list[str | None]:
    for worker in range(context.workers.count):
        context.workers.send(worker, "go")
    found: list[str | None] = []
    while len(found) < context.workers.count:
        found += [event.message for event in context.workers.wait()]
    return found


def log_and_print(link: WorkerLink) -> None:
    link.receive()
    print("a stray print in a worker")
    logger.info("said %s by a worker, 100%% sure", "something")
    link.send("done")
    link.receive()


def wait_for_one_message(context: JobContext, payload: object) -> object:
    context.workers.send(0, payload)
    logger.info("the job waits")
    print("a stray print in the engine")
    while True:
        for event in context.workers.wait():
            return event.message if isinstance(event, WorkerMessage) else event


def raise_store_error(_context: JobContext, _payload: None) -> None:
    raise StoreError("GET gs://b/n#1 failed.", operation="read", status=500)


def raise_in_worker(link: WorkerLink) -> None:
    link.receive()
    raise StoreError("GET gs://b/n#2 failed.", operation="read", status=500)


class UnpicklableError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)
        self.lock = threading.Lock()


def raise_unpicklable(_context: JobContext, _payload: None) -> None:
    raise UnpicklableError("cannot ", "travel")


def die(link: WorkerLink) -> None:
    if link.receive() == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    link.send("alive")
    link.receive()


def notice_death_then_replace(context: JobContext, _payload: None) -> list[object]:
    story: list[object] = []
    context.workers.send(0, "die")
    while not story:
        ends = [event for event in context.workers.wait() if isinstance(event, WorkerEnded)]
        story += [("ended", end.worker, end.exitcode) for end in ends]
    context.workers.send(0, "to a dead worker")
    context.workers.replace(0)
    context.workers.send(0, "live")
    while len(story) < 2:
        story += [event.message for event in context.workers.wait() if isinstance(event, WorkerMessage)]
    return story


def stop_on_cancel(link: WorkerLink) -> None:
    link.send(("started", os.getpid()))
    link.cancel.wait(60)
    link.send(("tidied up", link.cancel.reason))


def run_until_cancelled(context: JobContext, _payload: None) -> None:
    tidied = 0
    context.emit(("engine", os.getpid()))
    while tidied < context.workers.count:
        for event in context.workers.wait():
            if isinstance(event, WorkerMessage) and event.message[0] == "started":
                context.emit(event.message)
            elif isinstance(event, WorkerMessage):
                tidied += 1
    context.emit(("tidied", tidied))
    context.cancel.raise_if_cancelled()


def kill_myself(_context: JobContext, _payload: None) -> None:
    print("about to die", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
