"""The connection to AWS on real sockets: whom it trusts, how long it waits, and when it connects anew."""

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
from tests.service import TIMEOUT_SECONDS

from scoring.aws.connection import _AMAZON_ROOTS, MAX_IDLE_SECONDS, Connection, ResponseError
from tests.local import certificates
from tests.local.certificates import Certificates

REQUEST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\n{}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
# Far more than this machine needs when it is busy, and less than the tests' servers make it wait.
CONNECT_SECONDS = READ_SECONDS = 1
MAX_BODY_BYTES = 1_000_000

# Does with a client's connection what it wants to; then it is closed.
Behaviour = Callable[[socket.socket], None]


def answer_always(client: socket.socket) -> None:
    while client.recv(4096):
        client.sendall(ANSWER)


def answer(*parts: bytes, pause: float = 0) -> Behaviour:
    """Answer one request, in these parts."""

    def behave(client: socket.socket) -> None:
        client.recv(4096)
        for part in parts:
            client.sendall(part)
            time.sleep(pause)

    return behave


class Server:
    """A server on this machine; each connection is treated by the next behaviour, later ones by the last."""

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

    def wait_until_one_is_closed(self) -> None:
        """Its end has then reached the other side, which is on this machine."""
        assert self._closed.acquire(timeout=TIMEOUT_SECONDS)


@contextmanager
def serving(*behaviours: Behaviour, certificate: Certificates | None = None, pause: float = 0) -> Iterator[Server]:
    """Serve connections, each after a pause; with a certificate over TLS."""
    server = Server(certificate, list(behaviours), pause)
    try:
        yield server
    finally:
        server.listener.close()


@contextmanager
def connection(url: str, ca_bundle: Path | str = "") -> Iterator[Connection]:
    made = Connection(url, str(ca_bundle), CONNECT_SECONDS, READ_SECONDS, MAX_BODY_BYTES)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest, certificate: Certificates) -> Certificates | None:
    return certificate if request.param == "https" else None


def bundle(scheme: Certificates | None) -> Path | str:
    return scheme.authority if scheme else ""


