"""Recorder: ledger first, then outbox; the circuit breaker."""

import io
import json
import time
from typing import Any

import pytest

from scoring.aws.client import CALL_SECONDS
from scoring.aws.queue import Queue
from scoring.errors import CallFailed, IdempotencyConflict, StoreUnavailable
from scoring.ledger import outbox
from scoring.ledger.outbox import Outbox
from scoring.ledger.reader import LedgerReader
from scoring.ledger.recorder import OUTBOX_SECONDS_PER_DECISION, Recorder
from scoring.ledger.writer import LedgerWriter, Recorded
from tests.rule_set import decide
from tests.unit.aws_errors import cancellation
from tests.unit.conftest import NO_DEADLINE, Intercept
from tests.unit.fakes import MotoClient

TRANSACTION = {"tx_id": "TX1", "amount": 5000}


@pytest.fixture
def recorder(writer: LedgerWriter, sqs: Any) -> Recorder:
    return Recorder(writer, Outbox(Queue(MotoClient(sqs), "OutboxQueue")))


def sent_ids(sqs: Any) -> list[str]:
    """Return the ids of the decisions in the outbox."""
    messages = sqs.receive_message(QueueUrl="OutboxQueue", MaxNumberOfMessages=10).get("Messages", [])
    return [outbox.decode(message["Body"]).decision_id for message in messages]


def test_recorded_decision_is_not_sent(recorder: Recorder, reader: LedgerReader, sqs: Any) -> None:
    decision = decide(TRANSACTION, "k1")
    assert recorder.record_one(decision, NO_DEADLINE).response == decision.response
    assert recorder.record_one(decide(TRANSACTION, "k1"), NO_DEADLINE).replayed
    assert reader.totals(NO_DEADLINE).total == 1
    assert sent_ids(sqs) == []


def test_unrecorded_decision_is_sent(recorder: Recorder, reader: LedgerReader, intercept: Intercept, sqs: Any) -> None:
    intercept("transact_write_items", cancellation("ValidationError"))
    decision = decide(TRANSACTION, "k1")
    recorded = recorder.record_one(decision, NO_DEADLINE)
    assert (recorded.response, recorded.replayed) == ({**decision.response, "recorded": False}, False)
    assert reader.totals(NO_DEADLINE).total == 0
    assert sent_ids(sqs) == ["k1"]


def test_failure_of_ledger_and_outbox_is_store_unavailable(recorder: Recorder, intercept: Intercept, sqs: Any) -> None:
    intercept("transact_write_items", cancellation("ValidationError"))
    sqs.delete_queue(QueueUrl="OutboxQueue")
    with pytest.raises(StoreUnavailable):
        recorder.record_one(decide(TRANSACTION, "k1"), NO_DEADLINE)


def test_conflict_is_not_sent(recorder: Recorder, sqs: Any) -> None:
    recorder.record_one(decide(TRANSACTION, "k1"), NO_DEADLINE)
    with pytest.raises(IdempotencyConflict):
        recorder.record_one(decide({**TRANSACTION, "amount": 1}, "k1"), NO_DEADLINE)
    assert sent_ids(sqs) == []


@pytest.mark.parametrize(
    ("seconds", "writes", "messages"),
    [(2 * CALL_SECONDS + 0.1, 1, 0), (2 * CALL_SECONDS - 0.1, 0, 1), (CALL_SECONDS + 0.1, 0, 1)],
)
def test_write_leaves_time_for_the_outbox(
    recorder: Recorder, intercept: Intercept, sqs: Any, seconds: float, writes: int, messages: int
) -> None:
    calls = intercept("transact_write_items")
    recorder.record_one(decide(TRANSACTION, "k1"), time.monotonic() + seconds)
    assert (len(calls), len(sent_ids(sqs))) == (writes, messages)


