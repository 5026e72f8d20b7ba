"""Evaluation of rule sets: operators, groups, levels and reasons.

``test_generated_rule_sets`` compares it with the reference evaluator.
"""

import time
from typing import Any

import pytest

from scoring.assessment import RISK_LEVELS, Assessment
from scoring.scorers import rules_loader
from scoring.scorers.rules import MAX_QUOTED_VALUES, RuleSet
from tests.rule_set import DOCUMENT, R1, R3

FIELDS: dict[str, Any] = {
    "country": {"type": "string", "case": "ignore"},
    "card_country": {"type": "string"},
    "usual_amount": {"type": "number"},
    "items": {"type": "integer"},
    "card_present": {"type": "boolean"},
    "at": {"type": "time"},
    "card_since": {"type": "time"},
}
# A Saturday. The same instant as 2026-11-27T23:30:00Z, a Friday.
SATURDAY = "2026-11-28T00:30:00+01:00"


def rule_set(*rules: dict[str, Any], **changes: Any) -> RuleSet:
    labelled = [{"label": f"R{number}", "points": 1, **rule} for number, rule in enumerate(rules, start=1)]
    return rules_loader.from_document({**DOCUMENT, "fields": FIELDS, "rules": labelled, **changes})


def assess(rules: RuleSet, tx: dict[str, Any]) -> Assessment:
    return rules.assess(rules.fields.read({"amount": 20, **tx}))


def hits(condition: dict[str, Any], tx: dict[str, Any]) -> bool:
    return assess(rule_set({"when": [condition]}, defaults={}), tx).triggered_rules == ("R1",)


def compare(field: str, sign: str, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"field": field, "operator": sign, **({} if value is None else {"value": value}), **more}


