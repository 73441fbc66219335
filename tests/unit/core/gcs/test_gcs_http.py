"""HTTP answers of every shape, sent byte by byte where that could matter."""

from __future__ import annotations

import contextlib
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
from urllib3 import Timeout
from urllib3.exceptions import HTTPError, ReadTimeoutError

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.gcs.http import InFlight, NotConnectedError, ProxyRefusedError, connect


class ScriptedServer:
    """Answers each request of each connection with the next script.

    `None` in a script closes the connection, and so does an event that does not happen.
    """

    def __init__(self) -> None:
        self.scripts: list[list[bytes | threading.Event | None]] = []
        self.connections = 0
        self.heard: list[bytes] = []
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
            with connection, contextlib.suppress(ConnectionError):  # a client that has gone away
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        while (heard := connection.recv(65536)) and self.scripts:
            self.heard.append(heard)
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


def ask(connections, timeout_s: float = 30.0, in_flight: InFlight | None = None):
    timeout = Timeout(connect=30, read=timeout_s)
    return connections.request("GET", "/", headers={}, body=(), timeout=timeout, in_flight=in_flight or InFlight())


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
    connections = connect(server.endpoint, 1)
    assert ask(connections).whole(30) == b"hello world"
    answer, read = ask(connections), b""
    while piece := answer.read(4):
        assert len(piece) <= 4
        read += piece
    assert read == b"hello world"
    assert ask(connections).headers["x-odd"] == "spaced"
    assert server.connections == 1
    connections.close()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
def test_a_body_without_a_length_ends_with_its_connection(server, head):
    server.scripts = [[head + b"hello", b" world", None], [SHAPES["length"]]]
    connections = connect(server.endpoint, 1)
    answer = ask(connections)
    assert answer.length is None
    assert answer.whole(30) == b"hello world"
    assert ask(connections).whole(30) == b"hello world"
    assert server.connections == 2
    connections.close()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_never_has_a_body_needs_no_length(server, status):
    server.scripts = [[b"HTTP/1.1 " + status + b"\r\n\r\n"], [SHAPES["length"]]]
    connections = connect(server.endpoint, 1)
    assert ask(connections).whole(30) == b""
    assert ask(connections).whole(30) == b"hello world"
    assert server.connections == 1
    connections.close()


def test_there_is_time_for_something_else_between_a_request_and_its_answer(server):
    done = threading.Event()

    def meanwhile() -> None:
        while server.scripts:  # each is taken when its request has arrived
            time.sleep(0.001)
        done.set()  # without which there is no answer

    server.scripts = [[done, SHAPES["length"]]]
    connections = connect(server.endpoint, 1, meanwhile=meanwhile)
    assert ask(connections).whole(30) == b"hello world"
    connections.close()


def test_several_headers_of_one_name_are_joined(server):
    server.scripts = [[b"HTTP/1.1 200 OK\r\nX-Goog-Hash: a=1\r\nx-goog-hash: b=2\r\nContent-Length: 0\r\n\r\n"]]
    connections = connect(server.endpoint, 1)
    assert ask(connections).headers["x-goog-hash"] == "a=1, b=2"
    connections.close()


def test_a_body_that_was_compressed_unasked_is_unpacked(server):
    body = gzip.compress(b"hello world")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    server.scripts = [[head + body], [head + body[:-1] + b"x"]]
    connections = connect(server.endpoint, 1)
    assert ask(connections).whole(30) == b"hello world"
    with pytest.raises(HTTPError, match="gzip"):
        ask(connections).whole(30)
    connections.close()


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
    connections = connect(server.endpoint, 1)

    def whole() -> bytes:
        opened = ask(connections)
        try:
            return bytes(opened.whole(30))
        finally:
            opened.close()

    with pytest.raises((HTTPError, ConnectionResetError)):
        whole()
    assert whole() == b"hello world"
    assert server.connections == 2
    connections.close()


