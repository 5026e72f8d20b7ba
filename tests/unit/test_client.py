"""The client of AWS services: requests, endpoints, limits and errors. Retries are tested in ``test_retries``."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from scoring.aws import client
from scoring.errors import CallFailed
from scoring.ledger import outbox, reader, writer
from tests.rule_set import decide
from tests.unit.conftest import NO_DEADLINE
from tests.unit.fakes import FakeConnection, connected_client


def test_call_is_one_signed_request() -> None:
    dynamodb, connection = connected_client((200, b'{"Item": {}}'))
    assert dynamodb.call("GetItem", {"TableName": "T", "Key": {"id": {"S": "é"}}}) == {"Item": {}}
    (request,) = connection.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert json.loads(body) == {"TableName": "T", "Key": {"id": {"S": "é"}}}
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST / HTTP/1.1"
    assert headers["host"] == "dynamodb.example"
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert int(headers["content-length"]) == len(body)
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=local/")


def test_request_is_dated_in_utc(not_utc: None) -> None:
    dynamodb, connection = connected_client((200, b"{}"))
    dynamodb.call("GetItem", {})
    (date,) = re.findall(rb"x-amz-date: (\w+)", connection.requests[0])
    now = datetime.strptime(date.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(now.timestamp() - time.time()) < 60


DECISION = decide({"amount": 1}, "k1")
NO_COUNTERS: dict[str, Any] = {"Responses": {"StatsTable": []}, "UnprocessedKeys": {}}


@pytest.mark.parametrize(
    ("use", "response", "service", "target", "max_response_bytes", "opened"),
    [
        (
            lambda: writer.connect().record([DECISION], NO_DEADLINE),
            {},
            "dynamodb",
            "DynamoDB_20120810.TransactWriteItems",
            16 * 1024 * 1024,
            1,
        ),
        (
            lambda: reader.connect().totals(NO_DEADLINE),
            NO_COUNTERS,
            "dynamodb",
            "DynamoDB_20120810.BatchGetItem",
            16 * 1024 * 1024,
            1,
        ),
        # Most invocations never need the outbox, so it is not connected ahead of the first call.
        (
            lambda: outbox.connect().send([DECISION], NO_DEADLINE),
            {"Successful": [{"Id": "0", "MessageId": "m"}]},
            "sqs",
            "AmazonSQS.SendMessageBatch",
            1024 * 1024,
            0,
        ),
    ],
    ids=["writer", "reader", "outbox"],
)
def test_endpoint_and_limits(
    use: Callable[[], Any],
    response: Any,
    service: str,
    target: str,
    max_response_bytes: int,
    opened: int,
    function_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections: list[Any] = []

    class UnopenedConnection(FakeConnection):
        def __init__(self, *arguments: Any) -> None:
            super().__init__((200, json.dumps(response).encode()))
            self.arguments = arguments
            self.opened = 0
            connections.append(self)

        def open(self) -> None:
            self.opened += 1
            raise TimeoutError  # must not keep the function from starting

    monkeypatch.setattr(client, "Connection", UnopenedConnection)
    monkeypatch.setenv("AWS_CA_BUNDLE", "/bundle.pem")
    for name in ("DYNAMODB", "SQS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", f"http://{name.lower()}.example")
    use()
    (connection,) = connections
    assert connection.arguments == (f"http://{service}.example", "/bundle.pem", 0.2, 1, max_response_bytes)
    assert connection.opened == opened
    head = connection.requests[0].decode()
    assert f"x-amz-target: {target}\r\n" in head
    assert f"/us-east-1/{service}/aws4_request" in head


def test_deeply_nested_response_is_a_failed_call() -> None:
    dynamodb, _ = connected_client((200, b"[" * 100_000))
    with pytest.raises(CallFailed, match="HTTP 200"):
        dynamodb.call("GetItem", {})


def test_failed_call_keeps_the_response() -> None:
    response = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict"}],
    }
    dynamodb, _ = connected_client((400, json.dumps(response).encode()))
    with pytest.raises(CallFailed) as caught:
        dynamodb.call("TransactWriteItems", {})
    assert caught.value.response == response


def test_maximum_duration_of_a_call() -> None:
    # Two attempts, each with a TCP connection, a TLS handshake and an exchange, and the longest back-off between them.
    assert pytest.approx(0.2 + 0.2 + 1 + 1 + 0.2 + 0.2 + 1) == client.CALL_SECONDS
    # The function has ten seconds for the ledger and the outbox, one after the other.
    assert 2 * client.CALL_SECONDS < 9