@pytest.mark.parametrize(
    ("condition", "hit", "miss"),
    [
        (compare("amount", "==", 10), {"amount": 10.0}, {"amount": 10.5}),
        (compare("amount", "!=", 10), {"amount": 10.5}, {"amount": 10}),
        (compare("amount", ">", 10), {"amount": 10.5}, {"amount": 10}),
        (compare("amount", ">=", 10), {"amount": 10}, {"amount": 9.99}),
        (compare("amount", "<", 10), {"amount": 9.99}, {"amount": 10}),
        (compare("amount", "<=", 10), {"amount": 10}, {"amount": 10.5}),
        (compare("items", "in", [1, 2.0]), {"items": 2}, {"items": 3}),
        (compare("items", "not in", [1, 2]), {"items": 3}, {"items": 2}),
        (compare("amount", "between", [10, 20]), {"amount": 10}, {"amount": 9.99}),
        (compare("amount", "between", [10, 20]), {"amount": 20}, {"amount": 20.01}),
        (compare("amount", "between", [20, 10]), {"hour": 1, "amount": 20}, None),
        (compare("hour", "between", [22, 5]), {"hour": 22}, {"hour": 21}),
        (compare("hour", "between", [22, 5]), {"hour": 5}, {"hour": 6}),
        (compare("hour", "between", [22, 5]), {"hour": 0}, {"hour": 12}),
        (compare("hour", "between", [5, 22]), {"hour": 12}, {"hour": 4}),
        (compare("store", "==", "A"), {"store": "A"}, {"store": "a"}),
        (compare("store", "!=", "A"), {"store": "a"}, {"store": "A"}),
        (compare("store", "in", ["A", "B"]), {"store": "B"}, {"store": "b"}),
        (compare("store", "not in", ["A", "B"]), {"store": ""}, {"store": "A"}),
        (compare("store", "starts with", "AB"), {"store": "ABC"}, {"store": "CAB"}),
        (compare("store", "ends with", "AB"), {"store": "CAB"}, {"store": "ABC"}),
        (compare("store", "contains", "AB"), {"store": "CABC"}, {"store": "CaBC"}),
        # `country` ignores case, in the rule as in the transaction.
        (compare("country", "==", "Pl"), {"country": "pL"}, {"country": "DE"}),
        (compare("country", "!=", "Pl"), {"country": "DE"}, {"country": "pL"}),
        (compare("country", "in", ["PL", "de"]), {"country": "De"}, {"country": "FR"}),
        (compare("country", "starts with", "stra\u00df"), {"country": "STRASSE"}, {"country": "ST"}),
        (compare("card_present", "==", value=False), {"card_present": False}, {"card_present": True}),
        (compare("card_present", "!=", value=False), {"card_present": True}, {"card_present": False}),
        (compare("at", "==", "2026-11-27T23:30:00Z"), {"at": SATURDAY}, {"at": "2026-11-28T00:30:00Z"}),
        (compare("at", ">", "2026-11-27T23:30:00Z"), {"at": "2026-11-27T23:30:00.000001z"}, {"at": SATURDAY}),
        (
            compare("at", "between", ["2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"]),
            {"at": SATURDAY},
            {"at": "2026-11-28T00:00:01Z"},
        ),
        # Hour and weekday are those of the time's own offset.
        (compare("at", "==", 0, of="hour"), {"at": SATURDAY}, {"at": "2026-11-27T23:30:00Z"}),
        (compare("at", "between", [22, 5], of="hour"), {"at": SATURDAY}, {"at": "2026-11-28T12:00:00Z"}),
        (
            compare("at", "in", ["saturday", "sunday"], of="weekday"),
            {"at": SATURDAY},
            {"at": "2026-11-27T23:30:00Z"},
        ),
        (compare("at", "!=", "friday", of="weekday"), {"at": SATURDAY}, {"at": "2026-11-27T23:30:00Z"}),
        # Other fields
        (compare("store", "!=", other="category"), {"store": "a", "category": "A"}, {"store": "a", "category": "a"}),
        (compare("country", "==", other="card_country"), {"country": "pl", "card_country": "PL"}, {"country": "pl"}),
        (compare("card_country", "!=", other="country"), {"country": "pl", "card_country": "DE"}, {"country": "pl"}),
        (compare("amount", ">", other="usual_amount"), {"usual_amount": 19.5}, {"usual_amount": 20}),
        (
            compare("amount", ">=", other="usual_amount", times=2.5),
            {"amount": 25, "usual_amount": 10},
            {"amount": 24.9, "usual_amount": 10},
        ),
        (compare("items", "==", other="hour"), {"items": 3, "hour": 3}, {"items": 3, "hour": 4}),
        (
            compare("at", "<", other="card_since"),
            {"at": SATURDAY, "card_since": "2026-11-27T23:30:01Z"},
            {"at": SATURDAY},
        ),
        # Missing fields
        (compare("store", "is missing"), {}, {"store": ""}),
        (compare("store", "is present"), {"store": ""}, {}),
        # Groups
        ({"all": [compare("hour", "==", 3), compare("amount", ">", 10)]}, {"hour": 3}, {"hour": 3, "amount": 10}),
        ({"any": [compare("hour", "==", 3), compare("amount", ">", 50)]}, {"amount": 51}, {"hour": 4}),
        ({"not": compare("hour", "==", 3)}, {"hour": 4}, {"hour": 3}),
        ({"not": {"any": [compare("hour", "<", 3), compare("hour", ">", 5)]}}, {"hour": 4}, {"hour": 6}),
        ({"not": {"all": [compare("hour", "<", 3), compare("amount", ">", 5)]}}, {"hour": 4}, {"hour": 1}),
        # `not` holds if the condition does not, so also on a missing field.
        ({"not": compare("store", "==", "A")}, {}, {"store": "A"}),
    ],
)
def test_condition(condition: dict[str, Any], hit: dict[str, Any], miss: dict[str, Any] | None) -> None:
    if miss is None:
        assert not hits(condition, hit)
    else:
        assert (hits(condition, hit), hits(condition, miss)) == (True, False)


BLOCKED, TRUSTED = "store in list blocked", "country in list trusted"