def test_one_connection_does_for_all_requests(scheme: Certificates | None) -> None:
    with serving(answer_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        one.open()
        time.sleep(0.05)  # what TLS 1.3 sends after its handshake is no reason to connect again
        for _ in range(3):
            assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == 1
        assert f"http{'s' if scheme else ''}://{one.host}" == server.url


@pytest.mark.parametrize(
    "first",
    [
        answer(ANSWER),
        answer(ANSWER, b"HTTP/1.1 408 Request Timeout\r\n\r\n", pause=0.02),
        answer(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
    ],
    ids=["closed", "closed with a word", "announced"],
)
def test_a_connection_that_was_closed_in_between_costs_no_attempt(
    scheme: Certificates | None, first: Behaviour
) -> None:
    with serving(first, answer_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        assert one.exchange(REQUEST) == (200, b"{}")
        server.wait_until_one_is_closed()
        assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == 2


def test_so_is_one_that_was_closed_before_its_first_use(scheme: Certificates | None) -> None:
    """As that of an environment which Lambda starts long before it has a request for it."""
    with (
        serving(lambda _: None, answer_always, certificate=scheme) as server,
        connection(server.url, bundle(scheme)) as one,
    ):
        one.open()
        server.wait_until_one_is_closed()
        assert one.exchange(REQUEST) == (200, b"{}")


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (answer(), ConnectionResetError),
        (answer(ANSWER[:30]), ConnectionResetError),
        (answer(ANSWER[:-1]), ConnectionResetError),
        (answer(ANSWER + b"more"), ResponseError),
        (answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ResponseError),
        (answer(b"\r\n\r\n"), ResponseError),
        (answer(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0_2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: \xb2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n"), ResponseError),
        (answer(b"HTTP/1.1 +20 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: identity\r\n\r\n{}"), ResponseError),
        (answer(b"HTTP/1.1 100 Continue\r\n\r\n", ANSWER), ResponseError),
        (answer(b"x" * 70_000, b"y" * 70_000), ResponseError),
        (answer(b"HTTP/1.1 200 OK\r\n", pause=5), TimeoutError),
        (answer(b"", pause=5), TimeoutError),
        # Each piece in time, all of them not
        (answer(*[ANSWER[n : n + 1] for n in range(len(ANSWER))], pause=0.1), TimeoutError),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_the_next_one_is_not_taken_for_it(
    scheme: Certificates | None, first: Behaviour, error: type[OSError]
) -> None:
    with serving(first, answer_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        start = time.monotonic()
        with pytest.raises(error):
            one.exchange(REQUEST)
        assert time.monotonic() - start < 3
        assert one.exchange(REQUEST) == (200, b"{}")


def test_an_answer_may_come_in_pieces_and_be_long(scheme: Certificates | None) -> None:
    body = b"x" * 500_000
    head = b"HTTP/1.1 400 Bad Request\r\nX-Other:\r\ncOnTeNt-LeNgTh:500000  \r\nConnection: keep-alive"
    pieces = [*(head[n : n + 10] for n in range(0, len(head), 10)), b"\r\n\r", b"\n" + body[:7], body[7:]]
    with (
        serving(answer(*pieces, pause=0.005), answer_always, certificate=scheme) as server,
        connection(server.url, bundle(scheme)) as one,
    ):
        assert one.exchange(REQUEST) == (400, body)


def test_a_request_may_be_larger_than_any_buffer(scheme: Certificates | None) -> None:
    """Also where the other side takes its time to read it, and the connection is not new."""
    request = REQUEST.replace(b"content-length: 2\r\n\r\n{}", b"content-length: 20000000\r\n\r\n" + b"x" * 20_000_000)

    def read_slowly(client: socket.socket) -> None:
        answer(ANSWER)(client)
        time.sleep(0.1)
        left = len(request)
        while left:
            left -= len(client.recv(1_000_000))
        client.sendall(ANSWER)

    with serving(read_slowly, certificate=scheme) as server:
        made = Connection(server.url, str(bundle(scheme)), CONNECT_SECONDS, 5, MAX_BODY_BYTES)
        with closing(made):
            assert made.exchange(REQUEST) == (200, b"{}")
            assert made.exchange(request) == (200, b"{}")
        assert server.connections == 1


def test_a_connection_whose_end_was_announced_is_given_up_at_once(scheme: Certificates | None) -> None:
    """Since what announced it may close it only after the next request was sent."""

    def announce_and_wait(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: Close\r\n\r\n"))
        client.recv(4096)

    with (
        serving(announce_and_wait, answer_always, certificate=scheme) as server,
        connection(server.url, bundle(scheme)) as one,
    ):
        assert one.exchange(REQUEST) == (200, b"{}")
        assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == 2


def test_a_connection_that_was_reset_in_between_costs_no_attempt() -> None:
    def reset(client: socket.socket) -> None:
        answer(ANSWER)(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(reset, answer_always) as server, connection(server.url) as one:
        assert one.exchange(REQUEST) == (200, b"{}")
        server.wait_until_one_is_closed()
        assert one.exchange(REQUEST) == (200, b"{}")


@pytest.mark.parametrize(("url", "port"), [("http://h", 80), ("https://h", 443), ("http://h:1", 1), ("https://h:1", 1)])
def test_the_port_is_that_of_the_scheme_where_none_is_given(
    url: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def refuse(*address: Any, **_: Any) -> list[Any]:
        asked.append(address)
        raise socket.gaierror

    monkeypatch.setattr("scoring.aws.connection.socket.getaddrinfo", refuse)
    with connection(url) as one, pytest.raises(socket.gaierror):
        one.open()
    assert asked == [("h", port)]


def test_nothing_is_held_back_until_something_else_is_acknowledged() -> None:
    with serving(answer_always) as server, connection(server.url) as one:
        one.open()
        assert one._socket
        assert one._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def trickle(start: bytes) -> Behaviour:
    """Answer with this, then byte by byte for as long as the client listens."""

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
def test_response_that_trickles_is_given_up_in_time(scheme: Certificates | None, start: bytes) -> None:
    """Even where the next byte always comes within the shortest wait."""
    with serving(trickle(start), certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        one.open()
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            one.exchange(REQUEST)
        assert READ_SECONDS <= time.monotonic() - begun < READ_SECONDS + 0.5


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address whose connections are never accepted: its queue is full."""
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
    """Have every name resolve to these addresses."""
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
    with serving(answer_always) as server, connection(server.url) as one:
        resolving_to(monkeypatch, silent, silent, server.listener.getsockname())
        assert one.exchange(REQUEST) == (200, b"{}")


def test_slow_name_resolution_takes_nothing_of_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer_always) as server, connection(server.url) as one:
        real = socket.getaddrinfo

        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(CONNECT_SECONDS + 0.2)
            return real(*arguments, **options)

        monkeypatch.setattr("scoring.aws.connection.socket.getaddrinfo", slow)
        assert one.exchange(REQUEST) == (200, b"{}")


def test_address_of_a_family_that_is_not_supported_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``localhost`` on a machine without IPv6."""
    with serving(answer_always) as server, connection(server.url) as one:
        unsupported = (socket.AF_X25, socket.SOCK_STREAM, 0, "", ("::1", 1, 0, 0))
        supported = (socket.AF_INET, socket.SOCK_STREAM, 0, "", server.listener.getsockname())
        monkeypatch.setattr("scoring.aws.connection.socket.getaddrinfo", lambda *_, **__: [unsupported, supported])
        assert one.exchange(REQUEST) == (200, b"{}")


def test_handshake_has_the_whole_limit_however_many_addresses_there_are(
    certificate: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last address left a fraction of it for the connection alone."""
    with serving(answer_always, certificate=certificate, pause=CONNECT_SECONDS * 0.6) as server:
        resolving_to(monkeypatch, *[server.listener.getsockname()] * 4)
        with connection(server.url, certificate.authority) as one:
            assert one.exchange(REQUEST) == (200, b"{}")


def test_name_without_address_is_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch)
    with connection("http://none.example") as one, pytest.raises(OSError, match="timed out"):
        one.open()


@pytest.mark.parametrize(
    ("passed", "connections"),
    [(MAX_IDLE_SECONDS - 1, 1), (MAX_IDLE_SECONDS, 2), (3600, 2), (-3600, 2)],
)
def test_connection_that_was_idle_for_long_is_opened_anew(
    scheme: Certificates | None, passed: float, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the wall clock alone: the monotonic one stands still in a frozen environment."""
    with serving(answer_always, certificate=scheme) as server, connection(server.url, bundle(scheme)) as one:
        one.exchange(REQUEST)
        now = time.time()
        monkeypatch.setattr("scoring.aws.connection.time.time", lambda: now + passed)
        assert one.exchange(REQUEST) == (200, b"{}")
        assert server.connections == connections


def test_each_use_keeps_a_connection_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]
    monkeypatch.setattr("scoring.aws.connection.time.time", lambda: now[0])
    with serving(answer_always) as server, connection(server.url) as one:
        for _ in range(4):
            one.exchange(REQUEST)
            now[0] += MAX_IDLE_SECONDS - 1
        assert server.connections == 1


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with connection(url) as one, pytest.raises(ConnectionRefusedError):
        one.exchange(REQUEST)


def test_a_handshake_that_is_not_answered_is_not_waited_for(certificate: Certificates) -> None:
    with serving(lambda _: time.sleep(5)) as server:
        url = server.url.replace("http://", "https://")
        with connection(url, certificate.authority) as one:
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                one.open()
            assert CONNECT_SECONDS * 0.9 < time.monotonic() - start < 3


def test_only_the_authorities_of_the_bundle_are_trusted(certificate: Certificates) -> None:
    with serving(answer_always, certificate=certificate) as server:
        for ca_bundle in ("", _AMAZON_ROOTS):
            with connection(server.url, ca_bundle) as one, pytest.raises(ssl.SSLCertVerificationError):
                one.exchange(REQUEST)


def test_a_certificate_is_for_the_name_that_was_called(tmp_path: Path) -> None:
    elsewhere = certificates.make(tmp_path, names=("example.com",))
    with (
        serving(answer_always, certificate=elsewhere) as server,
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
def test_amazon_vouches_for_its_endpoints_and_the_system_for_all_others(url: str, authorities: int | None) -> None:
    with connection(url) as one:
        assert one._tls
        assert one._tls.verify_mode is ssl.CERT_REQUIRED
        assert one._tls.check_hostname
        loaded = len(one._tls.get_ca_certs())
        system = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        system.load_default_certs()
        assert loaded == (len(system.get_ca_certs()) if authorities is None else authorities)


def authorities(bundle: Path) -> tuple[set[bytes], list[dict[str, Any]]]:
    """The certificates of a bundle: all of each, and what stands in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    return set(context.get_ca_certs(binary_form=True)), context.get_ca_certs()


def test_the_authorities_are_read_once_for_both_services() -> None:
    with connection("https://dynamodb.a.amazonaws.com") as one, connection("https://sqs.a.amazonaws.com") as other:
        assert one._tls is other._tls


def test_the_roots_are_all_of_amazon_that_botocore_ships() -> None:
    ours, told = authorities(Path(_AMAZON_ROOTS))
    theirs, all_of_them = authorities(Path(botocore.__file__).parent / "cacert.pem")
    assert ours < theirs
    subjects = [{name: value for ((name, value),) in one["subject"]} for one in told]
    of_amazon = [one for one in all_of_them if ((("organizationName", "Amazon"),)) in one["subject"]]
    assert sum(subject["organizationName"] == "Amazon" for subject in subjects) == len(of_amazon) == 4
    assert "Starfield Services Root Certificate Authority - G2" in {subject["commonName"] for subject in subjects}
    for one in told:
        assert ssl.cert_time_to_seconds(one["notAfter"]) > time.time() + 365 * 86_400, one["subject"]
