"""HTTP: requests over kept connections, an answer's head in, its body as it is wanted. urllib3 does the work.

Cloud Storage and whoever hands out tokens are reached by the same rules (`_pool`): the proxy of HTTPS_PROXY, the
authorities of the system or SSL_CERT_FILE, and of REQUESTS_CA_BUNDLE. Plain HTTP is for emulators and metadata servers,
which are near: no proxy.

Guarantees: a body that ends too early is an error, never a shorter body; a connection is only used again after its
answer was read to the end; requests under way end at once when their `InFlight` is aborted. A response belongs to one
thread. No message holds a proxy's password.

urllib3 looks at every character of a target to see whether it is encoded, in Python: a fifth of a millisecond for a
page of a listing, a third of the whole exchange. Ours are encoded when they are made (`operations.query`), so they
travel beside the headers, and our connections put them where they belong.

While a first answer is on its way there may be something else to do: `meanwhile` is called between a request and the
wait for its answer.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.util import make_headers

from airflow_dataflux.core.errors import InvalidRequestError

_REFUSED_BY_PROXY = re.compile(r"Tunnel connection failed: ((?:40[1357]|451)\b[^')]*)")
_PIECE_BYTES = 1 << 20
_LEAST_KEPT = 32


class InFlight:
    """The requests of one piece of work, so that all can be given up at once. Thread-safe."""

    def __init__(self) -> None:
        self._requests: dict[int, _Outgoing] = {}
        self._aborted = False

    def abort(self) -> None:
        """Cut all requests off, now and from now on. Does only what a signal handler may do."""
        self._aborted = True
        for request in tuple(self._requests.values()):
            connection = request.connection
            if connection is None:
                continue
            request.cut = connection.sock
            # With the last byte of an answer, its connection goes to the next request, which may be of other work.
            if request.cut is not None and connection.has is request:
                with contextlib.suppress(OSError):
                    # Not SSLSocket's own method, after which what is encrypted would be read as if it were not.
                    socket.socket.shutdown(request.cut, socket.SHUT_RDWR)

    def add(self, request: _Outgoing) -> None:
        """Note a request before it is sent. Raises ConnectionAbortedError after `abort`."""
        self._requests[id(request)] = request
        if self._aborted:
            self.discard(request)
            raise ConnectionAbortedError("the work was given up")

    def discard(self, request: _Outgoing) -> None:
        """Forget a request whose answer is over."""
        self._requests.pop(id(request), None)


class _Outgoing(dict[str, str]):
    """Headers, the request's target, what is called once it has been sent, and the connection that took it.

    `cut` is the socket that is cut off for it, or may be. `unsent`: nothing of it was sent, because its connection may
    be cut off for the request before it.
    """

    target: str
    sent: Callable[[], object] | None
    in_flight: InFlight
    connection: PlainConnection | None = None
    cut: socket.socket | None = None
    unsent = False

    def copy(self) -> _Outgoing:
        """Return what urllib3 adds to: the same, made for one request anyway."""
        return self

    def taken(self, connection: PlainConnection) -> None:
        """Note which connection sends it. Raises ConnectionAbortedError if it must not be sent over this one.

        1. A request ends, and its connection is given back before its work hears of that. 2. This request takes the
        connection. 3. The work of the other is given up. `abort` notes the socket first, and then looks whose the
        connection is; here the connection changes hands first. So one of the two sees what the other did.
        """
        before, connection.has = connection.has, self
        self.connection = connection
        self.in_flight.add(self)
        if before is not None and before.cut is not None and before.cut is connection.sock:
            self.unsent = True
            raise ConnectionAbortedError("the connection may be cut off")


class PlainConnection(HTTPConnection):
    """A connection of urllib3 that sends an `_Outgoing`; it `has` the last one that it took."""

    has: _Outgoing | None = None

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request for its own target."""
        headers.taken(self)
        super().request(method, headers.target, body, headers, **options)
        if headers.sent is not None:
            headers.sent()


