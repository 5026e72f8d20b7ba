"""Queue: chunks, confirmations, refused messages, deadlines."""

import time
from typing import Any

import pytest

from scoring.aws.client import CALL_SECONDS
from scoring.aws.queue import MAX_BYTES, Queue
from scoring.errors import CallFailed
from tests.unit.conftest import NO_DEADLINE
from tests.unit.fakes import FakeClient, MotoClient


def confirmed(*ids: int) -> dict[str, Any]:
    return {"Successful": [{"Id": str(number), "MessageId": f"m{number}"} for number in ids]}


def refused(**codes: str) -> dict[str, Any]:
    return {"Failed": [{"Id": name.removeprefix("id"), "Code": code} for name, code in codes.items()]}


def sent(client: FakeClient) -> list[list[str]]:
    """Return the ids of the entries of each call."""
    return [[entry["Id"] for entry in call["Entries"]] for call in client.calls]


def test_messages_arrive(sqs: Any) -> None:
    messages = [f"message {number}" for number in range(25)]
    assert Queue(MotoClient(sqs), "OutboxQueue").send(messages, NO_DEADLINE) == [None] * 25
    received: list[str] = []
    while batch := sqs.receive_message(QueueUrl="OutboxQueue", MaxNumberOfMessages=10).get("Messages"):
        received.extend(message["Body"] for message in batch)
    assert sorted(received) == sorted(messages)


def test_no_messages_make_no_call() -> None:
    assert Queue(FakeClient(), "OutboxQueue").send([], NO_DEADLINE) == []


def test_call_stays_within_the_size_limit() -> None:
    client = FakeClient(confirmed(0), confirmed(1, 2))
    messages = ["x" * (MAX_BYTES - 1), "y" * (MAX_BYTES // 2), "z" * (MAX_BYTES // 2)]
    assert Queue(client, "OutboxQueue").send(messages, NO_DEADLINE) == [None] * 3
    assert sent(client) == [["0"], ["1", "2"]]


def test_refused_message_is_sent_once_more() -> None:
    client = FakeClient({**confirmed(0, 2), **refused(id1="InternalError")}, confirmed(1))
    assert Queue(client, "OutboxQueue").send(["a", "b", "c"], NO_DEADLINE) == [None] * 3
    assert sent(client) == [["0", "1", "2"], ["1"]]


def test_message_refused_twice_has_the_last_reason() -> None:
    client = FakeClient({**confirmed(1), **refused(id0="InternalError")}, refused(id0="Throttled"))
    assert Queue(client, "OutboxQueue").send(["a", "b"], NO_DEADLINE) == ["Throttled", None]


def test_confirmed_messages_stay_confirmed_if_the_second_attempt_fails() -> None:
    client = FakeClient({**confirmed(*range(9)), **refused(id9="InternalError")}, CallFailed("TimeoutError"))
    assert Queue(client, "OutboxQueue").send(["x"] * 15, NO_DEADLINE) == [None] * 9 + ["TimeoutError"] * 6
    assert len(client.calls) == 2


@pytest.mark.parametrize("error", [CallFailed("ConnectionRefusedError"), CallFailed("RequestThrottled", 403)], ids=str)
def test_nothing_is_sent_after_a_failed_call(error: CallFailed) -> None:
    client = FakeClient(confirmed(*range(10)), error)
    reasons = Queue(client, "OutboxQueue").send(["x"] * 35, NO_DEADLINE)
    assert reasons == [None] * 10 + [error.reason] * 25
    assert len(client.calls) == 2


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"message": "Welcome"},
        {"Successful": "0"},
        {"Successful": ["0"]},
        {"Successful": [{"Id": "0"}]},
        {"Successful": [{"Id": "0", "MessageId": None}]},
        {"Successful": [{"Id": 0, "MessageId": "m"}]},
        {"Successful": [{"Id": "1", "MessageId": "m"}]},
        {"Failed": 5},
    ],
    ids=str,
)
def test_unexpected_response_does_not_confirm(response: dict[str, Any]) -> None:
    assert Queue(FakeClient(response, response), "OutboxQueue").send(["x"], NO_DEADLINE) == ["UnexpectedResponse"]


def test_send_respects_the_deadline() -> None:
    client = FakeClient()
    assert Queue(client, "OutboxQueue").send(["x"], time.monotonic() + CALL_SECONDS - 0.01) == ["NoTimeLeft"]
    assert client.calls == []
