"""Histories over HTTP, compared with an oracle; lists in force with the next decision."""

import math
import uuid
from collections import defaultdict
from datetime import datetime
from typing import Any

import pytest

from scoring.batches import MAX_ITEMS
from tests import payments
from tests.history_oracle import Event, differences, histories
from tests.service import RunningService

CUSTOMERS, ROWS, SINGLE = 50, 20_000, 300
FIELDS = ("timestamp", "tx_id", "customer_id", "amount", "store", "category", "hour")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Return the payments of the first customers, in the order of time."""
    customers: dict[str, None] = {}
    found = []
    for row in payments.rows(4 * ROWS):
        if len(customers) < CUSTOMERS:
            customers.setdefault(row["customer_id"])
        if row["customer_id"] in customers:
            found.append({name: row[name] for name in FIELDS})
    assert len(found) >= ROWS
    return found[:ROWS]


def test_20000_payments_have_the_histories_of_the_oracle(service: RunningService, rows: list[dict[str, Any]]) -> None:
    prefix = uuid.uuid4().hex
    sent = [{**row, "customer_id": f"{prefix}-{row['customer_id']}"} for row in rows]
    decisions = [_scored(service, one) for one in sent[:SINGLE]]
    for start in range(SINGLE, ROWS, MAX_ITEMS):
        response = service.post("/score/batch", json=sent[start : start + MAX_ITEMS])
        assert response.status_code == 200, response.text
        decisions += response.json()["results"]

    events: defaultdict[str, list[Event]] = defaultdict(list)
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row, decision in zip(sent, decisions, strict=True):
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
