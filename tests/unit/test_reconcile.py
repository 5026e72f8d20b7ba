"""The reconcile function: what waits in the outbox is recorded once, and what cannot be is left in it alone."""

import io
import json
import time
from typing import Any

import pytest

from scoring.ledger.outbox import encode
from scoring.ledger.reader import LedgerReader
from scoring.ledger.writer import LedgerWriter
from tests.rule_set import decide
from tests.unit.conftest import LATER, Functions
from tests.unit.failing import canceled, failing

TRANSACTION = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}


def batch(*bodies: str) -> dict[str, Any]:
    """An SQS event whose messages have the ids "0", "1", ..."""
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


def failures(answer: dict[str, Any]) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture(autouse=True)
def its_ledger(invoke: Functions, ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoke.modules["ReconcileFunction"], "LEDGER", ledger)


def test_a_decision_is_recorded_as_it_was_answered(invoke: Functions, reports: LedgerReader) -> None:
    decision = decide(TRANSACTION, "k1")
    assert failures(invoke("ReconcileFunction", batch(encode(decision)))) == []
    assert reports.find("TX003", LATER) == [{**decision.response, "transaction": TRANSACTION}]
    assert reports.totals(LATER).total == 1


def test_whatever_is_delivered_again_is_counted_once(invoke: Functions, reports: LedgerReader) -> None:
    first, second = (encode(decide(TRANSACTION, key)) for key in ("k1", "k2"))
    for _ in range(3):
        assert failures(invoke("ReconcileFunction", batch(first, second, first))) == []
    assert reports.totals(LATER).total == 2


def test_what_can_never_be_recorded_fails_alone_and_says_why(
    invoke: Functions, ledger: LedgerWriter, reports: LedgerReader, log: io.StringIO
) -> None:
    ledger.record(decide(TRANSACTION, "k1"), LATER)
    conflict = encode(decide({**TRANSACTION, "amount": 1}, "k1"))
    good = encode(decide(TRANSACTION, "k2"))
    assert failures(invoke("ReconcileFunction", batch("poison", conflict, good))) == ["0", "1"]
    assert reports.totals(LATER).total == 2
    *lines, age = (json.loads(line) for line in log.getvalue().splitlines())
    assert [line.get("message_id") for line in lines] == ["0", "1", None]
    assert [line.get("reason", "")[:29] for line in lines] == [
        "The message is not a decision",
        "Header 'Idempotency-Key': 'k1",
        "",
    ]
    assert lines[2]["decision_id"] == "k2"
    # Of the older one of the two
    assert age["OutboxAge"] == pytest.approx(600, abs=0.5)
    assert "Traceback" not in log.getvalue()
    assert "4500" not in log.getvalue()


def test_the_store_gone_fails_what_it_did_not_take(
    invoke: Functions, reports: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(monkeypatch, dynamodb, "transact_write_items")
    failing(monkeypatch, dynamodb, "transact_write_items", canceled("ValidationError"))
    messages = batch(encode(decide(TRANSACTION, "k1")), encode(decide(TRANSACTION, "k2")))
    assert failures(invoke("ReconcileFunction", messages)) == ["0"]
    assert len(calls) == 1
    assert reports.totals(LATER).total == 1


def test_what_there_is_no_time_for_fails_without_a_call(
    invoke: Functions, ledger: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(monkeypatch, dynamodb, "transact_write_items")
    invoke.context.get_remaining_time_in_millis = lambda: 3500
    messages = batch(encode(decide(TRANSACTION, "k1")), encode(decide(TRANSACTION, "k2")))
    assert failures(invoke("ReconcileFunction", messages)) == ["0", "1"]
    assert calls == []


def test_a_fault_of_the_code_fails_its_message_alone_and_leaves_its_trace(
    invoke: Functions, ledger: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    failing(monkeypatch, dynamodb, "transact_write_items", KeyError("a bug"))
    messages = batch(encode(decide(TRANSACTION, "k1")), encode(decide(TRANSACTION, "k2")))
    assert failures(invoke("ReconcileFunction", messages)) == ["0"]
    line = json.loads(log.getvalue().splitlines()[0])
    assert (line["reason"], line["exception_name"]) == ("KeyError", "KeyError")
