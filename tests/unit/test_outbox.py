"""The outbox: what is sent, what may not take longer, and what is no message."""

import io
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import strict_json
from scoring.aws import client
from scoring.errors import CallFailed, InvalidMessage, InvalidRequest, StoreUnavailable
from scoring.ledger.outbox import Outbox, connect, decode, encode
from tests.rule_set import decide

CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}


@pytest.fixture
def outbox(sqs: Any) -> Outbox:
    return connect()


def test_what_is_sent_is_the_decision(outbox: Outbox, sqs: Any) -> None:
    decision = decide(CRITICAL, "k1")
    outbox.send(decision, math.inf)
    (message,) = sqs.receive_message(QueueUrl="OutboxQueue")["Messages"]
    assert decode(message["Body"]) == decision


@given(
    amount=st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 10**300),
    texts=st.fixed_dictionaries(
        {}, optional={name: st.text(min_size=1, max_size=40) for name in ("tx_id", "category", "store")}
    ),
)
def test_every_decision_comes_back_as_it_was(amount: float, texts: dict[str, str]) -> None:
    try:
        decision = decide({"amount": amount, **texts}, "k1")
    except InvalidRequest:
        return
    message = encode(decision)
    assert message.isascii()
    assert decode(message) == decision


@pytest.mark.parametrize("character", ["x", "é", "🂡", "\x7f", "\\u0001", "\\uffff", '\\"'])
def test_the_largest_request_fits_into_a_message(character: str) -> None:
    size = 64 * 1024 - 200
    text = character * (size // len(character.encode()))
    decision = decide(strict_json.parse(f'{{"amount": 1, "tx_id": "{"🂡" * 40}", "store": "{text}"}}'), "k" * 128)
    assert len(encode(decision)) < 400 * 1024


@pytest.mark.parametrize("error", [CallFailed("ConnectionRefusedError"), CallFailed("RequestThrottled", 403)], ids=str)
def test_every_error_is_store_unavailable_and_logged_with_its_reason(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, error: CallFailed, log: io.StringIO
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(outbox._sqs, "call", fail)
    with pytest.raises(StoreUnavailable):
        outbox.send(decide(CRITICAL, "k1"), math.inf)
    line = json.loads(log.getvalue())
    assert (line["level"], line["message"], line["decision_id"]) == ("ERROR", "outbox unavailable", "k1")
    assert line["reason"] == error.reason


@pytest.mark.parametrize("response", [{}, {"message": "Welcome"}, {"MessageId": None}, {"MessageId": 1}], ids=str)
def test_response_without_a_message_id_is_no_confirmation(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, response: dict[str, Any]
) -> None:
    monkeypatch.setattr(outbox._sqs, "call", lambda *_: response)
    with pytest.raises(StoreUnavailable):
        outbox.send(decide(CRITICAL, "k1"), math.inf)
    assert json.loads(log.getvalue())["reason"] == "UnexpectedResponse"


def test_nothing_is_sent_that_could_end_too_late(outbox: Outbox, sqs: Any) -> None:
    with pytest.raises(StoreUnavailable):
        outbox.send(decide(CRITICAL, "k1"), time.monotonic() + client.CALL_SECONDS - 0.01)
    assert "Messages" not in sqs.receive_message(QueueUrl="OutboxQueue")


MESSAGE = json.loads(encode(decide(CRITICAL, "k1")))


def test_message_of_an_earlier_version_is_decoded() -> None:
    """Earlier versions sent no ``tx_id`` besides that of the transaction."""
    names = [name for name in MESSAGE if name != "tx_id"]
    assert decode(json.dumps({name: MESSAGE[name] for name in names})) == decode(json.dumps(MESSAGE))


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
        *(
            json.dumps({name: value for name, value in MESSAGE.items() if name != missing})
            for missing in MESSAGE.keys() - {"tx_id"}
        ),
        *(json.dumps({**MESSAGE, name: None}) for name in MESSAGE),
        json.dumps({**MESSAGE, "risk_level": "EXTREME"}),
        json.dumps({**MESSAGE, "risk_level": ["LOW"]}),
        json.dumps({**MESSAGE, "score": True}),
        json.dumps({**MESSAGE, "score": "7"}),
        json.dumps({**MESSAGE, "triggered_rules": "R1"}),
        json.dumps({**MESSAGE, "triggered_rules": [1]}),
    ],
)
def test_what_is_no_message(body: str) -> None:
    with pytest.raises(InvalidMessage, match="The message is not a decision: "):
        decode(body)
