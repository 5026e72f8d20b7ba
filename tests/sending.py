"""Send the corpus over HTTP and check the responses."""

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.corpus import INJECTED, RESPONSE_HEADERS, SERVER_HEADERS, Case
from tests.service import TIMEOUT_SECONDS, RunningService


class RawResponse(NamedTuple):
    """A response as it was sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def send(service: RunningService, case: Case) -> RawResponse:
    """Send a case byte for byte, which HTTP clients would normalize or refuse."""
    address = urlsplit(service.url)
    assert address.hostname
    signature = service.auth.sign(case.method, service.url + case.path, case.body) if service.auth else {}
    with socket.create_connection((address.hostname, address.port or 80), TIMEOUT_SECONDS) as connection:
        connection.sendall(_request(case, address.netloc, address.path, signature))
        return read_response(connection, case.method)


def read_response(connection: socket.socket, method: str = "GET") -> RawResponse:
    """Read one HTTP response."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return RawResponse(response.status, response.getheaders(), response.read())


def _request(case: Case, host: str, prefix: str, signature: Mapping[str, str]) -> bytes:
    headers = [("Host", host), *case.headers, *signature.items(), ("Connection", "close")]
    if case.body or case.method == "POST":
        headers.append(("Content-Length", str(len(case.body))))
    lines = [f"{case.method} {prefix}{case.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + case.body


def check(response: RawResponse, case: Case, server_headers: set[str] = SERVER_HEADERS) -> None:
    """Fail unless the response is the expected one and every header comes from a function or the server."""
    assert response.status == case.status, response.body
    names = [name for name, _ in response.headers]
    assert len(names) == len(set(names))
    assert set(names) - RESPONSE_HEADERS <= server_headers
    assert ("Allow" in names) == (case.status == 405)
    assert INJECTED not in str(response.headers)
    if case.method == "HEAD":
        assert response.body == b""
    elif case.error is not None:
        assert json.loads(response.body) == {"error": case.error}
    elif isinstance(case.expected, str):
        assert response.body.decode() == case.expected
    else:
        assert case.compared(json.loads(response.body)) == case.expected


def level_changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Return the change of each risk level's counter, without zeros."""
    counts = {level: after["by_risk_level"][level] - count for level, count in before["by_risk_level"].items()}
    return {level: count for level, count in counts.items() if count}


def decisions(log: str) -> list[str]:
    """Return the decisions in a JSON log of the local stack or of a deployed function."""
    lines = [line for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if json.loads(line).get("message") == "decision"]
