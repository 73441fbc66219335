"""One HTTP/1.1 exchange over a connection that urllib3 made: a request's bytes out, an answer's head and body in.

urllib3 finds the host, goes through proxies, checks certificates and keeps idle connections. What it and `http.client`
then do for each request (re-encoding the target, parsing headers as e-mail) costs six times as much CPU as all the
rest of a request, and the project sends thousands a second; so this module speaks the few rules of RFC 9112 that a
client needs: bodies by Content-Length, chunked, or up to the end of the connection.

Guarantees: a body that ends too early is an error, never a shorter body; a connection is only reused after its answer
was read to the end. An answer belongs to one thread.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from collections.abc import Sequence
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

_PIECE_BYTES = 1 << 16
_MOST_HEAD_BYTES = 1 << 18


class NotConnectedError(OSError):
    """There is no connection, so nothing was sent."""


class BrokenAnswerError(Exception):
    """The connection ended inside an answer, or what came is no HTTP."""


class Exchanger(HTTPConnectionPool):
    """A pool of plain connections that sends whole requests."""

    def exchange(self, pieces: Sequence[bytes], *, connect_timeout_s: float, read_timeout_s: float) -> Answer:
        """Send a request and return its answer with the head read.

        Raises NotConnectedError before anything was sent; OSError (with it time-outs) or BrokenAnswerError afterwards.
        """
        connection: Any = self._get_conn()
        try:
            if connection.is_closed:
                self._connect(connection, connect_timeout_s)
            sock = connection.sock
            sock.settimeout(read_timeout_s)
            for piece in pieces:
                sock.sendall(piece)
            return Answer(self, connection, sock)
        except BaseException:
            self.abandon(connection)
            raise

    def keep(self, connection: Any) -> None:
        """Take back a connection for the next exchange."""
        if self.pool is None or self.pool.full():
            connection.close()  # more were asked for than are kept, or the pool was closed meanwhile
        else:
            self._put_conn(connection)

    def abandon(self, connection: Any) -> None:
        """Close a connection that cannot be used again, and make room for another."""
        connection.close()
        if self.pool is not None and not self.pool.full():
            self._put_conn(None)

    def _connect(self, connection: Any, timeout_s: float) -> None:
        connection.timeout = timeout_s
        try:
            if self.proxy is not None:
                self._prepare_proxy(connection)
            else:
                connection.connect()
        except ssl.SSLCertVerificationError:
            raise
        except (HTTPError, OSError) as error:
            raise NotConnectedError(f"{type(error).__name__}: {error}") from error


class SecureExchanger(Exchanger, HTTPSConnectionPool):
    """The same over TLS."""


class Answer:
    """An answer whose head was read.

    Attributes:
        status: HTTP status.
        headers: by lower-case name; several of one name are joined by commas (RFC 9110 5.3).
        length: bytes of the body, None if only its end will tell.
    """

    def __init__(self, exchanger: Exchanger, connection: Any, sock: socket.socket) -> None:
        self._exchanger = exchanger
        self._connection = connection
        self._sock = sock
        self._ahead = b""  # bytes that came, and were not asked for yet
        self.status, self.headers = self._read_head()
        while 100 <= self.status < 200:  # interim answers say nothing
            self.status, self.headers = self._read_head()
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.length = None if self._chunked else self._length()
        self._left = self.length  # of the body, or of the chunk at hand; None: until the connection ends
        if self._chunked:
            self._left = 0
        self._finished = False
        if self.length == 0:
            self._finish()

    def readinto(self, buffer: memoryview) -> int:
        """Put what comes next at the front of `buffer`; return how many bytes, 0 only at the end of the body."""
        if self._finished or not len(buffer):
            return 0
        if self._chunked and self._left == 0 and not self._next_chunk():
            return 0
        most = len(buffer) if self._left is None else min(len(buffer), self._left)
        if self._ahead:
            count = min(most, len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
        else:
            count = self._sock.recv_into(buffer[:most])
            if count == 0:
                return self._connection_ended()
        if self._left is not None:
            self._left -= count
            if self._left == 0 and not self._chunked:
                self._finish()
        return count

    def whole(self) -> bytes | bytearray:
        """Return the whole body, decompressed where a proxy compressed it unasked."""
        if self.length is not None:
            body = bytearray(self.length)
            view, filled = memoryview(body), 0
            while filled < self.length:
                filled += self.readinto(view[filled:])
        else:
            body, piece = bytearray(), memoryview(bytearray(_PIECE_BYTES))
            while count := self.readinto(piece):
                body += piece[:count]
        if self.headers.get("content-encoding") != "gzip":
            return body
        try:
            return gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise BrokenAnswerError(f"the body is not the gzip that its head says: {error}") from error

    def close(self) -> None:
        """Let the connection go; one whose body was not read to its end is closed. Idempotent."""
        if not self._finished:
            self._finished = True
            self._exchanger.abandon(self._connection)

    def _finish(self) -> None:
        self._finished = True
        # Bytes after the body mean that the two sides disagree about where it ended.
        if self._ahead or self.headers.get("connection", "").lower() == "close":
            self._exchanger.abandon(self._connection)
        else:
            self._exchanger.keep(self._connection)

    def _connection_ended(self) -> int:
        if self._left is None:
            self.headers["connection"] = "close"
            self._finish()
            return 0
        raise BrokenAnswerError(f"the connection was closed {self._left} bytes before the end of the body")

    def _length(self) -> int | None:
        if self.status in (204, 304):
            return 0
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not text.isdecimal():
            raise BrokenAnswerError(f"Content-Length is {text!r}")
        return int(text)

    def _next_chunk(self) -> bool:
        """Read the size of the next chunk; return whether there is one."""
        line = self._read_line()
        if not line:  # the line end behind the chunk before
            line = self._read_line()
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise BrokenAnswerError(f"{line[:40]!r} is not the size of a chunk") from None
        if self._left:
            return True
        while self._read_line():
            pass  # trailers
        self._finish()
        return False

    def _read_line(self) -> bytes:
        return self._read_until(b"\r\n")

    def _read_head(self) -> tuple[int, dict[str, str]]:
        lines = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise BrokenAnswerError(f"{lines[0][:80]!r} does not begin an HTTP answer")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return int(rest[:3]), headers

    def _read_until(self, end: bytes) -> bytes:
        """Return what comes before `end`, and keep what comes behind it."""
        came = self._ahead
        while (at := came.find(end)) < 0:
            if len(came) > _MOST_HEAD_BYTES:
                raise BrokenAnswerError("the head of the answer does not end")
            piece = self._sock.recv(_PIECE_BYTES)
            if not piece:
                raise BrokenAnswerError("the connection was closed before the answer" if not came else "cut off")
            came += piece
        self._ahead = came[at + len(end) :]
        return came[:at]
