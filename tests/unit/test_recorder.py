"""LedgerWriter or outbox: which one takes a decision, in what time, and what the caller is told."""

import io
import json
import time
from typing import Any

import pytest

from scoring.aws import client
from scoring.errors import CallFailed, IdempotencyConflict, StoreUnavailable
from scoring.ledger import outbox
from scoring.ledger.outbox import Outbox
from scoring.ledger.reader import LedgerReader
from scoring.ledger.recorder import Recorder
from scoring.ledger.writer import LedgerWriter
from tests.rule_set import decide
from tests.unit.conftest import LATER, MotoService
from tests.unit.failing import canceled, failing

TRANSACTION = {"tx_id": "TX1", "amount": 5000}


@pytest.fixture
def recorder(ledger: LedgerWriter, sqs: Any) -> Recorder:
    queue: Any = MotoService(sqs)
    return Recorder(ledger, Outbox(queue, "OutboxQueue"))


def sent(sqs: Any) -> list[str]:
    """Ids of the decisions in the outbox."""
    messages = sqs.receive_message(QueueUrl="OutboxQueue", MaxNumberOfMessages=10).get("Messages", [])
    return [outbox.decode(message["Body"]).decision_id for message in messages]


def test_what_the_ledger_takes_is_not_sent(recorder: Recorder, reports: LedgerReader, sqs: Any) -> None:
    decision = decide(TRANSACTION, "k1")
    assert recorder.record(decision, LATER).response == decision.response
    assert recorder.record(decide(TRANSACTION, "k1"), LATER).replayed
    assert reports.totals(LATER).total == 1
    assert sent(sqs) == []


def test_what_the_ledger_cannot_take_waits_in_the_outbox(
    recorder: Recorder, reports: LedgerReader, dynamodb: Any, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, dynamodb, "transact_write_items", canceled("ValidationError"))
    decision = decide(TRANSACTION, "k1")
    recorded = recorder.record(decision, LATER)
    assert (recorded.response, recorded.replayed) == ({**decision.response, "recorded": False}, False)
    assert reports.totals(LATER).total == 0
    assert sent(sqs) == ["k1"]


def test_what_neither_takes_is_refused(
    recorder: Recorder, dynamodb: Any, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, dynamodb, "transact_write_items", canceled("ValidationError"))
    sqs.delete_queue(QueueUrl="OutboxQueue")
    with pytest.raises(StoreUnavailable):
        recorder.record(decide(TRANSACTION, "k1"), LATER)


def test_a_refused_key_is_no_reason_for_the_outbox(recorder: Recorder, sqs: Any) -> None:
    recorder.record(decide(TRANSACTION, "k1"), LATER)
    with pytest.raises(IdempotencyConflict):
        recorder.record(decide({**TRANSACTION, "amount": 1}, "k1"), LATER)
    assert sent(sqs) == []


@pytest.mark.parametrize(
    ("left", "calls", "messages"),
    [
        (2 * client.CALL_SECONDS + 0.1, 1, 0),
        (2 * client.CALL_SECONDS - 0.1, 0, 1),
        (client.CALL_SECONDS + 0.1, 0, 1),
    ],
)
def test_the_ledger_is_tried_where_time_is_left_for_the_outbox_too(
    recorder: Recorder,
    dynamodb: Any,
    sqs: Any,
    monkeypatch: pytest.MonkeyPatch,
    left: float,
    calls: int,
    messages: int,
) -> None:
    made = failing(monkeypatch, dynamodb, "transact_write_items")
    recorder.record(decide(TRANSACTION, "k1"), time.monotonic() + left)
    assert (len(made), len(sent(sqs))) == (calls, messages)


@pytest.mark.parametrize(("seconds", "calls"), [(2.0, [1, 1, 1, 2]), (0.9, [1, 2, 3, 4])])
def test_after_an_attempt_that_kept_somebody_waiting_the_ledger_rests(
    recorder: Recorder,
    dynamodb: Any,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    seconds: float,
    calls: list[int],
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("scoring.ledger.recorder.time.monotonic", lambda: clock[0])
    made = failing(monkeypatch, dynamodb, "transact_write_items", CallFailed("TimeoutError"))
    failing_or_not = dynamodb.transact_write_items

    def slow(**parameters: Any) -> Any:
        clock[0] += seconds if not made else 0
        return failing_or_not(**parameters)

    monkeypatch.setattr(dynamodb, "transact_write_items", slow)
    for number, passed in enumerate((0, 0.1, 1.8, 0.2)):
        clock[0] += passed
        answer = recorder.record(decide(TRANSACTION, f"k{number}"), LATER).response
        assert len(made) == calls[number]
        assert ("recorded" in answer) == (number == 0 or calls[number] == 1)
    reasons = [json.loads(line)["reason"] for line in log.getvalue().splitlines()]
    assert reasons == ["TimeoutError", *["CircuitOpen"] * calls[1:].count(1)]
