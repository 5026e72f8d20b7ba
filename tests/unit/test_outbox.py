"""Outbox: send decisions, encode and decode messages."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import strict_json
from scoring.aws.queue import Queue
from scoring.errors import CallFailed, InvalidMessage, InvalidRequest, StoreUnavailable
from scoring.ledger.outbox import Outbox, connect, decode, encode
from tests.rule_set import decide
from tests.unit.conftest import NO_DEADLINE
from tests.unit.fakes import FakeClient

CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}


@pytest.fixture
def outbox(sqs: Any) -> Outbox:
    return connect()


def test_send(outbox: Outbox, sqs: Any) -> None:
    decision = decide(CRITICAL, "k1")
    assert outbox.send([decision], NO_DEADLINE) == [None]
    (message,) = sqs.receive_message(QueueUrl="OutboxQueue")["Messages"]
    assert decode(message["Body"]) == decision


@given(
    amount=st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 10**300),
    texts=st.fixed_dictionaries(
        {}, optional={name: st.text(min_size=1, max_size=40) for name in ("tx_id", "category", "store")}
    ),
)
def test_decode_returns_the_encoded_decision(amount: float, texts: dict[str, str]) -> None:
    try:
        decision = decide({"amount": amount, **texts}, "k1")
    except InvalidRequest:
        return
    message = encode(decision)
    assert message.isascii()
    assert decode(message) == decision


@pytest.mark.parametrize("character", ["x", "é", "🂡", "\x7f", "\\u0001", "\\uffff", '\\"'])
def test_largest_request_fits_into_a_message(character: str) -> None:
    size = 64 * 1024 - 200
    text = character * (size // len(character.encode()))
    decision = decide(strict_json.parse(f'{{"amount": 1, "tx_id": "{"🂡" * 40}", "store": "{text}"}}'), "k" * 128)
    assert len(encode(decision)) < 400 * 1024


def test_error_names_the_first_decision_of_an_outage_once(log: io.StringIO) -> None:
    """Only the first call is made."""
    outbox = Outbox(Queue(FakeClient(CallFailed("ConnectionRefusedError")), "OutboxQueue"))
    errors = outbox.send([decide(CRITICAL, f"k{number}") for number in range(25)], NO_DEADLINE)
    assert [type(error) for error in errors] == [StoreUnavailable] * 25
    line = json.loads(log.getvalue())
    assert (line["level"], line["message"], line["decision_id"]) == ("ERROR", "outbox unavailable", "k0")
    assert line["reason"] == "ConnectionRefusedError"


def test_decisions_that_sqs_refuses_are_errors(log: io.StringIO) -> None:
    refused = {"Successful": [{"Id": "0", "MessageId": "m"}], "Failed": [{"Id": "1", "Code": "InternalError"}]}
    outbox = Outbox(Queue(FakeClient(refused, {"Failed": refused["Failed"]}), "OutboxQueue"))
    saved, error = outbox.send([decide(CRITICAL, "k0"), decide(CRITICAL, "k1")], NO_DEADLINE)
    assert saved is None
    assert isinstance(error, StoreUnavailable)
    line = json.loads(log.getvalue())
    assert (line["reason"], line["decision_id"]) == ("InternalError", "k1")


MESSAGE: dict[str, Any] = json.loads(encode(decide(CRITICAL, "k1")))


def without(name: str) -> dict[str, Any]:
    return {other: value for other, value in MESSAGE.items() if other != name}


def test_message_of_an_earlier_version_is_decoded() -> None:
    """It has no ``tx_id`` of its own, only that of the transaction."""
    assert decode(json.dumps(without("tx_id"))) == decode(json.dumps(MESSAGE))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "x",
        "null",
        "[]",
        "5",
        "{}",
        json.dumps({**MESSAGE, "transaction": {}}),
        json.dumps({**MESSAGE, "transaction": None}),
        json.dumps({**MESSAGE, "transaction": ["amount"]}),
        json.dumps({**MESSAGE, "transaction": {"amount": 1, "store": "\ud83c"}}),
        json.dumps({**MESSAGE, "transaction": {"amount": 1, "card": {}}}),
        json.dumps({**MESSAGE, "transaction": {"amount": 1}}).replace(": 1}", ": 1e400}"),
        *(json.dumps(without(name)) for name in sorted(MESSAGE.keys() - {"tx_id", "reasons"})),
        *(json.dumps({**MESSAGE, name: None}) for name in MESSAGE),
        json.dumps({**MESSAGE, "risk_level": "EXTREME"}),
        json.dumps({**MESSAGE, "risk_level": ["LOW"]}),
        json.dumps({**MESSAGE, "score": True}),
        json.dumps({**MESSAGE, "score": "7"}),
        json.dumps({**MESSAGE, "triggered_rules": "R1"}),
        json.dumps({**MESSAGE, "triggered_rules": [1]}),
    ],
)
def test_invalid_message(body: str) -> None:
    with pytest.raises(InvalidMessage, match="The message is not a decision: "):
        decode(body)