def test_bytes_behind_a_body_are_not_taken_for_the_next_answer(server):
    server.scripts = [[SHAPES["length"] + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"], [SHAPES["length"]]]
    connections = connect(server.endpoint, 1)
    assert ask(connections).whole(30) == b"hello world"
    assert ask(connections).whole(30) == b"hello world"
    connections.close()


def test_a_body_left_unread_closes_its_connection(server):
    server.scripts = [[SHAPES["length"]], [SHAPES["length"]]]
    connections = connect(server.endpoint, 1)
    ask(connections).close()
    assert ask(connections).whole(30) == b"hello world"
    assert server.connections == 2
    connections.close()


def test_silence_is_a_time_out(server):
    server.scripts = [[b"HTTP/1.1 200 OK\r\n"]]
    connections = connect(server.endpoint, 1)
    with pytest.raises(ReadTimeoutError):
        ask(connections, timeout_s=0.05)
    connections.close()


def test_where_nobody_listens_nothing_was_sent():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        connections = connect(f"http://127.0.0.1:{reserved.getsockname()[1]}", 1)
        with pytest.raises(NotConnectedError):
            ask(connections)


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
    with pytest.raises(ProxyRefusedError, match="403 Forbidden"):
        ask(connect("https://storage.example", 1))
    assert server.connections == 1


def test_a_proxy_is_told_user_and_password_and_no_message_is(server, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", server.endpoint.replace("http://", "http://me:p%40ss@"))
    server.scripts = [[b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", None]]
    with pytest.raises(ProxyRefusedError, match="407") as caught:
        ask(connect("https://storage.example", 1))
    assert b"proxy-authorization: basic bwu6cebzcw==" in server.heard[0].lower()  # me:p@ss
    assert "p@ss" not in str(caught.value)


def test_a_proxy_that_is_only_out_of_order_is_worth_another_try(server, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", server.endpoint.removeprefix("http://"))  # as curl takes it: without a scheme
    server.scripts = [[b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", None]]
    with pytest.raises(NotConnectedError, match="502"):
        ask(connect("https://storage.example", 1))
    assert server.heard[0].startswith(b"CONNECT storage.example:443 ")


@pytest.mark.parametrize(
    "proxy",
    ["socks5://me:secret@proxy.example:1080", "http://me:secret@proxy.example:notaport", "http://", "http://:80"],
)
def test_a_proxy_that_cannot_be_used_is_an_error_of_ours_without_its_password(proxy, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(InvalidRequestError, match="HTTPS_PROXY") as caught:
        connect("https://storage.example", 1)
    assert "secret" not in str(caught.value)


def test_a_body_that_trickles_is_given_up(server):
    step = threading.Event()  # does not happen meanwhile: the body comes piece by piece, and does not end
    server.scripts = [[b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *singly(b"hello"), step]]
    connections = connect(server.endpoint, 1)
    answer = ask(connections)
    with pytest.raises(TimeoutError, match="did not end within 0 s"):
        answer.whole(0)
    answer.close()
    step.set()
    connections.close()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello"])
def test_requests_under_way_end_when_their_work_is_given_up(server, sent):
    never = threading.Event()
    server.scripts = [[sent, never] if sent else [never]]
    connections, in_flight = connect(server.endpoint, 1), InFlight()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            ask(connections, 600, in_flight).whole(600)
        except (OSError, HTTPError) as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while server.scripts:  # taken when the request has arrived
        time.sleep(0.001)
    in_flight.abort()
    thread.join(timeout=9)
    assert not thread.is_alive()
    assert ended
    with pytest.raises(HTTPError, match="given up"):
        ask(connections, 600, in_flight)
    never.set()
    connections.close()


def test_a_connection_that_was_given_back_is_not_cut_off_for_the_request_before(server):
    step = threading.Event()
    server.scripts = [[SHAPES["length"]], [step, SHAPES["length"]]]
    connections, in_flight = connect(server.endpoint, 1), InFlight()
    first, answers = ask(connections, in_flight=in_flight), []
    assert first.read(100) == b"hello world"  # with its last byte, its connection is free
    thread = threading.Thread(target=lambda: answers.append(ask(connections).whole(30)))
    thread.start()
    while server.scripts:
        time.sleep(0.001)
    in_flight.abort()
    step.set()
    thread.join(timeout=9)
    assert answers == [b"hello world"]
    assert server.connections == 1
    first.close()
    connections.close()


def test_a_request_is_cut_off_although_the_one_before_it_on_its_connection_ended_late(server):
    never = threading.Event()
    server.scripts = [[SHAPES["length"]], [never]]
    connections, in_flight, ended = connect(server.endpoint, 1), InFlight(), []
    first = ask(connections, in_flight=in_flight)
    assert first.read(100) == b"hello world"

    def wait() -> None:
        try:
            ask(connections, in_flight=in_flight)
        except (OSError, HTTPError) as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while server.scripts:
        time.sleep(0.001)
    first.close()
    in_flight.abort()
    thread.join(timeout=5)
    assert ended
    never.set()
    connections.close()


def test_a_connection_that_is_about_to_be_cut_off_sends_nothing_for_anybody_else(server, monkeypatch):
    server.scripts = [[SHAPES["length"]], [SHAPES["length"]]]
    connections, in_flight, shut = connect(server.endpoint, 1), InFlight(), socket.socket.shutdown
    first, refused = ask(connections, in_flight=in_flight), []
    assert first.read(100) == b"hello world"

    def at_that_moment(connection: socket.socket, how: int) -> None:
        if not refused:
            with pytest.raises(NotConnectedError) as caught:
                ask(connections)
            refused.append(caught.value)
        shut(connection, how)

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "shutdown", at_that_moment)
        in_flight.abort()
    assert refused
    assert len(server.heard) == 1
    assert ask(connections).whole(30) == b"hello world"
    connections.close()


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
        connections = connect(address, 1)
        for _ in range(3):
            assert ask(connections).whole(30) == b"hello world"
        assert len(accepted) == 1
        connections.close()

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_the_authorities_that_requests_trusts_are_trusted(self, endpoint, variable):
        address, authority, monkeypatch, _ = endpoint
        monkeypatch.setenv(variable, str(authority))
        connections = connect(address, 1)
        assert ask(connections).whole(30) == b"hello world"
        connections.close()

    def test_a_file_of_authorities_that_is_not_there_is_named(self, endpoint):
        address, _, monkeypatch, _ = endpoint
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/authorities.pem")
        with pytest.raises(InvalidRequestError, match=r"REQUESTS_CA_BUNDLE names '/nowhere/authorities.pem'"):
            connect(address, 1)

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