@pytest.mark.parametrize(
    ("condition", "hit", "miss"),
    [
        (compare("customer.count_1h", ">=", 3), {"customer.count_1h": 3}, {"customer.count_1h": 2}),
        (compare("customer.count_7d", "in", [0, 64]), {"customer.count_7d": 64}, {"customer.count_7d": 63}),
        (compare("customer.sum_24h", "between", [10, 20]), {"customer.sum_24h": 10.0}, {"customer.sum_24h": 9.5}),
        (compare("customer.is_new", "==", value=True), {"customer.is_new": True}, {"customer.is_new": False}),
        (compare("amount", ">", other="customer.max_24h", times=3), {"customer.max_24h": 6}, {"customer.max_24h": 7}),
        (compare("customer.count_1h", "==", other="items"), {"customer.count_1h": 0, "items": 0}, {"items": 0}),
        # Null is missing: no comparison with it holds.
        (compare("customer.amount_ratio", "is missing"), {}, {"customer.amount_ratio": 0.0}),
        (compare("customer.amount_ratio", "is present"), {"customer.amount_ratio": 0.0}, {}),
        (compare("customer.seconds_since_last", "!=", 5), {"customer.seconds_since_last": 4}, {}),
        (compare("customer.is_new", "!=", value=False), {"customer.is_new": True}, {}),
        (compare("amount", "<", other="customer.sum_24h"), {"customer.sum_24h": 21}, {}),
        ({"not": compare("customer.count_1h", ">", 3)}, {}, {"customer.count_1h": 4}),
        # On the list, not on it, and unknown
        (compare("store", "in list", "blocked"), {"store": "A", BLOCKED: True}, {"store": "A", BLOCKED: False}),
        (compare("store", "in list", "blocked"), {"store": "A", BLOCKED: True}, {"store": "A"}),
        (compare("store", "not in list", "blocked"), {"store": "A", BLOCKED: False}, {"store": "A", BLOCKED: True}),
        (compare("store", "not in list", "blocked"), {"store": "A", BLOCKED: False}, {"store": "A"}),
        (compare("store", "not in list", "blocked"), {"store": "A", BLOCKED: False}, {}),
        ({"not": compare("store", "in list", "blocked")}, {"store": "A"}, {"store": "A", BLOCKED: True}),
        (compare("country", "in list", "trusted"), {"country": "PL", TRUSTED: True}, {"country": "PL", BLOCKED: True}),
    ],
)
def test_condition_on_history_or_list(condition: dict[str, Any], hit: dict[str, Any], miss: dict[str, Any]) -> None:
    rules = rule_set({"when": [condition]})

    def hits_with(values: dict[str, Any]) -> bool:
        known = {name: value for name, value in values.items() if "." in name or " " in name}
        read = rules.fields.read({"amount": 20, **{name: values[name] for name in values.keys() - known.keys()}})
        return rules.assess(read._replace(facts={**read.facts, **known})).triggered_rules == ("R1",)

    assert (hits_with(hit), hits_with(miss)) == (True, False)


def test_reasons_quote_history_and_the_value_on_a_list() -> None:
    conditions = [
        compare("amount", ">", other="customer.max_24h"),
        compare("customer.amount_ratio", "is missing"),
        compare("store", "in list", "blocked"),
        compare("hour", "<", 6),
    ]
    rules = rule_set({"when": conditions}, defaults={"hour": 12})
    read = rules.fields.read({"amount": 20, "store": "A", "timestamp": "2026-11-25T03:00:00+01:00"})
    history = {"customer.max_24h": 0.0}
    read = read._replace(facts={**read.facts, **history, BLOCKED: True}, derived={**read.derived, **history})
    (reason,) = rules.assess(read).reasons
    assert reason["because"] == {
        "amount": 20,
        "customer.max_24h": 0.0,
        "customer.amount_ratio": None,
        "store": "A",
        "hour": 3,
    }


@pytest.mark.parametrize(
    "condition",
    [
        *(compare("store", sign, "A") for sign in ("==", "!=", "starts with", "ends with", "contains")),
        *(compare("store", sign, ["A"]) for sign in ("in", "not in")),
        *(compare("usual_amount", sign, 0) for sign in ("==", "!=", ">", ">=", "<", "<=")),
        compare("hour", "between", [22, 5]),
        compare("card_present", "!=", value=True),
        compare("at", ">", "2026-11-27T23:30:00Z"),
        compare("at", "not in", ["monday"], of="weekday"),
        compare("at", "<", 24, of="hour"),
        compare("amount", "!=", other="usual_amount"),
        compare("usual_amount", "!=", other="amount", times=2),
        compare("country", "!=", other="card_country"),
    ],
)
def test_no_comparison_with_a_missing_field_holds(condition: dict[str, Any]) -> None:
    assert not hits(condition, {})
    assert hits({"not": condition}, {})


def test_default_replaces_a_missing_field() -> None:
    night = rules_loader.from_document({**DOCUMENT, "defaults": {"hour": 3}})
    assert assess(night, {}).triggered_rules == (R3,)
    missing = rule_set({"when": [compare("country", "is missing")]}, {"when": [compare("country", "==", "pl")]})
    assert assess(missing, {}).triggered_rules == ("R1",)
    default = {"defaults": {"country": "PL"}}
    replaced = rule_set(
        {"when": [compare("country", "is missing")]}, {"when": [compare("country", "==", "pl")]}, **default
    )
    assert assess(replaced, {}).reasons == ({"rule": "R2", "points": 1, "because": {"country": "PL"}},)


ALWAYS = [compare("amount", ">=", 0)]
LEVELS = {"CRITICAL": 30, "HIGH": 20, "MEDIUM": 10}


