"""HTTP answers of every shape, sent byte by byte where that could matter."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from urllib3.exceptions import HTTPError, ReadTimeoutError

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.gcs.connections import connect
from airflow_dataflux.core.gcs.exchange import NotConnectedError


class ScriptedServer:
    """Answers each request of each connection with the next script.

    `None` in a script closes the connection, and so does an event that does not happen.
    """

    def __init__(self) -> None:
        self.scripts: list[list[bytes | threading.Event | None]] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self.scripts:
                connection.close()
                return
            self.connections += 1
            self._open.append(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        while connection.recv(65536) and self.scripts:
            for piece in self.scripts.pop(0):
                if piece is None:
                    return
                if not isinstance(piece, threading.Event):
                    connection.sendall(piece)
                elif not piece.wait(10):
                    return

    def close(self) -> None:
        self.scripts.clear()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        self._listener.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def ask(exchanger, timeout_s: float = 30.0):
    return exchanger.exchange("GET", "/", headers={}, body=(), connect_timeout_s=30, read_timeout_s=timeout_s)


def singly(data: bytes) -> list[bytes | None]:
    return [data[at : at + 1] for at in range(len(data))]


SHAPES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Odd:  spaced\r\n\r\nhello world",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\nB\r\nhello world\r\n0\r\nX-T: 1\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 11\r\n\r\nhello world",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dribbled", [False, True])
def test_a_body_arrives_whole_and_its_connection_is_used_again(server, shape, dribbled):
    pieces = singly(SHAPES[shape]) if dribbled else [SHAPES[shape]]
    server.scripts = [pieces, pieces, [SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1)
    assert ask(exchanger).whole() == b"hello world"
    answer, read = ask(exchanger), b""
    while piece := answer.read(4):
        assert len(piece) <= 4
        read += piece
    assert read == b"hello world"
    assert ask(exchanger).headers["x-odd"] == "spaced"
    assert server.connections == 1
    exchanger.close()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
def test_a_body_without_a_length_ends_with_its_connection(server, head):
    server.scripts = [[head + b"hello", b" world", None], [SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1)
    answer = ask(exchanger)
    assert answer.length is None
    assert answer.whole() == b"hello world"
    assert ask(exchanger).whole() == b"hello world"
    assert server.connections == 2
    exchanger.close()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_never_has_a_body_needs_no_length(server, status):
    server.scripts = [[b"HTTP/1.1 " + status + b"\r\n\r\n"], [SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1)
    assert ask(exchanger).whole() == b""
    assert ask(exchanger).whole() == b"hello world"
    assert server.connections == 1
    exchanger.close()


def test_there_is_time_for_something_else_between_a_request_and_its_answer(server):
    done = threading.Event()

    def meanwhile() -> None:
        while server.scripts:  # each is taken when its request has arrived
            time.sleep(0.001)
        done.set()  # without which there is no answer

    server.scripts = [[done, SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1, meanwhile=meanwhile)
    assert ask(exchanger).whole() == b"hello world"
    exchanger.close()


def test_several_headers_of_one_name_are_joined(server):
    server.scripts = [[b"HTTP/1.1 200 OK\r\nX-Goog-Hash: a=1\r\nx-goog-hash: b=2\r\nContent-Length: 0\r\n\r\n"]]
    exchanger = connect(server.endpoint, 1)
    assert ask(exchanger).headers["x-goog-hash"] == "a=1, b=2"
    exchanger.close()


def test_a_body_that_was_compressed_unasked_is_unpacked(server):
    body = gzip.compress(b"hello world")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    server.scripts = [[head + body], [head + body[:-1] + b"x"]]
    exchanger = connect(server.endpoint, 1)
    assert ask(exchanger).whole() == b"hello world"
    with pytest.raises(HTTPError, match="gzip"):
        ask(exchanger).whole()
    exchanger.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
    ],
)
def test_an_answer_that_is_cut_off_or_no_http_is_an_error_and_its_connection_is_not_used_again(server, answer):
    server.scripts = [[answer, None], [SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1)

    def whole() -> bytes:
        opened = ask(exchanger)
        try:
            return bytes(opened.whole())
        finally:
            opened.close()

    with pytest.raises((HTTPError, ConnectionResetError)):
        whole()
    assert whole() == b"hello world"
    assert server.connections == 2
    exchanger.close()


def test_bytes_behind_a_body_are_not_taken_for_the_next_answer(server):
    server.scripts = [[SHAPES["length"] + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"], [SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1)
    assert ask(exchanger).whole() == b"hello world"
    assert ask(exchanger).whole() == b"hello world"
    exchanger.close()


def test_a_body_left_unread_closes_its_connection(server):
    server.scripts = [[SHAPES["length"]], [SHAPES["length"]]]
    exchanger = connect(server.endpoint, 1)
    ask(exchanger).close()
    assert ask(exchanger).whole() == b"hello world"
    assert server.connections == 2
    exchanger.close()


def test_silence_is_a_time_out(server):
    server.scripts = [[b"HTTP/1.1 200 OK\r\n"]]
    exchanger = connect(server.endpoint, 1)
    with pytest.raises(ReadTimeoutError):
        ask(exchanger, timeout_s=0.05)
    exchanger.close()


def test_where_nobody_listens_nothing_was_sent():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        exchanger = connect(f"http://127.0.0.1:{reserved.getsockname()[1]}", 1)
        with pytest.raises(NotConnectedError):
            ask(exchanger)


@pytest.mark.parametrize("endpoint", ["storage.googleapis.com", "ftp://x", "http://", "http://h/path", ""])
def test_what_is_no_endpoint_is_refused(endpoint):
    with pytest.raises(InvalidRequestError, match="scheme and host"):
        connect(endpoint, 1)


def test_a_proxy_of_the_environment_is_used_for_https_and_not_for_exceptions(monkeypatch):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("https_proxy", f"http://{nobody}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(NotConnectedError, match="ProxyError"):
            ask(connect("https://storage.example", 1))
        with pytest.raises(NotConnectedError, match="NewConnectionError"):
            ask(connect(f"https://{nobody}", 1))


def test_https_goes_through_the_proxys_tunnel(server, monkeypatch):
    monkeypatch.setenv("https_proxy", server.endpoint)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.scripts = [[b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", None]]
    with pytest.raises(NotConnectedError, match="403"):
        ask(connect("https://storage.example", 1))
    assert server.connections == 1


class TestTls:
    """Over real TLS, with an authority made for the test."""

    @pytest.fixture
    def endpoint(self, tmp_path, monkeypatch):
        authority = tmp_path / "authority.pem"
        chain = make_certificate(tmp_path, authority)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        listener = socket.create_server(("127.0.0.1", 0))

        accepted: list[int] = []

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                    accepted.append(plain.fileno())
                    with plain, context.wrap_socket(plain, server_side=True) as secure:
                        while secure.recv(65536):
                            secure.sendall(SHAPES["length"][:-5])
                            secure.sendall(SHAPES["length"][-5:])
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv("no_proxy", "localhost")
        yield f"https://localhost:{listener.getsockname()[1]}", authority, monkeypatch, accepted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=30)
        assert not thread.is_alive()
        listener.close()

    def test_answers_arrive_over_a_connection_that_is_used_again(self, endpoint):
        address, authority, monkeypatch, accepted = endpoint
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        exchanger = connect(address, 1)
        for _ in range(3):
            assert ask(exchanger).whole() == b"hello world"
        assert len(accepted) == 1
        exchanger.close()

    def test_a_certificate_that_nobody_vouches_for_is_refused(self, endpoint):
        address, *_ = endpoint
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(connect(address, 1))


def make_certificate(directory, authority) -> str:
    """Write a self-signed certificate for localhost; return the path of certificate and key together."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    authority.write_bytes(pem)
    chain = directory / "chain.pem"
    chain.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(chain)
