"""The connection to AWS on real sockets: trust, time limits and reconnection."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import botocore
import pytest

from scoring.aws.connection import _AMAZON_ROOTS, MAX_IDLE_SECONDS, Connection, ResponseError
from tests.local import certificates
from tests.local.certificates import Certificates
from tests.service import TIMEOUT_SECONDS

REQUEST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\n{}"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
# Longer than a busy machine needs, shorter than the pauses of the test servers
CONNECT_SECONDS = READ_SECONDS = 1
MAX_BODY_BYTES = 1_000_000

# Handles a client's connection, which is then closed.
Behaviour = Callable[[socket.socket], None]


def respond_always(client: socket.socket) -> None:
    while client.recv(4096):
        client.sendall(RESPONSE)


def respond(*parts: bytes, pause: float = 0) -> Behaviour:
    """Respond to one request in these parts."""

    def behave(client: socket.socket) -> None:
        client.recv(4096)
        for part in parts:
            client.sendall(part)
            time.sleep(pause)

    return behave


class FakeServer:
    """A server on loopback; each connection gets the next behaviour, later ones the last."""

    def __init__(self, certificate: Certificates | None, behaviours: list[Behaviour], pause: float) -> None:
        self.connections = 0
        self._closed = threading.Semaphore(0)
        self._behaviours = behaviours
        self._pause = pause
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate.certificate, certificate.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                behave = self._behaviours[min(self.connections, len(self._behaviours) - 1)]
                self.connections += 1
                threading.Thread(target=self._serve, args=(client, behave), daemon=True).start()

    def _serve(self, client: socket.socket, behave: Behaviour) -> None:
        with suppress(OSError), client:
            time.sleep(self._pause)
            if self._tls:
                with self._tls.wrap_socket(client, server_side=True) as wrapped:
                    behave(wrapped)
            else:
                behave(client)
        self._closed.release()

    def wait_for_close(self) -> None:
        """Wait until a connection is closed; on loopback the client then sees it at once."""
        assert self._closed.acquire(timeout=TIMEOUT_SECONDS)


@contextmanager
def serving(*behaviours: Behaviour, certificate: Certificates | None = None, pause: float = 0) -> Iterator[FakeServer]:
    """Serve connections after a pause, over TLS if there is a certificate."""
    server = FakeServer(certificate, list(behaviours), pause)
    try:
        yield server
    finally:
        server.listener.close()


@contextmanager
def connection(url: str, ca_bundle: Path | str = "") -> Iterator[Connection]:
    with closing(Connection(url, str(ca_bundle), CONNECT_SECONDS, READ_SECONDS, MAX_BODY_BYTES)) as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest, certificate: Certificates) -> Certificates | None:
    return certificate if request.param == "https" else None


def bundle(scheme: Certificates | None) -> Path | str:
    return scheme.authority if scheme else ""


def test_connection_is_reused(scheme: Certificates | None) -> None:
    with serving(respond_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        one.open()
        time.sleep(0.05)  # TLS 1.3 sends tickets after the handshake
        for _ in range(3):
            assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == 1
        assert f"http{'s' if scheme else ''}://{one.host}" == server.url


@pytest.mark.parametrize(
    "first",
    [
        respond(RESPONSE),
        respond(RESPONSE, b"HTTP/1.1 408 Request Timeout\r\n\r\n", pause=0.02),
        respond(RESPONSE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
    ],
    ids=["closed", "closed after a 408", "announced"],
)
def test_reconnects_if_closed_between_requests(scheme: Certificates | None, first: Behaviour) -> None:
    with serving(first, respond_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        assert one.exchange(REQUEST) == (200, b"{}")
        server.wait_for_close()
        assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == 2


def test_reconnects_if_closed_before_the_first_request(scheme: Certificates | None) -> None:
    """Lambda may start an environment long before its first request."""
    with (
        serving(lambda _: None, respond_always, certificate=scheme) as server,
        connection(server.url, bundle(scheme)) as one,
    ):
        one.open()
        server.wait_for_close()
        assert one.exchange(REQUEST) == (200, b"{}")


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (respond(), ConnectionResetError),
        (respond(RESPONSE[:30]), ConnectionResetError),
        (respond(RESPONSE[:-1]), ConnectionResetError),
        (respond(RESPONSE + b"more"), ResponseError),
        (respond(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ResponseError),
        (respond(b"\r\n\r\n"), ResponseError),
        (respond(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: 0_2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: \xb2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n"), ResponseError),
        (respond(b"HTTP/1.1 +20 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: identity\r\n\r\n{}"), ResponseError),
        (respond(b"HTTP/1.1 100 Continue\r\n\r\n", RESPONSE), ResponseError),
        (respond(b"x" * 70_000, b"y" * 70_000), ResponseError),
        (respond(b"HTTP/1.1 200 OK\r\n", pause=5), TimeoutError),
        (respond(b"", pause=5), TimeoutError),
        # Each byte in time, but not the whole response
        (respond(*[RESPONSE[n : n + 1] for n in range(len(RESPONSE))], pause=0.1), TimeoutError),
    ],
)
def test_invalid_response_is_an_error_and_does_not_affect_the_next(
    scheme: Certificates | None, first: Behaviour, error: type[OSError]
) -> None:
    with serving(first, respond_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        start = time.monotonic()
        with pytest.raises(error):
            one.exchange(REQUEST)
        assert time.monotonic() - start < 3
        assert one.exchange(REQUEST) == (200, b"{}")


def test_long_response_in_pieces(scheme: Certificates | None) -> None:
    body = b"x" * 500_000
    head = b"HTTP/1.1 400 Bad Request\r\nX-Other:\r\ncOnTeNt-LeNgTh:500000  \r\nConnection: keep-alive"
    pieces = [*(head[n : n + 10] for n in range(0, len(head), 10)), b"\r\n\r", b"\n" + body[:7], body[7:]]
    with (
        serving(respond(*pieces, pause=0.005), respond_always, certificate=scheme) as server,
        connection(server.url, bundle(scheme)) as one,
    ):
        assert one.exchange(REQUEST) == (400, body)


def test_request_larger_than_any_buffer(scheme: Certificates | None) -> None:
    """The server reads slowly, and the connection is not new."""
    request = REQUEST.replace(b"content-length: 2\r\n\r\n{}", b"content-length: 20000000\r\n\r\n" + b"x" * 20_000_000)

    def read_slowly(client: socket.socket) -> None:
        respond(RESPONSE)(client)
        time.sleep(0.1)
        left = len(request)
        while left:
            left -= len(client.recv(1_000_000))
        client.sendall(RESPONSE)

    with serving(read_slowly, certificate=scheme) as server:
        made = Connection(server.url, str(bundle(scheme)), CONNECT_SECONDS, 5, MAX_BODY_BYTES)
        with closing(made):
            assert made.exchange(REQUEST) == (200, b"{}")
            assert made.exchange(request) == (200, b"{}")
        assert server.connections == 1


def test_reconnects_after_an_announced_close(scheme: Certificates | None) -> None:
    """The server might close the connection only after the next request."""

    def announce_and_wait(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(RESPONSE.replace(b"\r\n\r\n", b"\r\nconnection: Close\r\n\r\n"))
        client.recv(4096)

    with (
        serving(announce_and_wait, respond_always, certificate=scheme) as server,
        connection(server.url, bundle(scheme)) as one,
    ):
        assert one.exchange(REQUEST) == (200, b"{}")
        assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == 2


def test_reconnects_if_reset_between_requests() -> None:
    def reset(client: socket.socket) -> None:
        respond(RESPONSE)(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(reset, respond_always) as server, connection(server.url) as one:
        assert one.exchange(REQUEST) == (200, b"{}")
        server.wait_for_close()
        assert one.exchange(REQUEST) == (200, b"{}")


@pytest.mark.parametrize(("url", "port"), [("http://h", 80), ("https://h", 443), ("http://h:1", 1), ("https://h:1", 1)])
def test_port_defaults_to_that_of_the_scheme(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[Any] = []

    def refuse(*address: Any, **_: Any) -> list[Any]:
        resolved.append(address)
        raise socket.gaierror

    monkeypatch.setattr("scoring.aws.connection.socket.getaddrinfo", refuse)
    with connection(url) as one, pytest.raises(socket.gaierror):
        one.open()
    assert resolved == [("h", port)]


def test_nagle_is_disabled() -> None:
    with serving(respond_always) as server, connection(server.url) as one:
        one.open()
        assert one._socket
        assert one._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def trickle(start: bytes) -> Behaviour:
    """Respond with this, then byte by byte until the client disconnects."""

    def behave(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(start)
        while True:
            client.sendall(b"x")
            time.sleep(0.0002)

    return behave


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"],
    ids=["head", "body"],
)
def test_trickling_response_times_out(scheme: Certificates | None, start: bytes) -> None:
    """Every byte arrives within the time limit of a single read."""
    with serving(trickle(start), certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        one.open()
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            one.exchange(REQUEST)
        assert READ_SECONDS <= time.monotonic() - begun < READ_SECONDS + 0.5


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that never accepts a connection, because its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(address)
            waiting.append(client)
        yield address
        for client in waiting:
            client.close()


def resolving_to(patch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Make every name resolve to these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
    patch.setattr("scoring.aws.connection.socket.getaddrinfo", lambda *_, **__: found)


def test_all_addresses_of_a_name_share_one_time_limit(silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, *[silent] * 8)
    with connection("http://many.example") as one:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            one.open()
        assert CONNECT_SECONDS * 0.9 < time.monotonic() - begun < CONNECT_SECONDS + 0.5


def test_silent_address_leaves_time_for_the_next(silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(respond_always) as server, connection(server.url) as one:
        resolving_to(monkeypatch, silent, silent, server.listener.getsockname())
        assert one.exchange(REQUEST) == (200, b"{}")


def test_name_resolution_does_not_count_towards_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(respond_always) as server, connection(server.url) as one:
        real = socket.getaddrinfo

        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(CONNECT_SECONDS + 0.2)
            return real(*arguments, **options)

        monkeypatch.setattr("scoring.aws.connection.socket.getaddrinfo", slow)
        assert one.exchange(REQUEST) == (200, b"{}")


def test_unsupported_address_family_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """``localhost`` has one on a machine without IPv6."""
    with serving(respond_always) as server, connection(server.url) as one:
        unsupported = (socket.AF_X25, socket.SOCK_STREAM, 0, "", ("::1", 1, 0, 0))
        supported = (socket.AF_INET, socket.SOCK_STREAM, 0, "", server.listener.getsockname())
        monkeypatch.setattr("scoring.aws.connection.socket.getaddrinfo", lambda *_, **__: [unsupported, supported])
        assert one.exchange(REQUEST) == (200, b"{}")


def test_handshake_gets_the_full_time_limit(certificate: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """With four addresses, connecting alone gets a quarter of it."""
    with serving(respond_always, certificate=certificate, pause=CONNECT_SECONDS * 0.6) as server:
        resolving_to(monkeypatch, *[server.listener.getsockname()] * 4)
        with connection(server.url, certificate.authority) as one:
            assert one.exchange(REQUEST) == (200, b"{}")


def test_name_without_addresses_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch)
    with connection("http://none.example") as one, pytest.raises(OSError, match="timed out"):
        one.open()


@pytest.mark.parametrize(
    ("passed", "connections"),
    [(MAX_IDLE_SECONDS - 1, 1), (MAX_IDLE_SECONDS, 2), (3600, 2), (-3600, 2)],
)
def test_idle_connection_is_reopened(
    scheme: Certificates | None, passed: float, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the wall clock, because the monotonic clock stops in a frozen environment."""
    with serving(respond_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        one.exchange(REQUEST)
        now = time.time()
        monkeypatch.setattr("scoring.aws.connection.time.time", lambda: now + passed)
        assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == connections


def test_each_request_restarts_the_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]
    monkeypatch.setattr("scoring.aws.connection.time.time", lambda: now[0])
    with serving(respond_always) as server, connection(server.url) as one:
        for _ in range(4):
            one.exchange(REQUEST)
            now[0] += MAX_IDLE_SECONDS - 1
        assert server.connections == 1