@pytest.mark.parametrize(
    ("rules", "score", "level", "setters"),
    [
        # Points alone; a negative sum counts as 0.
        ([{"points": 20}], 20, "HIGH", []),
        ([{"points": 20}, {"points": -11}], 9, "LOW", []),
        ([{"points": 5}, {"points": -11}], 0, "LOW", []),
        ([{"points": 0}], 0, "LOW", []),
        # Floors
        ([{"level": "at least CRITICAL"}], 0, "CRITICAL", [1]),
        ([{"level": "at least MEDIUM"}, {"level": "at least HIGH"}], 0, "HIGH", [2]),
        ([{"level": "at least HIGH"}, {"level": "at least HIGH"}], 0, "HIGH", [1, 2]),
        ([{"level": "at least HIGH"}, {"points": 30}], 30, "CRITICAL", []),
        ([{"level": "at least HIGH", "points": 20}], 20, "HIGH", []),
        # Ceilings
        ([{"points": 30}, {"level": "at most LOW"}], 30, "LOW", [2]),
        ([{"points": 30}, {"level": "at most MEDIUM"}, {"level": "at most HIGH"}], 30, "MEDIUM", [2]),
        ([{"points": 10}, {"level": "at most MEDIUM"}], 10, "MEDIUM", []),
        # Floors win over ceilings.
        ([{"points": 30}, {"level": "at most LOW"}, {"level": "at least HIGH"}], 30, "HIGH", [3]),
        ([{"level": "at least HIGH"}, {"level": "at most LOW"}, {"points": 20}], 20, "HIGH", [1]),
        ([{"points": 30}, {"level": "at most HIGH"}, {"level": "at least MEDIUM"}], 30, "HIGH", [2]),
        ([{"points": 30}, {"level": "at most HIGH"}, {"level": "at least HIGH"}], 30, "HIGH", [2]),
        (
            [{"points": 30}, {"level": "at most LOW"}, {"level": "at most MEDIUM"}, {"level": "at least MEDIUM"}],
            30,
            "MEDIUM",
            [4],
        ),
    ],
)
def test_level(rules: list[dict[str, Any]], score: int, level: str, setters: list[int]) -> None:
    """``setters`` are the numbers of the rules whose reason says that they set the level."""
    labelled = [{"label": f"R{number}", "when": ALWAYS, **rule} for number, rule in enumerate(rules, start=1)]
    found = assess(rules_loader.from_document({**DOCUMENT, "rules": labelled, "levels": LEVELS}), {})
    assert (found.score, found.risk_level) == (score, level)
    assert {int(reason["rule"][1:]): reason["level"] for reason in found.reasons if "level" in reason} == {
        number: rules[number - 1]["level"] for number in setters
    }


@pytest.mark.parametrize(
    ("rules", "at_least", "score", "level", "setters"),
    [
        # No hit, and hits whose points give a lower or a higher level
        ([], "LOW", 0, "LOW", []),
        ([], "MEDIUM", 0, "MEDIUM", []),
        ([], "CRITICAL", 0, "CRITICAL", []),
        ([{"points": 10}], "HIGH", 10, "HIGH", []),
        ([{"points": 20}], "MEDIUM", 20, "HIGH", []),
        ([{"points": -5}], "HIGH", 0, "HIGH", []),
        # Ceilings and floors apply to it.
        ([{"level": "at most LOW"}], "CRITICAL", 0, "LOW", [1]),
        ([{"level": "at most HIGH"}], "CRITICAL", 0, "HIGH", [1]),
        ([{"level": "at most HIGH"}], "HIGH", 0, "HIGH", []),
        ([{"level": "at least HIGH"}], "MEDIUM", 0, "HIGH", [1]),
        ([{"level": "at least HIGH"}], "HIGH", 0, "HIGH", []),
        ([{"level": "at least HIGH"}], "CRITICAL", 0, "CRITICAL", []),
        ([{"level": "at most LOW"}, {"level": "at least MEDIUM"}], "CRITICAL", 0, "MEDIUM", [2]),
    ],
)
def test_level_that_a_caller_asks_for(
    rules: list[dict[str, Any]], at_least: str, score: int, level: str, setters: list[int]
) -> None:
    """``setters`` are the numbers of the rules whose reason says that they set the level."""
    never = {"points": 100, "when": [compare("amount", "<", 0)]}
    found = rule_set(*[{"points": 0, "when": ALWAYS, **rule} for rule in rules], never, levels=LEVELS)
    assessment = found.assess(found.fields.read({"amount": 20}), RISK_LEVELS.index(at_least))
    assert (assessment.score, assessment.risk_level, assessment.details) == (score, level, {})
    assert len(assessment.triggered_rules) == len(rules)
    assert [number for number, reason in enumerate(assessment.reasons, start=1) if "level" in reason] == setters


