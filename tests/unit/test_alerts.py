"""Alerts about stored decisions, and the batches in which they are published."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import alerts
from scoring.alerts import MAX_BATCH_BYTES, Alert
from scoring.errors import InvalidImage
from scoring.fields import BUILT_IN
from scoring.http_api import MAX_KEY_LENGTH
from scoring.ledger.tables import partition_key
from scoring.scorers.checks import MAX_NAME_LENGTH
from scoring.scorers.fields_loader import MAX_FIELDS
from scoring.scorers.forest import model_file
from scoring.scorers.forest.scorer import MAX_CONTRIBUTIONS
from scoring.scorers.rules_loader import MAX_VERSION_LENGTH
from scoring.strict_json import SHOWN_LENGTH
from tests.rule_set import R1, R2, R3, decide

TRANSACTION = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "store": "Kraków", "hour": 3}


def image(transaction: dict[str, Any], decision_id: str = "order-17", **response: Any) -> dict[str, Any]:
    """Return the item of a decision, as the stream data class reads it."""
    decision = decide(transaction, decision_id)
    return {
        "tx_id": partition_key(transaction.get("tx_id"), decision_id),
        "decision_id": decision_id,
        "transaction": json.dumps(transaction),
        "answer": json.dumps({**decision.response, **response}),
    }


def test_alert_has_the_decision_and_its_transaction() -> None:
    alert = alerts.make(image(TRANSACTION, evaluated_at="2026-11-22T11:42:26.344028Z"))
    assert json.loads(alert.message) == {
        # SHA-256 of ["TX003","order-17"]
        "alert_id": "508f4646308cbd6dd0da31b5f807040f",
        "tx_id": "TX003",
        "decision_id": "order-17",
        "risk_level": "CRITICAL",
        "score": 7,
        "triggered_rules": [R1, R2, R3],
        "version": "1.0-tests",
        "evaluated_at": "2026-11-22T11:42:26.344028Z",
        "transaction": TRANSACTION,
    }
    assert alert.message.isascii()
    assert alert.attributes == {
        "risk_level": {"DataType": "String", "StringValue": "CRITICAL"},
        "score": {"DataType": "Number", "StringValue": "7"},
        "category": {"DataType": "String", "StringValue": "electronics"},
    }
    assert (alert.alert_id, alert.decision_id) == ("508f4646308cbd6dd0da31b5f807040f", "order-17")


def test_alert_has_the_reasons_of_a_model() -> None:
    opinion: dict[str, Any] = {
        "fraud": True,
        "fraud_probability": 0.93,
        "unseen": ["category"],
        "contributions": [{"feature": "amount", "value": 4500.0, "contribution": 0.9}],
    }
    message = json.loads(alerts.make(image(TRANSACTION, **opinion)).message)
    assert {name: message[name] for name in opinion} == opinion


def test_alert_id_depends_on_the_key_of_the_decision_only() -> None:
    def alert_id(transaction: dict[str, Any], decision_id: str) -> str:
        return alerts.make(image(transaction, decision_id)).alert_id

    assert alert_id(TRANSACTION, "k1") == alert_id({**TRANSACTION, "amount": 9000}, "k1")
    different = {
        alert_id(TRANSACTION, "k1"),
        alert_id(TRANSACTION, "k2"),
        alert_id({"amount": 4500}, "k1"),
        alert_id({"tx_id": "k1", "amount": 4500}, "k1"),
        alert_id({"tx_id": 'a","b', "amount": 4500}, "c"),
        alert_id({"tx_id": "a", "amount": 4500}, 'b","c'),
    }
    assert len(different) == 6
    unnamed = alerts.make(image({"amount": 4500}, "k1"))
    assert json.loads(unnamed.message)["tx_id"] == "unknown"
    assert unnamed.alert_id == hashlib.sha256(b'["\\u001fk1","k1"]').hexdigest()[:32]


@pytest.mark.parametrize(
    ("category", "sent"),
    [
        ("groceries & more", True),
        ("żywność \U0001f355\t", True),
        ("", False),
        ("a\x00b", False),
        ("\x1f", False),
        ("\uffff", False),
    ],
)
def test_category_that_sns_would_refuse_is_no_attribute(category: str, *, sent: bool) -> None:
    alert = alerts.make(image({"amount": 5000, "category": category}))
    assert alert.attributes.get("category") == ({"DataType": "String", "StringValue": category} if sent else None)
    assert json.loads(alert.message)["transaction"]["category"] == category


def test_transaction_without_category_has_no_attribute() -> None:
    assert alerts.make(image({"amount": 5000})).attributes.keys() == {"risk_level", "score"}


def test_size_counts_bytes_of_message_and_attributes() -> None:
    alert = Alert("id", "k1", "abc", {"category": {"DataType": "String", "StringValue": "ż"}})
    assert alert.size == len("abc" + "category" + "String") + 2


def test_too_large_an_alert_has_no_transaction() -> None:
    """64 KiB of control characters take 384 KiB when they are escaped."""
    alert = alerts.make(image({"amount": 5000, "store": "\x7f" * 30_000, "category": "a"}))
    assert json.loads(alert.message)["transaction"]["category"] == "a"
    alert = alerts.make(image({"amount": 5000, "store": "ż" * 50_000, "category": "a"}))
    document = json.loads(alert.message)
    assert document["transaction"] is None
    assert (document["risk_level"], document["score"]) == ("HIGH", 3)
    assert alert.attributes["category"]["StringValue"] == "a"
    assert alert.size < 1000


PIZZA = "\U0001f355"
LONGEST_OF_MODEL: dict[str, Any] = {
    "version": PIZZA * (MAX_VERSION_LENGTH + 1 + model_file.MAX_VERSION_LENGTH),
    "fraud": False,
    "fraud_probability": 2.2250738585072014e-308,
    "unseen": [f"{number:02}{'f' * (MAX_NAME_LENGTH - 2)}" for number in range(MAX_FIELDS + len(BUILT_IN))],
    "contributions": [
        {
            "feature": f"{number:02}{'f' * (MAX_NAME_LENGTH - 2)}",
            "value": PIZZA * SHOWN_LENGTH,
            "contribution": -1.5e-308,
        }
        for number in range(MAX_CONTRIBUTIONS)
    ],
}


@pytest.mark.parametrize("of_model", [{}, LONGEST_OF_MODEL], ids=["rules", "forest"])
def test_largest_alert_fits(of_model: dict[str, Any]) -> None:
    labels = [chr(ord(PIZZA) + number) + PIZZA * 99 for number in range(200)]
    transaction = {"tx_id": PIZZA * 128, "amount": 5000, "category": "c" * 60_000}
    alert = alerts.make(image(transaction, "k" * MAX_KEY_LENGTH, triggered_rules=labels, **of_model))
    document = json.loads(alert.message)
    assert (document["transaction"], document["triggered_rules"]) == (None, labels)
    assert {name: document.get(name) for name in of_model} == {
        **of_model,
        **({"contributions": None} if of_model else {}),
    }
    assert alert.attributes.keys() == {"risk_level", "score"}
    assert MAX_BATCH_BYTES - 30_000 < alert.size <= MAX_BATCH_BYTES


def test_contributions_stay_in_an_alert_if_they_fit() -> None:
    transaction = {"amount": 5000, "category": "c" * 65_000, "store": "\x7f" * 40_000}
    alert = alerts.make(image(transaction, **LONGEST_OF_MODEL))
    document = json.loads(alert.message)
    assert {name: document[name] for name in LONGEST_OF_MODEL} == LONGEST_OF_MODEL
    assert document["transaction"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"tx_id": 5},
        {"answer": "{"},
        {"answer": None},
        {"answer": "[]"},
        {"answer": '{"risk_level": "HIGH"}'},
        {"transaction": "[1]"},
        {"transaction": "secret"},
        {"transaction": 5},
    ],
)
def test_item_that_is_not_a_decision(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidImage) as raised:
        alerts.make({**image(TRANSACTION), **change})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("missing", ["tx_id", "decision_id", "transaction", "answer"])
def test_item_without_an_attribute(missing: str) -> None:
    item = image(TRANSACTION)
    del item[missing]
    with pytest.raises(InvalidImage, match=f"Attribute '{missing}' is missing"):
        alerts.make(item)


def of_sizes(sizes: Sequence[int]) -> list[Alert]:
    return [Alert(str(number), "k", "x" * size, {}) for number, size in enumerate(sizes)]


@given(st.lists(st.integers(1, MAX_BATCH_BYTES), max_size=40))
def test_batches_keep_the_order_and_both_limits(sizes: list[int]) -> None:
    made = of_sizes(sizes)
    batches = list(alerts.batches(made))
    assert [alert for batch in batches for alert in batch] == made
    for batch in batches:
        assert 1 <= len(batch) <= 10
        assert sum(alert.size for alert in batch) <= 262_144
    for batch, following in itertools.pairwise(batches):
        assert len(batch) == 10 or sum(alert.size for alert in [*batch, following[0]]) > 262_144


def test_batches_are_full() -> None:
    assert [len(batch) for batch in alerts.batches(of_sizes([1] * 25))] == [10, 10, 5]
    assert [len(batch) for batch in alerts.batches(of_sizes([131_072] * 3))] == [2, 1]
    assert list(alerts.batches([])) == []
