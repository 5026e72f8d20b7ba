"""The corpus over HTTP, each request byte for byte as it stands there."""

import http.client
import json
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.corpus import ANSWER_HEADERS, CASES, INJECTED, SERVER_HEADERS, Case
from tests.integration.service import TIMEOUT_SECONDS, Service


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def send(url: str, case: Case) -> Answer:
    """What comes back for the bytes of the case, which no HTTP client is asked to make presentable."""
    address = urlsplit(url)
    assert address.hostname
    with socket.create_connection((address.hostname, address.port or 80), TIMEOUT_SECONDS) as connection:
        connection.sendall(_request(case, address.netloc))
        response = http.client.HTTPResponse(connection, method=case.method)
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())


def _request(case: Case, host: str) -> bytes:
    headers = [("Host", host), *case.headers, ("Connection", "close")]
    if case.body or case.method == "POST":
        headers.append(("Content-Length", str(len(case.body))))
    head = f"{case.method} {case.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    return head.encode("latin-1") + b"\r\n" + case.body


def _decisions(log: str) -> list[str]:
    """The decisions that a log tells of; lines of the server, which tell of requests, are no JSON."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if json.loads(line).get("message") == "decision"]


@pytest.mark.parametrize("case", [case for case in CASES if not case.only_event], ids=lambda case: case.name)
def test_a_case(service: Service, case: Case) -> None:
    before, printed = service.stats(), service.log.read_text() if service.log else ""
    answer = send(service.url, case)
    after, log = service.stats(), service.log.read_text().removeprefix(printed) if service.log else ""

    assert answer.status == case.status, answer.body
    names = [name for name, _ in answer.headers]
    assert len(names) == len(set(names))
    assert set(names) <= ANSWER_HEADERS | SERVER_HEADERS
    assert ("Allow" in names) == (case.status == 405)
    assert INJECTED not in str(answer.headers)
    if case.method == "HEAD":
        assert answer.body == b""
    elif case.error is not None:
        assert json.loads(answer.body) == {"error": case.error}
    elif isinstance(case.expected, str):
        assert answer.body.decode() == case.expected
    else:
        assert json.loads(answer.body).items() >= case.expected.items()

    moved = {level: after["by_risk_level"][level] - count for level, count in before["by_risk_level"].items()}
    level = case.expected.get("risk_level") if case.counted and not isinstance(case.expected, str) else None
    assert moved == {name: int(name == level) for name in moved}
    assert "Traceback" not in log
    if service.log:
        decisions = _decisions(log)
        assert len(decisions) == case.counted
        assert INJECTED not in str(decisions)
