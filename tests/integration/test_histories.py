"""Histories over HTTP, compared with an oracle and with those that models are trained on."""

import json
import math
import uuid
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from functions.offline import training_data
from scoring.batches import MAX_ITEMS
from scoring.history import FEATURES
from scoring.lookups import enriched
from scoring.scorers.forest.inputs import Inputs
from tests import payments
from tests.history_oracle import Event, differences, histories
from tests.rule_set import RULE_SET
from tests.service import RunningService

CUSTOMERS, ROWS, SINGLE = 50, 20_000, 300
FIELDS = ("timestamp", "tx_id", "customer_id", "amount", "store", "category", "hour")


# A row in so many has no hour, and another one no category.
ROWS_PER_GAP = 9


class Scored(NamedTuple):
    """A payment, the label of the data, and the decision about it."""

    payment: dict[str, Any]
    is_fraud: int
    decision: dict[str, Any]


def first_payments() -> list[dict[str, Any]]:
    """Return the payments of the first customers, in the order of time."""
    customers: dict[str, None] = {}
    found = []
    for row in payments.rows(4 * ROWS):
        if len(customers) < CUSTOMERS:
            customers.setdefault(row["customer_id"])
        if row["customer_id"] in customers:
            found.append(row)
    assert len(found) >= ROWS
    return found[:ROWS]


@pytest.fixture(scope="module")
def scored(service: RunningService) -> list[Scored]:
    """Score 20,000 payments of new customers, the first ones by themselves and the others in batches."""
    rows = first_payments()
    sent = [{name: row[name] for name in FIELDS} for row in rows]
    for number, one in enumerate(sent):
        # Not random: of 7 percent of all names, some customer has two stores whose marks of 24 bits are equal.
        one["customer_id"] = f"histories-{one['customer_id']}"
        if number % ROWS_PER_GAP < 2:
            del one["hour" if number % ROWS_PER_GAP else "category"]
    decisions = [_scored(service, one) for one in sent[:SINGLE]]
    for start in range(SINGLE, ROWS, MAX_ITEMS):
        response = service.post("/score/batch", json=sent[start : start + MAX_ITEMS])
        assert response.status_code == 200, response.text
        decisions += response.json()["results"]
    return [Scored(one, row["is_fraud"], decision) for one, row, decision in zip(sent, rows, decisions, strict=True)]


def test_20000_payments_have_the_histories_of_the_oracle(scored: list[Scored]) -> None:
    events: defaultdict[str, list[Event]] = defaultdict(list)
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row, _, decision in scored:
        assert not decision.keys() & {"degraded", "recorded", "error"}, decision
        time = math.floor(datetime.fromisoformat(row["timestamp"]).timestamp())
        events[row["customer_id"]].append(Event(time, row["amount"], row["store"]))
        found[row["customer_id"]].append(decision["history"]["customer"])
    assert len(events) == CUSTOMERS
    assert sum(history["is_new"] is False for one in found.values() for history in one) > 10
    assert max(history["count_7d"] for one in found.values() for history in one) > 30
    for customer, given in events.items():
        for index, (history, expected) in enumerate(zip(found[customer], histories(given), strict=True)):
            assert differences(history, expected) == [], (customer, index, history)


def test_models_are_trained_on_what_they_get_in_service(scored: list[Scored], tmp_path: Path) -> None:
    """The rows of numbers are exactly equal, with all the features that training can choose."""
    file = tmp_path / "payments.jsonl"
    lines = [json.dumps({**one.payment, "is_fraud": one.is_fraud}) for one in scored]
    file.write_text("\n".join(lines), encoding="utf-8")

    data = training_data.read(file, RULE_SET, "is_fraud", {})
    assert data.notes == []
    assert list(data.labels) == [one.is_fraud for one in scored]
    features, _ = data.features(range(ROWS))
    inputs = Inputs(features)
    facts = {feature.fact for feature in features}
    assert facts == {"amount", "hour", "category", *(f"customer.{feature}" for feature in FEATURES)}
    in_training = data.rows(inputs, range(ROWS))
    missing = 0
    for (payment, _, decision), row in zip(scored, in_training, strict=True):
        read = enriched(RULE_SET.fields.read(payment), decision["history"], {})
        assert row == inputs.row(read.facts), payment
        missing += len(facts - read.facts.keys())
    assert missing > ROWS / ROWS_PER_GAP


def _scored(service: RunningService, transaction: dict[str, Any]) -> dict[str, Any]:
    response = service.post("/score", json=transaction)
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


def test_stored_decision_has_the_history(service: RunningService) -> None:
    name = str(uuid.uuid4())
    transaction = {"tx_id": name, "customer_id": name, "amount": 5.0}
    decision = _scored(service, transaction)
    (found,) = service.get(f"/transaction/{name}").json()["decisions"]
    assert found == {**decision, "transaction": transaction}
    assert found["history"]["customer"]["is_new"] is None
