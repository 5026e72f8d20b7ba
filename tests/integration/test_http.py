"""Malformed and unusual HTTP requests: `make run` responds in JSON and keeps serving."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from urllib.parse import urlsplit

import pytest

from tests.rule_set import assess
from tests.sending import RawResponse, read_response
from tests.service import TIMEOUT_SECONDS, LocalStack

SCORE = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"
BODY = b'{"amount": 1}'
CHUNKED = SCORE + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n"
CHUNK_HEADER = "Illegal chunk header"
CLOSED = "Peer unexpectedly closed connection"


def score(*headers: bytes, body: bytes = BODY) -> bytes:
    """Return a request to /score with these headers in addition to the content type."""
    return SCORE + b"".join(header + END for header in headers) + END + body


def get(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (method, target, b"".join(header + END for header in headers))


def sized_head(size: int) -> bytes:
    """Return a request line and headers of this many bytes."""
    head = score(LENGTH, b"X: ", body=b"")
    return head.replace(b"X: ", b"X: " + b"x" * (size - len(head)))


LENGTH = b"Content-Length: 13"

REFUSED = {
    # Bodies
    "a chunk size that is not a number": (CHUNKED + b"zz\r\n" + BODY, 400, CHUNK_HEADER),
    "a negative chunk size": (CHUNKED + b"-5\r\n" + BODY, 400, CHUNK_HEADER),
    "a chunk longer than its size": (CHUNKED + b"5\r\n" + BODY + b"\r\n0\r\n\r\n", 400, "Malformed chunk footer"),
    "an endless chunk size": (CHUNKED + b"0" * 2000, 400, CLOSED),
    "a chunk size of 20 KB": (CHUNKED + b"0" * 20_000, 431, "10240 bytes"),
    "a chunked body without its end": (CHUNKED + b"d\r\n" + BODY + END, 400, "without sending complete message body"),
    "a chunk cut short": (CHUNKED + b"d\r\n" + BODY[:5], 400, "without sending complete message body"),
    "chunks of 10 MB and more": (CHUNKED + b"a00001\r\n" + bytes(10_485_761), 413, "larger than 10485760 bytes"),
    "a body cut short": (score(b"Content-Length: 50"), 400, "(received 13 bytes, expected 50)"),
    "a body of 10 MB and more": (score(b"Content-Length: 10485761"), 413, "larger than 10485760 bytes"),
    "a length of 5,000 digits": (score(b"Content-Length: " + b"9" * 5000), 400, "Bad Content-Length"),
    "a negative length": (score(b"Content-Length: -5"), 400, "Bad Content-Length"),
    "a length that is not a number": (score(b"Content-Length: 1_3"), 400, "Bad Content-Length"),
    "a length beyond ASCII": (score("Content-Length: ²".encode("latin-1")), 400, "Bad Content-Length"),
    "two lengths": (score(LENGTH, b"Content-Length: 5"), 400, "Conflicting Content-Length headers"),
    "a length and invalid chunks": (
        score(LENGTH, b"Transfer-Encoding: chunked", body=BODY + END),
        400,
        CHUNK_HEADER,
    ),
    "an unknown transfer coding": (
        score(b"Transfer-Encoding: gzip"),
        501,
        "Only Transfer-Encoding: chunked is supported",
    ),
    "two transfer codings": (
        score(b"Transfer-Encoding: gzip, chunked"),
        501,
        "Only Transfer-Encoding: chunked is supported",
    ),
    # Headers
    "headers of 20 KB": (get(b"/health", *[b"X-%d: %b" % (n, b"x" * 200) for n in range(100)]), 431, "10240 bytes"),
    "headers of one byte too many": (sized_head(10_241), 431, "10240 bytes"),
    "a header of 70 KB": (get(b"/health", b"X: " + b"x" * 70_000), 431, "10240 bytes"),
    "a lone CR in a header": (get(b"/health", b"X: a\rContent-Length: 5"), 400, "Illegal header line"),
    "a NUL in a header": (get(b"/health", b"X: a\0b"), 400, "Illegal header line"),
    "a header without a colon": (get(b"/health", b"X"), 400, "Illegal header line"),
    "a space before the colon": (score(b"Content-Length : 13"), 400, "Illegal header line"),
    "a continuation line before any header": (
        b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
        400,
        "Continuation line at start of headers",
    ),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host: header"),
    "two hosts": (get(b"/health", b"Host: y"), 400, "Found multiple Host: headers"),
    "headers without end": (HEALTH, 400, CLOSED),
    # Request lines
    "an empty line": (b"\r\n\r\n", 400, "request line"),
    "one word": (b"HELLO\r\n\r\n", 400, "request line"),
    "four words": (b"GET / a HTTP/1.1\r\n\r\n", 400, "request line"),
    "half a line": (b"GET /hea", 400, CLOSED),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400, "request line"),
    "HTTP/x": (b"GET /health HTTP/x\r\nHost: x\r\n\r\n", 400, "request line"),
    "HTTP/3 with a host": (HEALTH.replace(b"1.1", b"3.0") + END, 505, "HTTP/1.1"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(100), 400, "http://"),
    "a path of 70 KB": (get(b"/" + b"x" * 70_000), 431, "10240 bytes"),
    "a raw NUL in the path": (get(b"/transaction/\0"), 400, "request line"),
    "a byte beyond ASCII in the path": (get(b"/transaction/\xff"), 400, "request line"),
    "an invalid method": (get(b"/health", method=b"G{}T"), 400, "request line"),
    "a path without a slash": (get(b"health"), 400, "must be a path"),
    "a fragment": (get(b"/health#x"), 400, "must be a path"),
    "CONNECT": (get(b"x:443", method=b"CONNECT"), 400, "must be a path"),
    "OPTIONS *": (get(b"*", method=b"OPTIONS"), 400, "must be a path"),
    # Rejected by the functions
    "a duplicate slash": (b"POST //score" + score(LENGTH).removeprefix(b"POST /score"), 404, "'//score'"),
    "slashes only": (get(b"//"), 404, "'//'"),
    "TRACE": (get(b"/score", method=b"TRACE"), 405, "TRACE"),
    "a NUL in the path": (get(b"/transaction/%00"), 400, "'tx_id'"),
    "an invalid percent escape": (get(b"/transaction/%zz"), 404, "'%zz'"),
    "an escape that is not UTF-8": (get(b"/transaction/%ff"), 404, "stored"),
    "a folded length": (score(b"Content-Length: 1", b" 3"), 400, "Bad Content-Length"),
}

SERVED = {
    "chunks": CHUNKED + b'5;x="y"\r\n{"amo\r\n8\r\nunt": 1}\r\n0\r\nTrailer: x\r\n\r\n',
    "headers of the maximum size": sized_head(10_240) + BODY,
    "the same length twice": score(LENGTH, LENGTH),
    "a length beside chunks": score(
        b"Content-Length: 99999999", b"Transfer-Encoding: chunked", body=b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
    ),
    "150 headers": score(LENGTH, *[b"X-%d: x" % number for number in range(150)]),
    "a tenant id, which SAM CLI parses": score(LENGTH, b"X-Amz-Tenant-Id: x"),
    "an upgrade to a WebSocket": score(LENGTH, b"Connection: Upgrade", b"Upgrade: websocket"),
    "lines that end in LF": score(LENGTH).replace(END, b"\n"),
    "HTTP/1.0": score(LENGTH).replace(b"HTTP/1.1\r\nHost: x", b"HTTP/1.0"),
    "an absolute URL in place of the path": score(LENGTH).replace(b"/score", b"http://[/score"),
    "an invalid host": score(LENGTH).replace(b"Host: x", b"Host: a b:abc"),
    "malformed cookies": score(LENGTH, b"Cookie: \xff=;;;=a"),
    "bytes after the body": score(LENGTH, body=BODY + b"GET / HTTP/1.1\r\n\r\n"),
}


@pytest.fixture(autouse=True)
def still_serving(service: LocalStack) -> Iterator[None]:
    """Fail the test if the server printed a traceback or stopped serving."""
    before = len(service.log.read_text())
    yield
    assert service.get("/health").status_code == 200
    assert "Traceback" not in service.log.read_text()[before:]


def connect(service: LocalStack) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname or "", address.port or 80), TIMEOUT_SECONDS)


def send(service: LocalStack, request: bytes) -> RawResponse:
    """Send these bytes, close the sending side and read one response."""
    with connect(service) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return read_response(connection)


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_request_gets_a_json_error(service: LocalStack, name: str) -> None:
    request, status, words = REFUSED[name]
    response = send(service, request)
    assert (response.status, dict(response.headers)["Content-Type"]) == (status, "application/json")
    body = json.loads(response.body)
    assert list(body) == ["error"]
    assert words in body["error"]


@pytest.mark.parametrize("name", SERVED)
def test_unusual_valid_request_is_served(service: LocalStack, name: str) -> None:
    response = send(service, SERVED[name])
    assert response.status == 200
    assert json.loads(response.body).items() >= assess(json.loads(BODY)).items()


def test_sends_100_continue_once_if_expected(service: LocalStack) -> None:
    with connect(service) as connection:
        connection.sendall(score(LENGTH, b"Expect: 100-continue", body=b""))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_client_still_sending_reads_the_error(service: LocalStack) -> None:
    with connect(service) as connection:
        connection.sendall(score(b"Content-Length: 20000000", body=b""))
        connection.sendall(bytes(1_000_000))
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("request_", [b"", b"GET", HEALTH, score(b"Content-Length: 50"), CHUNKED, score(LENGTH)])
def test_client_disconnect_is_not_an_error(service: LocalStack, request_: bytes) -> None:
    for _ in range(5):
        with connect(service) as connection:
            # Close with a reset, possibly while the server writes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.sendall(request_)
            time.sleep(0.01)


def test_mutated_requests_never_cause_an_error(service: LocalStack) -> None:
    random = Random(0)
    for _ in range(300):
        request = mutated(random, random.choice([*SERVED.values(), HEALTH + END]))
        response = send(service, request)
        assert response.status in {200, *range(400, 500), 501, 505}, request
        if response.status != 200:
            assert json.loads(response.body).keys() == {"error"}, request


def mutated(random: Random, request: bytes) -> bytes:
    """Return the request with up to three pieces removed, repeated or replaced; never empty."""
    pieces = [b"\0", b"\n", b"\r", END, b" ", b":", b",", b"/", b"#", b"%", b"\xff", b"9", b"HTTP/1.1", b"chunked"]
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(request))
        end = start + random.choice([0, 1, 2, 10, 1000])
        middle = random.choice([b"", request[start:end] * 2, random.choice(pieces), random.randbytes(3)])
        request = request[:start] + middle + request[end:]
    return request or b"x"


def test_silent_clients_do_not_block_others(service: LocalStack) -> None:
    connections = [connect(service) for _ in range(50)]
    try:
        for connection in connections[::2]:
            connection.sendall(score(b"Content-Length: 50"))
        start = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            assert {response.status for response in pool.map(send, [service] * 8, [score(LENGTH)] * 8)} == {200}
        assert time.monotonic() - start < 5
    finally:
        for connection in connections:
            connection.close()
