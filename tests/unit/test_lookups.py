"""Lookups: decisions that depend on profiles and lists, without the store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scoring import decision as decision_module
from scoring import lookups
from scoring.decision import Decision
from scoring.errors import InvalidRequest
from scoring.history import History, profiles
from scoring.lookups import MAX_CLOCK_SKEW_SECONDS, MAX_ENTRY_LENGTH, Entry, Known
from scoring.scorers import rules_loader
from scoring.scorers.rules import RuleSet

NOW = datetime(2026, 11, 25, 3, 30, 10, 250_000, UTC)
NONE_BEFORE = {
    "count_1h": 0,
    "count_24h": 0,
    "count_7d": 0,
    "sum_24h": 0,
    "max_24h": 0,
    "seconds_since_last": None,
    "amount_ratio": None,
    "distinct_24h": 0,
    "is_new": True,
}
CUSTOMER = History("customer", "customer_id", "store")
KEY = profiles.key(CUSTOMER, {"customer_id": "C1"})


def rule_set(*rules: dict[str, Any], **parts: Any) -> RuleSet:
    """Return a rule set with two histories; without rules, one that never hits."""
    return rules_loader.from_document(
        {
            "version": "1.0-history",
            "fields": {"ip": {"type": "string"}, "card": {"type": "string", "case": "ignore"}},
            "histories": {
                "customer": {"by": "customer_id", "distinct": "store"},
                "ip": {"by": "ip", "distinct": "card"},
            },
            "defaults": {"hour": 12},
            "levels": {"CRITICAL": 5, "HIGH": 3, "MEDIUM": 1},
            "rules": [{"points": 1, **rule} for rule in rules]
            or [{"label": "never", "points": 1, "when": [{"field": "amount", "operator": "<", "value": 0}]}],
            **parts,
        }
    )


def rule(field: str, operator: str, value: Any = None) -> dict[str, Any]:
    """Return a rule with one condition."""
    condition = {"field": field, "operator": operator} | ({} if value is None else {"value": value})
    return {"label": f"{field} {operator}", "when": [condition]}


def nothing() -> Known:
    return Known({}, frozenset())


def decide(document: dict[str, Any], scorer: RuleSet, known: Known) -> Decision:
    """Decide by what is known."""
    provisional = decision_module.decide(document, "k1", scorer)
    assert provisional.lookups
    return provisional.lookups.decide(known)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return a list whose only element is the time."""
    now = [NOW]

    class Clock(datetime):
        @classmethod
        def now(cls, _: Any = None) -> Any:
            return now[0]

    monkeypatch.setattr(decision_module, "datetime", Clock)
    monkeypatch.setattr(lookups, "datetime", Clock)
    return now


@pytest.mark.parametrize(
    "document", [{"amount": 5}, {"amount": 5, "store": "x", "card": "y", "timestamp": "2026-01-01T00:00:00Z"}]
)
def test_transaction_without_the_field_has_no_history(document: dict[str, Any]) -> None:
    decision = decision_module.decide(document, "k1", rule_set())
    assert (decision.lookups, decision.observations) == (None, ())
    assert not decision.response.keys() & {"history", "degraded"}


def test_default_of_a_field_is_not_a_customer() -> None:
    decision = decision_module.decide({"amount": 5}, "k1", rule_set(defaults={"customer_id": "C1"}))
    assert decision.lookups is None


def test_decision_without_what_it_depends_on_is_degraded() -> None:
    scorer = rule_set(rule("customer.count_1h", ">=", 0), rule("store", "not in list", "shops"))
    both = decision_module.decide({"amount": 5, "customer_id": "C1", "store": "x"}, "k1", scorer)
    assert dict(both.response) == {"tx_id": "unknown", "decision_id": "k1"}
    assert both.fallback.response["degraded"] == ["history", "lists"]
    assert both.fallback.response["triggered_rules"] == []
    only_list = decision_module.decide({"amount": 5, "store": "x"}, "k1", scorer)
    assert only_list.fallback.response["degraded"] == ["lists"]


def test_history_of_several_transactions() -> None:
    known, scorer = nothing(), rule_set()
    first = decide({"amount": 20, "customer_id": "C1", "store": "a"}, scorer, known)
    assert first.response["history"] == {"customer": NONE_BEFORE}
    assert "degraded" not in first.response
    decide({"amount": 10, "customer_id": "C1", "store": "b"}, scorer, known)
    third = decide({"amount": 30, "customer_id": "C1", "store": "a"}, scorer, known)
    assert third.response["history"]["customer"] == {
        **dict.fromkeys(("count_1h", "count_24h", "count_7d", "distinct_24h"), 2),
        "sum_24h": 30,
        "max_24h": 20,
        "seconds_since_last": 0,
        "amount_ratio": 2,
        "is_new": False,
    }
    other = decide({"amount": 30, "customer_id": "C2", "store": "a"}, scorer, known)
    assert other.response["history"] == {"customer": NONE_BEFORE}


