"""Workers as threads of this process: for small jobs, and for tests that want no processes.

The behaviour is that of `process_workers.py`, except that a thread cannot be killed: `close` waits until it ends.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Final

from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.threads import start_threads
from airflow_dataflux.core.runtime.tokens import TokenSource
from airflow_dataflux.core.runtime.workers import WorkerBody, WorkerEnded, WorkerEvent, WorkerMessage


class _Closed:
    """The last item of an inbox: the owner closed the link."""


class _Wake:
    """An event that only ends a wait."""


_CLOSED: Final = _Closed()
_WAKE: Final = _Wake()


class _ThreadLink:
    """A worker's side: two queues."""

    def __init__(self, worker: int, events: queue.SimpleQueue[WorkerEvent | _Wake], tokens: TokenSource) -> None:
        self._worker = worker
        self._events = events
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.tokens = tokens
        self.cancel = CancelToken()

    def send(self, message: object) -> None:
        self._events.put(WorkerMessage(self._worker, message))

    def receive(self) -> object:
        item = self.inbox.get()
        if item is _CLOSED:
            self.inbox.put(_CLOSED)  # for a receive in another thread, or a later one
            raise EOFError("the owner closed the link")
        return item


class ThreadGroup:
    """Workers as threads. See `WorkerGroup`."""

    def __init__(self, body: WorkerBody, count: int, *, tokens: TokenSource, cancel: CancelToken) -> None:
        self._body = body
        self._tokens = tokens
        self._cancel = cancel
        self._events: queue.SimpleQueue[WorkerEvent | _Wake] = queue.SimpleQueue()
        self._links: list[_ThreadLink] = []
        self._threads: list[threading.Thread] = []
        self._waking = cancel.waking(lambda: self._events.put(_WAKE))
        self._waking.__enter__()
        try:
            for worker in range(count):
                link, thread = self._start(worker)
                self._links.append(link)
                self._threads.append(thread)
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """How many workers the group was made with."""
        return len(self._links)

    def send(self, worker: int, message: object) -> None:
        """Put the message into the worker's inbox."""
        self._links[worker].inbox.put(message)

    def wait(self, timeout_s: float | None = None) -> list[WorkerEvent]:
        """Return all events there are, after at least one or the time-out."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        found: list[WorkerEvent] = []
        if self._cancel.cancelled:
            for link in self._links:
                link.cancel.cancel(self._cancel.reason)
        while True:
            block = not found
            remaining_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                event = self._events.get(block=block, timeout=remaining_s if block else None)
            except queue.Empty:
                return found
            if not isinstance(event, _Wake):
                found.append(event)
            elif not found:
                for link in self._links:
                    link.cancel.cancel(self._cancel.reason)
                return found

    def replace(self, worker: int) -> None:
        """Start a new thread in place of one that has ended."""
        self._threads[worker].join()
        self._links[worker], self._threads[worker] = self._start(worker)

    def close(self) -> None:
        """Close all links and join the threads."""
        for link in self._links:
            if self._cancel.cancelled:
                link.cancel.cancel(self._cancel.reason)
            link.inbox.put(_CLOSED)
        for thread in self._threads:
            thread.join()
        self._waking.__exit__(None, None, None)

    def _start(self, worker: int) -> tuple[_ThreadLink, threading.Thread]:
        link = _ThreadLink(worker, self._events, self._tokens)
        thread = threading.Thread(target=self._live, args=(worker, link), name=f"dataflux-worker-{worker}")
        start_threads([thread])
        return link, thread

    def _live(self, worker: int, link: _ThreadLink) -> None:
        error: BaseException | None = None
        try:
            self._body(link)
        except EOFError:
            pass  # the owner closed the link: a normal end
        except BaseException as raised:  # noqa: BLE001 - handed to the owner, who raises it
            error = raised
        self._events.put(WorkerEnded(worker, None, error))
