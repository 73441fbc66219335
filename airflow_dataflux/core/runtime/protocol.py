"""The one protocol between processes: task ↔ engine, engine ↔ worker. Both ends are the same version of this package.

A parent starts a child and is joined to it by pipes, which carry pickled frames:

| frame | from | means |
|---|---|---|
| `Hello` | parent, to an engine, first | what it needs before it can unpickle its job, which is the second frame |
| `Message` | both | something of the job: a worker's work and answers, an engine's events |
| `Cancel` | parent | stop |
| `TokenWanted`, `TokenRefused` | child | hand me a token; the one you gave me was answered with 401 |
| `TokenAnswer` | parent | a token, anonymous access (None), or why there is none |
| `LogLine` | child | log this |
| `Done`, `Failed` | child, last | what it returned, what it raised |

The end of a pipe says that the other side is gone. `ParentLink` is the child's side; a parent answers what is not about
the job with `serve`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_dataflux.core.errors import AuthenticationError, DatafluxError, EngineError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.core.runtime.threads import start_threads
from airflow_dataflux.core.runtime.tokens import CachedTokens, Token

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PACKAGE_LOGGER = "airflow_dataflux"

logger = logging.getLogger(__name__)


class Hello(msgspec.Struct, frozen=True):
    """Where an engine imports from, and what it logs."""

    sys_path: list[str]
    log_level: int


class Message(msgspec.Struct, frozen=True):
    """Something of the job."""

    content: Any


class Cancel(msgspec.Struct, frozen=True):
    """Stop."""

    reason: str


class TokenWanted(msgspec.Struct, frozen=True):
    """Hand me a token."""


class TokenRefused(msgspec.Struct, frozen=True):
    """The token was answered with 401; a source that caches must not hand it out again."""


class TokenAnswer(msgspec.Struct, frozen=True):
    """A token, anonymous access (None), or why there is none."""

    token: Token | None
    error: DatafluxError | None = None


class LogLine(msgspec.Struct, frozen=True):
    """One log record, formatted where it was made, because its arguments may not pickle."""

    logger: str
    level: int
    text: str


class Done(msgspec.Struct, frozen=True):
    """The job returned."""

    result: Any


class Failed(msgspec.Struct, frozen=True):
    """The job or the worker raised."""

    error: BaseException


class _Closed:
    """The last item of an inbox: the parent closed the link, or is gone."""


_CLOSED: Final = _Closed()


class ParentLink:
    """A child's side: its pipes to its parent, read by one thread, written by any.

    Attributes:
        cancel: set when the parent cancels or is gone.
        tokens: the parent's, cached here.
    """

    def __init__(self, source: Connection, sink: Connection, cancel: CancelToken, *, orphan_s: float) -> None:
        """Join a parent. `listen` must run in a thread.

        Args:
            source: the pipe from the parent.
            sink: the pipe to it; may be the same connection.
            cancel: set when the parent cancels or is gone.
            orphan_s: how long this process may go on once its parent is gone.
        """
        self._source = source
        self._sink = sink
        self._orphan_s = orphan_s
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[TokenAnswer] = queue.SimpleQueue()
        self.cancel = cancel
        self.tokens = CachedTokens(self)

    def send(self, message: object) -> None:
        """Send something of the job."""
        self.post(Message(message))

    def receive(self) -> object:
        """Wait for the parent's next message. Raises EOFError once the parent closed the link or is gone."""
        item = self._inbox.get()
        if item is _CLOSED:
            self._inbox.put(_CLOSED)  # for a receive in another thread, or a later one
            raise EOFError("the owner closed the link")
        return item

    def post(self, frame: object) -> None:
        """Send a frame. To a parent that is gone: does nothing, because `listen` notices that."""
        with self._sending, contextlib.suppress(OSError):
            self._sink.send(frame)

    def fetch(self) -> Token | None:
        """Ask the parent for a token. Called under the lock of CachedTokens, so one question is open at a time."""
        self.post(TokenWanted())
        answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        return answer.token

    def discard(self) -> None:
        """Tell the parent that its token was refused."""
        self.post(TokenRefused())

    def listen(self) -> None:
        """Read the pipe until the parent is gone; then give the job a little time, and end the process.

        The pipe is drained at all times, so that a parent's send never waits for a busy child.
        """
        try:
            while True:
                match self._source.recv():
                    case Message(content):
                        self._inbox.put(content)
                    case TokenAnswer() as answer:
                        self._answers.put(answer)
                    case Cancel(reason):
                        self.cancel.cancel(reason)
        except (EOFError, OSError):
            self._inbox.put(_CLOSED)
            gone = AuthenticationError("The process that holds the credentials, or asks for them, is gone.")
            self._answers.put(TokenAnswer(None, gone))
            self.cancel.cancel("the process that started this one ended")
        time.sleep(self._orphan_s)
        os._exit(1)

    def start_listening(self) -> None:
        """Run `listen` in a thread of its own."""
        start_threads([threading.Thread(target=self.listen, name="dataflux-link", daemon=True)])


def serve(frame: object, tokens: CachedTokens, post: Callable[[object], None]) -> None:
    """Do for a child what is not about its job: hand it a token, or log for it.

    The task's own handlers, levels and filters decide what becomes of a line.
    """
    match frame:
        case TokenWanted():
            post(_token_answer(tokens))
        case TokenRefused():
            tokens.discard()
        case LogLine(name, level, text):
            logging.getLogger(name).log(level, "%s", text)  # so that a percent sign is not read as a format


def _token_answer(tokens: CachedTokens) -> TokenAnswer:
    try:
        return TokenAnswer(tokens.fetch())
    except DatafluxError as error:
        return TokenAnswer(None, error)


def portable_error(error: BaseException) -> BaseException:
    """Return `error` if it survives pickling, else an EngineError that quotes it; log its traceback at DEBUG."""
    logger.debug("Sending an error to the parent process", exc_info=error)
    try:
        arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, made one call earlier
    except Exception:  # noqa: BLE001 - whatever a foreign exception's pickling raises, the answer is the same
        arrived = None
    if type(arrived) is type(error):
        return error
    return EngineError(f"{type(error).__name__}: {error}")


class _LogLineHandler(logging.Handler):
    def __init__(self, post: Callable[[object], None]) -> None:
        super().__init__()
        self._post = post

    def emit(self, record: logging.LogRecord) -> None:
        self._post(LogLine(record.name, record.levelno, self.format(record)))


@contextlib.contextmanager
def logging_to(post: Callable[[object], None], level: int) -> Iterator[None]:
    """Send every record of this package to the parent, and to nobody else, while the block runs."""
    package = logging.getLogger(PACKAGE_LOGGER)
    before = package.handlers[:], package.level, package.propagate
    package.handlers[:], package.propagate = [_LogLineHandler(post)], False
    package.setLevel(level)
    try:
        yield
    finally:
        package.handlers[:], package.propagate = before[0], before[2]
        package.setLevel(before[1])