@pytest.mark.parametrize(
    ("seconds", "writes", "recorded"),
    [
        (2.0, [1, 1, 1, 2], [False, False, False, True]),
        (0.9, [1, 2, 3, 4], [False, True, True, True]),
    ],
    ids=["slow", "fast"],
)
def test_only_a_slow_failure_opens_the_circuit_until_the_cooldown_ends(
    recorder: Recorder,
    intercept: Intercept,
    dynamodb: Any,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    seconds: float,
    writes: list[int],
    recorded: list[bool],
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("scoring.ledger.writer.time.monotonic", lambda: clock[0])
    calls = intercept("transact_write_items", CallFailed("TimeoutError"))
    transact_write_items = dynamodb.transact_write_items

    def first_is_slow(**parameters: Any) -> Any:
        clock[0] += seconds if not calls else 0
        return transact_write_items(**parameters)

    monkeypatch.setattr(dynamodb, "transact_write_items", first_is_slow)
    for number, pause in enumerate((0, 0.1, 1.8, 0.2)):
        clock[0] += pause
        response = recorder.record_one(decide(TRANSACTION, f"k{number}"), NO_DEADLINE).response
        assert len(calls) == writes[number]
        assert response.get("recorded", True) == recorded[number]
    reasons = [json.loads(line)["reason"] for line in log.getvalue().splitlines()]
    assert reasons == ["TimeoutError", *["CircuitOpen"] * writes[1:].count(1)]


class TestManyDecisions:
    def test_only_unrecorded_decisions_are_sent(
        self, recorder: Recorder, reader: LedgerReader, intercept: Intercept, sqs: Any
    ) -> None:
        intercept("transact_write_items", None, CallFailed("InternalServerError", 500))
        decisions = [decide(TRANSACTION, f"k{number}") for number in range(105)]
        outcomes = recorder.record(decisions, NO_DEADLINE)
        assert outcomes == [
            Recorded(decision.response if number < 99 else {**decision.response, "recorded": False}, replayed=False)
            for number, decision in enumerate(decisions)
        ]
        assert set(sent_ids(sqs)) == {f"k{number}" for number in range(99, 105)}
        assert reader.totals(NO_DEADLINE).total == 99

    def test_equal_keys_are_one_message(self, recorder: Recorder, intercept: Intercept, sqs: Any) -> None:
        intercept("transact_write_items", CallFailed("TimeoutError"))
        first, again = decide(TRANSACTION, "k1"), decide(TRANSACTION, "k1")
        other = decide({**TRANSACTION, "amount": 1}, "k1")
        unrecorded = {**first.response, "recorded": False}
        outcomes = recorder.record([first, again, other], NO_DEADLINE)
        assert outcomes[:2] == [Recorded(unrecorded, replayed=False), Recorded(unrecorded, replayed=True)]
        assert isinstance(outcomes[2], IdempotencyConflict)
        assert sent_ids(sqs) == ["k1"]

    def test_decisions_that_neither_takes_are_errors(
        self, recorder: Recorder, reader: LedgerReader, intercept: Intercept, sqs: Any
    ) -> None:
        sqs.delete_queue(QueueUrl="OutboxQueue")
        intercept("transact_write_items", None, CallFailed("InternalServerError", 500))
        outcomes = recorder.record([decide(TRANSACTION, f"k{number}") for number in range(101)], NO_DEADLINE)
        assert [type(outcome) for outcome in outcomes] == [Recorded] * 99 + [StoreUnavailable] * 2
        assert reader.totals(NO_DEADLINE).total == 99

    def test_write_leaves_more_time_for_more_decisions(
        self, recorder: Recorder, intercept: Intercept, sqs: Any
    ) -> None:
        calls = intercept("transact_write_items")
        decisions = [decide(TRANSACTION, f"k{number}") for number in range(100)]
        recorder.record(decisions, time.monotonic() + 2 * CALL_SECONDS + 100 * OUTBOX_SECONDS_PER_DECISION - 0.1)
        assert calls == []
        assert len(sent_ids(sqs)) == 10