def test_transaction_can_have_several_histories() -> None:
    known, scorer = nothing(), rule_set()
    decide({"amount": 1, "ip": "10.0.0.1", "card": "Visa"}, scorer, known)
    found = decide({"amount": 1, "ip": "10.0.0.1", "card": "VISA", "customer_id": "C1"}, scorer, known)
    history = found.response["history"]
    assert list(history) == ["customer", "ip"]
    assert (history["customer"]["is_new"], history["ip"]["is_new"], history["ip"]["count_1h"]) == (None, False, 1)
    assert len(known.profiles) == 2


def test_default_is_not_a_distinct_value() -> None:
    known, scorer = nothing(), rule_set(defaults={"store": "a"})
    decide({"amount": 1, "customer_id": "C1"}, scorer, known)
    history = decide({"amount": 1, "customer_id": "C1"}, scorer, known).response["history"]["customer"]
    assert (history["is_new"], history["distinct_24h"], history["count_1h"]) == (None, 0, 1)


@pytest.mark.parametrize("second", ["0001-01-01T00:00:00", "1969-12-31T23:59:59", "2026-01-01T00:00:00"])
def test_times_count_in_whole_seconds(second: str) -> None:
    scorer = rule_set()
    documents = [
        {"amount": 1, "customer_id": "C1", "timestamp": f"{second}{part}Z"}
        for part in ("", ".5", ".999999", ".0000009")
    ]
    made = [decision_module.decide(document, "k1", scorer).observations[0] for document in documents]
    assert len(set(made)) == 1
    assert made[0].time == (datetime.fromisoformat(f"{second}Z") - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def test_rules_use_the_history_and_quote_it() -> None:
    scorer = rule_set(
        rule("customer.count_1h", ">", 1),
        rule("customer.is_new", "==", True),  # noqa: FBT003  a value of the rule set
        rule("customer.amount_ratio", ">", 1),
        rule("customer.seconds_since_last", "is missing"),
    )
    known = nothing()
    labels = [
        decide({"amount": amount, "customer_id": "C1", "store": store}, scorer, known).response["triggered_rules"]
        for amount, store in [(1, "a"), (1, "a"), (5, "a")]
    ]
    # Nothing is known before the first: it has no ratio and no seconds, but a new store.
    assert labels == [
        ["customer.is_new ==", "customer.seconds_since_last is missing"],
        [],
        ["customer.count_1h >", "customer.amount_ratio >"],
    ]
    made = decide({"amount": 5, "customer_id": "C1", "store": "b"}, scorer, known)
    assert [reason["because"] for reason in made.response["reasons"]] == [
        {"customer.count_1h": 3},
        {"customer.is_new": True},
        {"customer.amount_ratio": pytest.approx(15 / 7)},
    ]


def test_missing_number_is_quoted_as_null() -> None:
    made = decide({"amount": 5, "customer_id": "C1"}, rule_set(rule("customer.amount_ratio", "is missing")), nothing())
    assert made.response["reasons"][0]["because"] == {"customer.amount_ratio": None}


def test_hour_is_that_of_the_timestamp_at_its_offset() -> None:
    scorer = rule_set(rule("hour", "==", 23))
    body = {"amount": 5, "customer_id": "C1", "timestamp": "2026-11-24T23:59:59+05:30"}
    made = decide(body, scorer, nothing())
    assert made.response["reasons"][0]["because"] == {"hour": 23}
    assert decide({**body, "hour": 3}, scorer, nothing()).response["triggered_rules"] == []
    assert decision_module.decide({"amount": 5}, "k1", rule_set(rule("hour", "==", 12))).response["score"] == 1


@pytest.mark.parametrize(("ahead", "is_valid"), [(timedelta(days=1), True), (timedelta(days=1, seconds=1), False)])
def test_timestamp_is_at_most_a_day_ahead(ahead: timedelta, *, is_valid: bool) -> None:
    document = {"amount": 5, "timestamp": (NOW + ahead).isoformat()}
    if is_valid:
        assert decision_module.decide(document, "k1", rule_set())
        return
    with pytest.raises(InvalidRequest, match=r"^Field 'timestamp' must not be more than a day ahead of the clock$"):
        decision_module.decide(document, "k1", rule_set())


def test_time_without_timestamp_is_that_of_the_last_decision(clock: list[datetime]) -> None:
    """A decision that is made again has waited for others, which must not be later than it."""
    known, scorer = nothing(), rule_set()
    waiting = decision_module.decide({"amount": 5, "customer_id": "C1"}, "k1", scorer)
    assert waiting.lookups
    clock[0] += timedelta(seconds=3)
    decide({"amount": 5, "customer_id": "C1"}, scorer, known)
    made = waiting.lookups.decide(known)
    assert made.response["history"]["customer"]["count_1h"] == 1
    assert made.response["evaluated_at"] == "2026-11-25T03:30:13.250000Z"
    assert [one.time for one in made.observations] == [int(clock[0].timestamp())]


@pytest.mark.parametrize(
    ("seconds", "count"), [(0, 1), (1, 1), (MAX_CLOCK_SKEW_SECONDS, 1), (MAX_CLOCK_SKEW_SECONDS + 1, 0), (3600, 0)]
)
def test_clock_of_another_environment_may_be_ahead(clock: list[datetime], seconds: int, count: int) -> None:
    known, scorer = nothing(), rule_set()
    clock[0] = NOW + timedelta(seconds=seconds)
    decide({"amount": 5, "customer_id": "C1"}, scorer, known)
    clock[0] = NOW
    made = decide({"amount": 5, "customer_id": "C1"}, scorer, known)
    assert made.response["history"]["customer"]["count_1h"] == count
    # The time of the transaction is the time of the decision.
    evaluated_at = datetime.fromisoformat(made.response["evaluated_at"])
    assert int(evaluated_at.timestamp()) == made.observations[0].time
    assert evaluated_at >= NOW


def test_timestamp_is_never_changed(clock: list[datetime]) -> None:
    known, scorer = nothing(), rule_set()
    body = {"amount": 5, "customer_id": "C1"}
    decide({**body, "timestamp": "2026-11-25T03:30:11Z"}, scorer, known)
    made = decide({**body, "timestamp": "2026-11-25T03:30:10.999Z"}, scorer, known)
    assert made.response["history"]["customer"]["count_1h"] == 0
    assert made.response["history"]["customer"]["amount_ratio"] == 1


def test_decision_that_was_not_recorded_keeps_the_last_history() -> None:
    scorer = rule_set(rule("customer.count_1h", ">=", 1))
    known = nothing()
    decide({"amount": 5, "customer_id": "C1"}, scorer, known)
    decision = decision_module.decide({"amount": 5, "customer_id": "C1"}, "k1", scorer)
    assert decision.lookups
    made = decision.lookups.decide(known)
    last = decision.fallback
    assert last.response == {**made.response, "degraded": ["history"]}
    assert last.observations == made.observations
    assert "degraded" not in made.response


LISTED = frozenset({Entry("shops", "x"), Entry("cards", "visa")})


@pytest.mark.parametrize(
    ("document", "labels"),
    [
        ({"store": "x"}, ["store in list"]),
        ({"store": "X"}, ["store not in list"]),
        ({"store": "y", "card": "VISA"}, ["store not in list", "card in list"]),
        ({"card": "Amex"}, []),
        ({"store": ""}, ["store not in list"]),
        ({"store": "x" * (MAX_ENTRY_LENGTH + 1)}, ["store not in list"]),
    ],
    ids=str,
)
def test_lists(document: dict[str, Any], labels: list[str]) -> None:
    scorer = rule_set(
        rule("store", "in list", "shops"), rule("store", "not in list", "shops"), rule("card", "in list", "cards")
    )
    made = decision_module.decide({"amount": 5, **document}, "k1", scorer)
    if made.lookups:
        made = made.lookups.decide(Known({}, LISTED))
    assert made.response["triggered_rules"] == labels
    assert "degraded" not in made.response


def test_unlistable_values_need_no_lookup() -> None:
    scorer = rule_set(rule("store", "in list", "shops"))
    for document in ({"amount": 5}, {"amount": 5, "store": ""}):
        decision = decision_module.decide(document, "k1", scorer)
        assert decision.lookups is None
        assert "degraded" not in decision.response


def test_listed_value_is_the_reason() -> None:
    made = decide({"amount": 5, "store": "x"}, rule_set(rule("store", "in list", "shops")), Known({}, LISTED))
    assert made.response["reasons"] == [{"rule": "store in list", "points": 1, "because": {"store": "x"}}]
