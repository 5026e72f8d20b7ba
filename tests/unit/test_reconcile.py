"""The reconcile function: record the decisions in the outbox once, fail only the messages that cannot be recorded."""

import io
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from scoring.ledger.outbox import encode
from scoring.ledger.reader import LedgerReader
from scoring.ledger.writer import LedgerWriter
from tests.rule_set import decide
from tests.unit.aws_errors import cancellation
from tests.unit.conftest import NO_DEADLINE, Functions, Intercept, record

# (*bodies) -> ids of the messages that failed
Reconcile = Callable[..., list[str]]

TRANSACTION = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}


def batch(*bodies: str) -> dict[str, Any]:
    """Return an SQS event with messages "0", "1", ..., each sent a second later than the one before."""
    return {
        "Records": [
            {
                "messageId": str(number),
                "body": body,
                "eventSource": "aws:sqs",
                "receiptHandle": "r",
                "attributes": {"SentTimestamp": str(int(1000 * (time.time() - 600 + number)))},
            }
            for number, body in enumerate(bodies)
        ]
    }


@pytest.fixture
def reconcile(invoke: Functions, writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> Reconcile:
    """Reconcile messages with the given bodies and return the ids of those that failed."""
    monkeypatch.setattr(invoke.modules["ReconcileFunction"], "LEDGER", writer)

    def reconcile(*bodies: str) -> list[str]:
        response = invoke("ReconcileFunction", batch(*bodies))
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    return reconcile


def test_decision_is_recorded_as_it_was_returned(reconcile: Reconcile, reader: LedgerReader) -> None:
    decision = decide(TRANSACTION, "k1")
    assert reconcile(encode(decision)) == []
    assert reader.find("TX003", NO_DEADLINE) == [{**decision.response, "transaction": TRANSACTION}]
    assert reader.totals(NO_DEADLINE).total == 1


def test_redelivered_message_is_counted_once(reconcile: Reconcile, reader: LedgerReader) -> None:
    first, second = (encode(decide(TRANSACTION, key)) for key in ("k1", "k2"))
    for _ in range(3):
        assert reconcile(first, second, first) == []
    assert reader.totals(NO_DEADLINE).total == 2


def test_unrecordable_message_fails_alone_with_a_reason(
    reconcile: Reconcile, writer: LedgerWriter, reader: LedgerReader, log: io.StringIO
) -> None:
    record(writer, decide(TRANSACTION, "k1"))
    conflict = encode(decide({**TRANSACTION, "amount": 1}, "k1"))
    good = encode(decide(TRANSACTION, "k2"))
    assert reconcile("poison", conflict, good) == ["0", "1"]
    assert reader.totals(NO_DEADLINE).total == 2
    *lines, age = (json.loads(line) for line in log.getvalue().splitlines())
    assert [line.get("message_id") for line in lines] == ["0", "1", None]
    assert [line.get("reason", "")[:29] for line in lines] == [
        "The message is not a decision",
        "Header 'Idempotency-Key': 'k1",
        "",
    ]
    assert lines[2]["decision_id"] == "k2"
    # The age of message "0", the oldest that failed
    assert age["OutboxAge"] == pytest.approx(600, abs=0.5)
    assert "Traceback" not in log.getvalue()
    assert "4500" not in log.getvalue()


def test_refused_decision_fails_its_message_alone(
    reconcile: Reconcile, reader: LedgerReader, intercept: Intercept
) -> None:
    calls = intercept("transact_write_items", *[cancellation("ValidationError", "None")] * 2)
    assert reconcile(encode(decide(TRANSACTION, "k1")), encode(decide(TRANSACTION, "k2"))) == ["0"]
    assert [len(call["TransactItems"]) for call in calls] == [3, 2, 2]
    assert reader.totals(NO_DEADLINE).total == 1


def test_writes_respect_the_deadline(reconcile: Reconcile, context: SimpleNamespace, intercept: Intercept) -> None:
    calls = intercept("transact_write_items")
    context.get_remaining_time_in_millis = lambda: 3500
    assert reconcile(encode(decide(TRANSACTION, "k1")), encode(decide(TRANSACTION, "k2"))) == ["0", "1"]
    assert calls == []


def test_messages_are_recorded_in_one_transaction(
    reconcile: Reconcile, reader: LedgerReader, intercept: Intercept
) -> None:
    calls = intercept("transact_write_items")
    assert reconcile(*(encode(decide(TRANSACTION, f"k{number}")) for number in range(10))) == []
    assert len(calls) == 1
    assert reader.totals(NO_DEADLINE).total == 10


def test_bug_fails_the_invocation(reconcile: Reconcile, intercept: Intercept) -> None:
    """Lambda counts it for the alarm, and SQS delivers all messages again."""
    intercept("transact_write_items", KeyError("a bug"))
    with pytest.raises(KeyError):
        reconcile(encode(decide(TRANSACTION, "k1")))
