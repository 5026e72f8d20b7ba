"""Sending a request of the corpus over HTTP, and judging what comes back."""

import http.client
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.corpus import ANSWER_HEADERS, INJECTED, SERVER_HEADERS, Case
from tests.integration.service import TIMEOUT_SECONDS

# (method, address, body) -> the headers that say who sends it
Sign = Callable[[str, str, bytes], Mapping[str, str]]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def send(url: str, case: Case, sign: Sign | None = None) -> Answer:
    """What comes back for the bytes of the case, which no HTTP client is asked to make presentable."""
    address = urlsplit(url)
    assert address.hostname
    signature = sign(case.method, url + case.path, case.body) if sign else {}
    with socket.create_connection((address.hostname, address.port or 80), TIMEOUT_SECONDS) as connection:
        connection.sendall(_request(case, address.netloc, address.path, signature))
        response = http.client.HTTPResponse(connection, method=case.method)
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())


def _request(case: Case, host: str, prefix: str, signature: Mapping[str, str]) -> bytes:
    headers = [("Host", host), *case.headers, *signature.items(), ("Connection", "close")]
    if case.body or case.method == "POST":
        headers.append(("Content-Length", str(len(case.body))))
    lines = [f"{case.method} {prefix}{case.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + case.body


def check(answer: Answer, case: Case, server_headers: set[str] = SERVER_HEADERS) -> None:
    """Fail where the answer is not the one of the case, or has headers that neither functions nor server send."""
    assert answer.status == case.status, answer.body
    names = [name for name, _ in answer.headers]
    assert len(names) == len(set(names))
    assert set(names) - ANSWER_HEADERS <= server_headers
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


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """By how much the counters of the risk levels changed, where they did."""
    counts = {level: after["by_risk_level"][level] - count for level, count in before["by_risk_level"].items()}
    return {level: count for level, count in counts.items() if count}


def decisions(log: str) -> list[str]:
    """The decisions in a log of the local stack that was started with ``--logs json``, or of a deployed function."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if json.loads(line).get("message") == "decision"]
