"""One HTTP exchange: a request out, an answer's head in, its body as it is wanted. urllib3 does the work.

Guarantees: a body that ends too early is an error, never a shorter body; a connection is only used again after its
answer was read to the end. An answer belongs to one thread.

urllib3 looks at every character of a target to see whether it is encoded, in Python: a fifth of a millisecond for a
page of a listing, a third of the whole exchange. Ours are encoded when they are made (`operations.query`), so they
travel beside the headers, and our connections put them where they belong.

While a first answer is on its way there may be something else to do: `meanwhile` is called between a request and the
wait for its answer.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError, SSLError


class _Outgoing(dict[str, str]):
    """Headers, the request's target, and what is called once it has been sent."""

    target: str
    sent: Callable[[], object] | None

    def copy(self) -> _Outgoing:
        """Return what urllib3 adds to: the same, made for one request anyway."""
        return self


class PlainConnection(HTTPConnection):
    """A connection of urllib3 that sends an `_Outgoing`."""

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request for its own target."""
        super().request(method, headers.target, body, headers, **options)
        if headers.sent is not None:
            headers.sent()


class SecureConnection(HTTPSConnection):
    """The same over TLS."""

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request for its own target."""
        super().request(method, headers.target, body, headers, **options)
        if headers.sent is not None:
            headers.sent()


class NotConnectedError(OSError):
    """There is no connection, so nothing was sent."""


class Exchanger:
    """Sends requests over the connections of a pool. Thread-safe.

    `meanwhile` is called after each request, before its answer is waited for.
    """

    def __init__(self, pool: HTTPConnectionPool, *, meanwhile: Callable[[], object] | None = None) -> None:
        pool.ConnectionCls = SecureConnection if pool.scheme == "https" else PlainConnection
        self._pool = pool
        self._meanwhile = meanwhile

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: Sequence[bytes],
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> Answer:
        """Send a request and return its answer with the head read.

        Raises NotConnectedError before anything was sent; OSError or urllib3's HTTPError (time-outs, answers that
        broke off or are no HTTP) afterwards; ssl.SSLCertVerificationError for a certificate that nobody vouches for.
        """
        outgoing = _Outgoing(headers)
        outgoing.target, outgoing.sent = target, self._meanwhile
        try:
            return Answer(
                self._pool.urlopen(
                    method,
                    "/",
                    body=b"".join(body) if body else None,
                    headers=outgoing,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=Timeout(connect=connect_timeout_s, read=read_timeout_s),
                    preload_content=False,
                    decode_content=False,
                )
            )
        except SSLError as error:
            if isinstance(cause := error.args[0], ssl.SSLCertVerificationError):
                raise cause from error
            raise
        except (NewConnectionError, ConnectTimeoutError, ProxyError) as error:
            raise NotConnectedError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()


class Answer:
    """An answer whose head was read.

    Attributes:
        status: HTTP status.
        headers: by name, in any case; several of one name are joined by commas (RFC 9110 5.3).
        length: bytes of the body, None if only its end will tell.
    """

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.length: int | None = response.length_remaining

    def read(self, most_bytes: int) -> bytes:
        """Return what has come, at most so many bytes; waits for one at least, and is empty only at the end."""
        return self._response.read1(most_bytes, decode_content=False)

    def whole(self) -> bytes:
        """Return the whole body, decompressed where a proxy compressed it unasked."""
        return self._response.read(decode_content=True)

    def close(self) -> None:
        """Let the connection go; urllib3 has it back already if the body was read to its end. Idempotent."""
        self._response.close()
        self._response.release_conn()