@pytest.mark.parametrize(
    ("when", "tx", "because"),
    [
        ([compare("amount", ">", 5), compare("hour", "==", 12)], {}, {"amount": 20, "hour": 12}),
        (
            [compare("amount", ">", other="usual_amount", times=2)],
            {"usual_amount": 5},
            {"amount": 20, "usual_amount": 5},
        ),
        # As sent: not folded, not parsed
        ([compare("country", "==", "pl"), compare("at", "==", 0, of="hour")], {"country": "Pl", "at": SATURDAY}, None),
        ([compare("store", "is missing")], {}, {"store": None}),
        # Of `any`, only the parts that hold
        ([{"any": [compare("hour", "==", 1), compare("amount", ">", 5)]}], {"hour": 2}, {"amount": 20}),
        (
            [{"any": [{"all": [compare("hour", "==", 2), compare("amount", ">", 50)]}, compare("store", "==", "A")]}],
            {"hour": 2, "store": "A"},
            {"store": "A"},
        ),
        # Of `not`, the parts that fail: one is enough for `all`, while `any` needs every part.
        ([{"not": {"all": [compare("hour", "==", 2), compare("amount", ">", 50)]}}], {"hour": 2}, {"amount": 20}),
        (
            [{"not": {"any": [compare("hour", "==", 1), compare("amount", ">", 50)]}}],
            {"hour": 2},
            {"hour": 2, "amount": 20},
        ),
        ([{"not": {"not": {"any": [compare("hour", "==", 1), compare("amount", ">", 5)]}}}], {}, {"amount": 20}),
        ([compare("store", "contains", "xx")], {"store": "x" * 65}, {"store": "x" * 63 + "…"}),
        ([compare("store", "contains", "xx")], {"store": "x" * 64}, {"store": "x" * 64}),
    ],
)
def test_because(when: list[Any], tx: dict[str, Any], because: dict[str, Any] | None) -> None:
    (reason,) = assess(rule_set({"when": when}), tx).reasons
    assert reason == {"rule": "R1", "points": 1, "because": tx if because is None else because}


def test_reasons_quote_a_limited_number_of_values() -> None:
    when = [compare("amount", ">=", 0), compare("hour", ">=", 0), compare("store", "is missing")]
    found = assess(rule_set(*[{"when": when}] * 40), {"hour": 1})
    quoted = [len(reason["because"]) for reason in found.reasons]
    assert quoted == [3] * 33 + [1] + [0] * 6
    assert sum(quoted) == MAX_QUOTED_VALUES


def test_disabled_rule_is_not_evaluated() -> None:
    rules = rule_set({"when": ALWAYS, "enabled": False}, {"when": ALWAYS, "enabled": True})
    assert rules.labels == ("R2",)
    assert assess(rules, {}).triggered_rules == ("R2",)


def test_largest_rule_set() -> None:
    rules = rules_loader.from_document(
        {
            **DOCUMENT,
            "version": "v" * 64,
            "rules": [
                {"label": f"{number:3}" + "🂡" * 97, "points": rules_loader.MAX_POINTS, "when": ALWAYS}
                for number in range(200)
            ],
            "levels": {"CRITICAL": rules_loader.MAX_SCORE, "HIGH": 2, "MEDIUM": 1},
        }
    )
    assessment = assess(rules, {})
    assert (assessment.score, assessment.risk_level) == (200_000_000, "CRITICAL")
    assert len(assessment.triggered_rules) == 200


def test_long_in_list_is_fast() -> None:
    values = [f"store {number}" for number in range(60_000)]
    rules = rule_set({"points": 3, "when": [compare("store", "in", values)]})
    last = rules.fields.read({"amount": 0, "store": values[-1]})
    start = time.process_time()
    assert {rules.assess(last).score for _ in range(1_000)} == {3}
    assert time.process_time() - start < 0.5


def test_reading_a_transaction_changes_neither_it_nor_the_rules() -> None:
    rules = rule_set({"label": R1, "when": [compare("country", "==", "pl")]})
    sent = {"amount": 20, "country": "PL"}
    transaction = rules.fields.read(sent)
    assert transaction.values == sent
    assert transaction.facts == {"amount": 20, "country": "pl", "hour": 12}
    assert rules.assess(transaction) == rules.assess(rules.fields.read(sent))
    assert sent == {"amount": 20, "country": "PL"}