class SecureConnection(PlainConnection, HTTPSConnection):
    """The same over TLS: what follows in the order of classes is urllib3's own."""


class NotConnectedError(OSError):
    """There is no connection, so nothing was sent."""


class ProxyRefusedError(OSError):
    """The proxy will not connect: it wants a password, or forbids the host. Nothing was sent."""


class HttpConnections:
    """Sends requests over the connections of a pool. Thread-safe.

    `meanwhile` is called after each request, before its answer is waited for.
    """

    def __init__(self, pool: HTTPConnectionPool, *, meanwhile: Callable[[], object] | None = None) -> None:
        pool.ConnectionCls = SecureConnection if pool.scheme == "https" else PlainConnection
        self._pool = pool
        self._meanwhile = meanwhile

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: Sequence[bytes | memoryview],
        timeout: Timeout,
        in_flight: InFlight,
    ) -> Response:
        """Send a request and return its answer with the head read.

        Raises NotConnectedError and ProxyRefusedError before anything was sent; OSError or urllib3's HTTPError
        (time-outs, answers that broke off or are no HTTP) afterwards; ssl.SSLCertVerificationError for a certificate
        that nobody vouches for.
        """
        # One piece is not copied: a chunk of an upload has 8 MiB. urllib3 takes a memoryview, though its types do not.
        whole: Any = body[0] if len(body) == 1 else b"".join(body) or None
        outgoing = _Outgoing(headers)
        outgoing.target, outgoing.sent, outgoing.in_flight = target, self._meanwhile, in_flight
        try:
            answer = self._pool.urlopen(
                method,
                "/",
                body=whole,
                headers=outgoing,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except BaseException as error:
            in_flight.discard(outgoing)
            if outgoing.unsent:
                raise NotConnectedError(f"{type(error).__name__}: {error}") from error
            if isinstance(error, SSLError) and isinstance(error.args[0], ssl.SSLCertVerificationError):
                raise error.args[0] from error
            if isinstance(error, NewConnectionError | ConnectTimeoutError | ProxyError):
                if refused := _REFUSED_BY_PROXY.search(str(error)):
                    raise ProxyRefusedError(f"the proxy answered {refused[1]}") from error
                raise NotConnectedError(f"{type(error).__name__}: {error}") from error
            raise
        return Response(answer, lambda: in_flight.discard(outgoing))

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()


class Response:
    """An answer whose head was read.

    Attributes:
        status: HTTP status.
        headers: by name, in any case; several of one name are joined by commas (RFC 9110 5.3).
        length: bytes of the body, None if only its end will tell.
    """

    def __init__(self, response: BaseHTTPResponse, closed: Callable[[], None]) -> None:
        """`closed` is called when the answer is over."""
        self._response = response
        self._closed = closed
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.length: int | None = response.length_remaining

    def read(self, most_bytes: int) -> bytes:
        """Return what has come, at most so many bytes; waits for one at least, and is empty only at the end."""
        return self._response.read1(most_bytes, decode_content=False)

    def whole(self, within_s: float) -> bytes:
        """Return the whole body, decompressed where a proxy compressed it unasked.

        Raises TimeoutError if it has not come within so many seconds, however steadily it comes.
        """
        until = time.monotonic() + within_s
        pieces = []
        while piece := self.read(_PIECE_BYTES):
            pieces.append(piece)
            if time.monotonic() > until:
                raise TimeoutError(f"the body did not end within {within_s:g} s")
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        encoding = self.headers.get("content-encoding", "identity")
        if encoding in ("gzip", "deflate"):
            try:
                return zlib.decompress(body, wbits=47)  # either, by its header
            except zlib.error as error:
                raise DecodeError(f"the {encoding} body cannot be unpacked: {error}") from error
        return body

    def close(self) -> None:
        """Let the connection go; urllib3 has it back already if the body was read to its end. Idempotent."""
        self._closed()
        self._response.close()
        self._response.release_conn()


class AnyHost:
    """Requests to any address, such as those for tokens. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: dict[str, HttpConnections] = {}

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request and return status, headers and body of its answer, all within about `timeout_s`.

        Raises OSError or urllib3's HTTPError if there is no whole answer, InvalidRequestError for what is no address.
        """
        address = urlsplit(url)
        origin = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
        with self._lock:
            if origin not in self._connections:
                self._connections[origin] = connect(origin, 1)
            connections = self._connections[origin]
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        answer = connections.request(
            method,
            target,
            headers=headers,
            body=(body,) if body else (),
            timeout=Timeout(connect=timeout_s, read=timeout_s),
            in_flight=InFlight(),
        )
        try:
            return answer.status, answer.headers, answer.whole(timeout_s)
        finally:
            answer.close()


def connect(endpoint: str, connections: int, *, meanwhile: Callable[[], object] | None = None) -> HttpConnections:
    """Return the connections to an endpoint: they are opened as they are needed, and up to `connections` are kept.

    Raises InvalidRequestError if it is not the address of a host, or if the environment names a proxy or a file of
    authorities that cannot be used. `meanwhile` is called after each request, before its answer is waited for.
    """
    return HttpConnections(_pool(endpoint, connections), meanwhile=meanwhile)


def _pool(endpoint: str, connections: int) -> HTTPConnectionPool:
    address = urlsplit(endpoint)
    try:
        port = address.port
    except ValueError:
        port = -1
    if address.scheme not in ("http", "https") or not address.hostname or address.path.strip("/") or port == -1:
        raise InvalidRequestError(
            f"{endpoint!r} is not the address of a service: give scheme and host, such as "
            "'https://storage.googleapis.com' or 'http://127.0.0.1:9000'."
        )
    # Whoever sends more at once than was announced is not warned of it in the log of urllib3, but served.
    connections = max(connections, _LEAST_KEPT)
    if address.scheme == "http":
        return HTTPConnectionPool(address.hostname, port, maxsize=connections, block=False)
    context = _trusting_context()
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(address.netloc):
        return _proxies(proxy, connections, context).connection_from_url(endpoint)
    return HTTPSConnectionPool(address.hostname, port, maxsize=connections, block=False, ssl_context=context)


def _proxies(proxy: str, connections: int, context: ssl.SSLContext) -> ProxyManager:
    """Return the way through a proxy, as curl and requests understand its address. Raises InvalidRequestError."""
    address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    usable = False
    with contextlib.suppress(ValueError):  # a port that is no number
        usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    if not usable:
        raise InvalidRequestError(
            f"HTTPS_PROXY names a proxy that cannot be used (scheme {address.scheme!r}): give http://host:port or "
            "http://user:password@host:port. SOCKS proxies are not supported."
        )
    credentials = None
    if address.username is not None:
        credentials = f"{unquote(address.username)}:{unquote(address.password or '')}"
    host = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname
    try:
        return ProxyManager(
            f"{address.scheme}://{host}:{address.port or (443 if address.scheme == 'https' else 80)}",
            proxy_headers=make_headers(proxy_basic_auth=credentials) if credentials else None,
            maxsize=connections,
            block=False,
            ssl_context=context,
            proxy_ssl_context=context if address.scheme == "https" else None,
        )
    except (LocationParseError, HTTPError) as error:
        raise InvalidRequestError("HTTPS_PROXY names no proxy that can be used: give http://host:port.") from error


def _trusting_context() -> ssl.SSLContext:
    """Return whom to trust: the system or SSL_CERT_FILE, and those that requests trusts by REQUESTS_CA_BUNDLE."""
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        # Slim container images come without the system's authorities; google-auth brings certifi along.
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(cafile=certifi.where())
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        bundle = os.environ.get(variable)
        if bundle:
            try:
                directory = os.path.isdir(bundle)
                context.load_verify_locations(capath=bundle) if directory else context.load_verify_locations(bundle)
            except (OSError, ssl.SSLError) as error:
                raise InvalidRequestError(
                    f"{variable} names {bundle!r}, which holds no certificates that can be read: {error}."
                ) from error
    return context