def test_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with connection(url) as one, pytest.raises(ConnectionRefusedError):
        one.exchange(REQUEST)


def test_handshake_times_out(certificate: Certificates) -> None:
    with serving(lambda _: time.sleep(5)) as server:
        url = server.url.replace("http://", "https://")
        with connection(url, certificate.authority) as one:
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                one.open()
            assert CONNECT_SECONDS * 0.9 < time.monotonic() - start < 3


def test_only_the_bundle_is_trusted(certificate: Certificates) -> None:
    with serving(respond_always, certificate=certificate) as server:
        for ca_bundle in ("", _AMAZON_ROOTS):
            with connection(server.url, ca_bundle) as one, pytest.raises(ssl.SSLCertVerificationError):
                one.exchange(REQUEST)


def test_certificate_must_match_the_host(tmp_path: Path) -> None:
    elsewhere = certificates.make(tmp_path, names=("example.com",))
    with (
        serving(respond_always, certificate=elsewhere) as server,
        connection(server.url, elsewhere.authority) as one,
        pytest.raises(ssl.SSLCertVerificationError, match="certificate is not valid for"),
    ):
        one.exchange(REQUEST)


@pytest.mark.parametrize(
    ("url", "authorities"),
    [
        ("https://dynamodb.eu-central-1.amazonaws.com", 5),
        ("https://sqs.us-gov-west-1.amazonaws.com", None),
        ("https://dynamodb.us-gov-east-1.amazonaws.com", None),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn", None),
        ("https://example.com", None),
    ],
)
def test_amazon_roots_for_its_endpoints_and_system_roots_for_others(url: str, authorities: int | None) -> None:
    with connection(url) as one:
        assert one._tls
        assert one._tls.verify_mode is ssl.CERT_REQUIRED
        assert one._tls.check_hostname
        loaded = len(one._tls.get_ca_certs())
        system = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        system.load_default_certs()
        assert loaded == (len(system.get_ca_certs()) if authorities is None else authorities)


def authorities(bundle: Path) -> tuple[set[bytes], list[dict[str, Any]]]:
    """Return the certificates of a bundle, in DER and decoded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    return set(context.get_ca_certs(binary_form=True)), context.get_ca_certs()


def test_services_share_one_tls_context() -> None:
    with connection("https://dynamodb.a.amazonaws.com") as one, connection("https://sqs.a.amazonaws.com") as other:
        assert one._tls is other._tls


def test_roots_are_those_of_amazon_in_botocore() -> None:
    ours, decoded = authorities(Path(_AMAZON_ROOTS))
    botocores, all_decoded = authorities(Path(botocore.__file__).parent / "cacert.pem")
    assert ours < botocores
    subjects = [{name: value for ((name, value),) in one["subject"]} for one in decoded]
    of_amazon = [one for one in all_decoded if ((("organizationName", "Amazon"),)) in one["subject"]]
    assert sum(subject["organizationName"] == "Amazon" for subject in subjects) == len(of_amazon) == 4
    assert "Starfield Services Root Certificate Authority - G2" in {subject["commonName"] for subject in subjects}
    for one in decoded:
        assert ssl.cert_time_to_seconds(one["notAfter"]) > time.time() + 365 * 86_400, one["subject"]
