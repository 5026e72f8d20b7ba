"""Exported decisions; ``tests/integration/test_export_command.py`` runs the command."""

import json
import resource
from typing import Any

import pytest

from events import export
from scoring import scorers
from scoring.decision import decide

EVALUATED_AT = "2026-01-02T03:04:05.000006Z"


def item(transaction: Any, evaluated_at: str = EVALUATED_AT, decision_id: str = "D") -> dict[str, Any]:
    answer = {"evaluated_at": evaluated_at, "decision_id": decision_id}
    return {"transaction": {"S": json.dumps(transaction)}, "answer": {"S": json.dumps(answer)}}


def transaction_of(item: Any, hour: int | None = 12) -> Any:
    found = export.exported(item, hour)
    assert found is not None
    return json.loads(found.line)


def test_time_is_that_of_the_decision() -> None:
    assert transaction_of(item({"amount": 5, "hour": 3})) == {"amount": 5, "hour": 3, "timestamp": EVALUATED_AT}
    own = {"amount": 5.0, "timestamp": "2026-01-01T08:30:00+01:00"}
    found = export.exported(item(own), None)
    assert found == (EVALUATED_AT, "D", json.dumps(own), False)


def test_replay_has_the_hour_of_the_decision() -> None:
    """Without time, the service decides by the default for the hour, not by its clock."""
    rule_set = scorers.load()
    sent = {"amount": 5}
    decided = rule_set.fields.read(sent).facts["hour"]
    replayed = rule_set.fields.read(transaction_of(item(sent), export._default_hour())).facts["hour"]
    assert decided == replayed == 12


def test_missing_default_is_reported() -> None:
    found = export.exported(item({"amount": 5}), None)
    assert found is not None
    assert found.without_hour
    assert "hour" not in json.loads(found.line)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"transaction": {"S": "{}"}},
        {"transaction": {"S": "{"}, "answer": {"S": "{}"}},
        {"transaction": {"S": "[]"}, "answer": item({})["answer"]},
        {"transaction": {"N": "1"}, "answer": item({})["answer"]},
        {"transaction": {"S": "{}"}, "answer": {"S": '{"evaluated_at": 1, "decision_id": "D"}'}},
    ],
)
def test_other_items_are_left_out(damaged: Any) -> None:
    assert export.exported(damaged, 12) is None


def test_stored_decision_is_exported() -> None:
    sent = {"tx_id": "A", "amount": 5.50, "timestamp": "2026-01-01T08:30:00Z", "typo": 1}
    decision = decide(sent, "D", scorers.load())
    stored = {
        **item(dict(decision.transaction)),
        "answer": {"S": json.dumps({**decision.response, "evaluated_at": "t"})},
    }
    sent.pop("typo")
    assert transaction_of(stored) == sent


def test_order_limits_and_duplicates() -> None:
    times = [f"2026-01-0{day}T00:00:00.000000Z" for day in (3, 1, 2, 4, 2)]
    found = [item({"amount": at, "hour": 1}, time, f"D{9 - at}") for at, time in enumerate(times)]
    one = export.Export(times[2], times[3], 12)
    one.add(iter([*found, {}]))
    assert [json.loads(line)["amount"] for line in one.lines()] == [4, 2, 0]
    assert (one.read, one.written, one.unreadable) == (6, 3, 1)
    one.close()


def test_memory_does_not_grow_with_the_table() -> None:
    one = export.Export(None, None, 12)
    stored = [item({"amount": at, "store": "x" * 400}, f"2026-01-01T00:00:{at % 60:02}.000000Z") for at in range(100)]
    one.add(iter(stored * 100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one.add(iter(stored * 1_000))
    last = ""
    for line in one.lines():
        last = line
    # 50 MB of lines
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
    assert one.written == 110_000
    assert json.loads(last)["timestamp"] == "2026-01-01T00:00:59.000000Z"
    one.close()
