"""The rule set: what the lab prints, each threshold and its neighbours, and every way a rule set can be wrong."""

import copy
import doctest
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import rules, score_transaction
from scoring.errors import InvalidRequest, RuleSetError
from scoring.transaction import Transaction
from tests.expected import R1, R2, R3
from tests.local.template import ROOT

DOCUMENT = json.loads((ROOT / "functions/layer/scoring/rules.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("tx", "score", "risk_level", "triggered_rules"),
    [
        # Task 4.2 of the lab
        ({"tx_id": "TX001", "amount": 50.0, "category": "food", "hour": 14}, 0, "LOW", []),
        ({"tx_id": "TX002", "amount": 1800.0, "category": "electronics", "hour": 10}, 2, "MEDIUM", [R2]),
        ({"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}, 7, "CRITICAL", [R1, R2, R3]),
        # without hour, without category, without both
        ({"amount": 4500.0, "category": "electronics"}, 5, "CRITICAL", [R1, R2]),
        ({"amount": 4500.0, "hour": 3}, 5, "CRITICAL", [R1, R3]),
        ({"amount": 4500.0}, 3, "HIGH", [R1]),
        # each threshold and one unit beside it
        ({"amount": 2999}, 0, "LOW", []),
        ({"amount": 3000}, 0, "LOW", []),
        ({"amount": 3001}, 3, "HIGH", [R1]),
        ({"amount": 3000.01}, 3, "HIGH", [R1]),
        ({"amount": 1499, "category": "electronics"}, 0, "LOW", []),
        ({"amount": 1500, "category": "electronics"}, 0, "LOW", []),
        ({"amount": 1501, "category": "electronics"}, 2, "MEDIUM", [R2]),
        ({"amount": 1501, "category": "Electronics"}, 0, "LOW", []),
        ({"amount": 0, "hour": 5}, 2, "MEDIUM", [R3]),
        ({"amount": 0, "hour": 6}, 0, "LOW", []),
        ({"amount": 0, "hour": 7}, 0, "LOW", []),
        ({"amount": 0, "hour": 0}, 2, "MEDIUM", [R3]),
        ({"amount": 0}, 0, "LOW", []),
    ],
)
def test_score_transaction(tx: dict[str, Any], score: int, risk_level: str, triggered_rules: list[str]) -> None:
    assert score_transaction(tx) == {"score": score, "risk_level": risk_level, "triggered_rules": triggered_rules}


def test_score_transaction_takes_nothing_wrong_for_low() -> None:
    with pytest.raises(InvalidRequest, match="Missing required field 'amount'"):
        score_transaction({"tx_id": "TX000"})


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(rules).failed == 0


@given(
    amount=st.one_of(st.integers(0, 10**6), st.floats(0, 1e9)),
    category=st.none() | st.sampled_from(["electronics", "food"]),
    hour=st.none() | st.integers(0, 23),
)
def test_agrees_with_the_lab(amount: float, category: str | None, hour: int | None) -> None:
    """The lab's function, restated from its text, is the reference."""
    tx: dict[str, Any] = {
        name: value
        for name, value in {"amount": amount, "category": category, "hour": hour}.items()
        if value is not None
    }
    points = {
        R1: 3 if tx["amount"] > 3000 else 0,
        R2: 2 if tx.get("category") == "electronics" and tx["amount"] > 1500 else 0,
        R3: 2 if tx.get("hour", 12) < 6 else 0,
    }
    score = sum(points.values())
    level = "CRITICAL" if score >= 5 else "HIGH" if score >= 3 else "MEDIUM" if score >= 1 else "LOW"
    expected = {
        "score": score,
        "risk_level": level,
        "triggered_rules": [rule for rule, value in points.items() if value],
    }
    assert score_transaction(tx) == expected


NUMBER_CONDITIONS = st.fixed_dictionaries(
    {
        "field": st.sampled_from(["amount", "hour"]),
        "operator": st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
        "value": st.integers(0, 30) | st.floats(0, 30),
    }
)
TEXT_CONDITIONS = st.fixed_dictionaries(
    {
        "field": st.sampled_from(["category", "store"]),
        "operator": st.sampled_from(["==", "!="]),
        "value": st.sampled_from(["a", "b"]),
    }
) | st.fixed_dictionaries(
    {
        "field": st.sampled_from(["category", "store"]),
        "operator": st.just("in"),
        "value": st.lists(st.sampled_from(["a", "b"]), min_size=1),
    }
)
RULE_SETS = st.builds(
    lambda rules, least, defaults: {
        "version": "1",
        "rules": [{"label": f"R{number}", **rule} for number, rule in enumerate(rules)],
        "levels": dict(zip(["MEDIUM", "HIGH", "CRITICAL"], sorted(least), strict=True)),
        "defaults": defaults,
    },
    st.lists(
        st.fixed_dictionaries(
            {
                "points": st.integers(1, 5),
                "when": st.lists(NUMBER_CONDITIONS | TEXT_CONDITIONS, min_size=1, max_size=3),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    st.sets(st.integers(1, 12), min_size=3, max_size=3),
    st.fixed_dictionaries({}, optional={"hour": st.integers(0, 23), "store": st.sampled_from(["a", "b"])}),
)
TRANSACTIONS = st.fixed_dictionaries(
    {"amount": st.integers(0, 30) | st.floats(0, 30)},
    optional={
        "hour": st.integers(0, 23),
        "category": st.sampled_from(["a", "b", "c"]),
        "store": st.sampled_from(["a", "b", "c"]),
    },
)
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "in": lambda one, other: one in other,
}


@given(RULE_SETS, TRANSACTIONS)
@settings(max_examples=500)
def test_the_score_is_the_sum_of_the_rules_whose_conditions_hold(document: Any, tx: dict[str, Any]) -> None:
    fields = document["defaults"] | tx
    hits = [
        rule
        for rule in document["rules"]
        if all(
            one["field"] in fields and COMPARED[one["operator"]](fields[one["field"]], one["value"])
            for one in rule["when"]
        )
    ]
    score = sum(rule["points"] for rule in hits)
    reached = [level for level, least in document["levels"].items() if score >= least]
    assert rules.load(document).assess(Transaction(**tx)) == rules.Assessment(
        score=score,
        risk_level=reached[-1] if reached else "LOW",
        triggered_rules=tuple(rule["label"] for rule in hits),
    )


@given(RULE_SETS, st.lists(TRANSACTIONS, min_size=2))
def test_a_higher_score_is_never_a_lower_level(document: Any, txs: list[dict[str, Any]]) -> None:
    rule_set = rules.load(document)
    assessments = sorted((rule_set.assess(Transaction(**tx)) for tx in txs), key=lambda one: one.score)
    levels = [rules.RISK_LEVELS.index(assessment.risk_level) for assessment in assessments]
    assert levels == sorted(levels)


@given(
    TRANSACTIONS,
    st.dictionaries(
        st.text().filter(lambda name: name not in {"amount", "hour", "category", "store", "tx_id"}), st.text()
    ),
)
def test_scoring_depends_on_the_known_fields_alone(tx: dict[str, Any], unknown: dict[str, str]) -> None:
    given_away = {**unknown, **tx}
    before = copy.deepcopy(given_away)
    assert score_transaction(given_away) == score_transaction(tx) == score_transaction(given_away)
    assert given_away == before


def test_version() -> None:
    assert rules.RULE_SET.version == "1.0-rules"


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(DOCUMENT), **changes}


def with_rule(**changes: Any) -> dict[str, Any]:
    return changed(rules=[{**copy.deepcopy(DOCUMENT["rules"][0]), **changes}])


def with_condition(**changes: Any) -> dict[str, Any]:
    return with_rule(when=[{"field": "amount", "operator": ">", "value": 3000, **changes}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "The rule set must be an object"),
        ({}, "The rule set lacks 'levels'"),
        (changed(extra=1), "The rule set has an unknown name 'extra'"),
        (changed(version=""), "'version' must be a string of 1 to 64 characters"),
        (changed(version=1), "'version' must be a string of 1 to 64 characters"),
        (changed(rules=[]), "'rules' must be a list of 1 to 100 rules"),
        (changed(rules=DOCUMENT["rules"] * 34), "'rules' must be a list of 1 to 100 rules"),
        (changed(rules=DOCUMENT["rules"] * 2), f"Rule '{R1}' appears more than once"),
        (changed(rules=["R1"]), "Rule number 1 must have a 'label'"),
        (with_rule(label=""), "Rule number 1 must have a 'label'"),
        (with_rule(label="  "), "Rule number 1 must have a 'label'"),
        (with_rule(label="two\nlines"), "Rule number 1 must have a 'label'"),
        (with_rule(label="x" * 201), "Rule number 1 must have a 'label'"),
        (with_rule(points=0), f"Rule '{R1}': 'points' must be an integer of at least 1"),
        (with_rule(points=True), f"Rule '{R1}': 'points' must be an integer of at least 1"),
        (with_rule(points=1.5), f"Rule '{R1}': 'points' must be an integer of at least 1"),
        (with_rule(note="x"), f"Rule '{R1}' has an unknown name 'note'"),
        (with_rule(when=[]), f"Rule '{R1}': 'when' must be a list of at least one condition"),
        (with_rule(when=["amount > 1"]), f"Rule '{R1}': a condition must be an object"),
        (with_rule(when=[{"field": "amount"}]), f"Rule '{R1}': a condition lacks 'operator'"),
        (
            with_condition(field="colour"),
            f"Rule '{R1}': unknown field 'colour'; known are amount, category, hour, store",
        ),
        (with_condition(field=["amount"]), f"Rule '{R1}': unknown field ['amount']"),
        (with_condition(operator="=>"), f"Rule '{R1}': unknown operator '=>'; known are > >= < <= == != in"),
        (with_condition(operator={}), f"Rule '{R1}': unknown operator {{}}"),
        (with_condition(field="store"), f"Rule '{R1}': operator '>' does not apply to 'store', which is a string"),
        (with_condition(value="3000"), f"Rule '{R1}': the value for 'amount' must be a number, not '3000'"),
        (with_condition(value=True), f"Rule '{R1}': the value for 'amount' must be a number, not True"),
        (with_condition(value=float("nan")), f"Rule '{R1}': the value for 'amount' must be a number, not nan"),
        (with_condition(field="store", operator="==", value=1), f"Rule '{R1}': the value for 'store' must be a string"),
        (with_condition(operator="in"), f"Rule '{R1}': the value of operator 'in' must be a list"),
        (with_condition(operator="in", value=[]), f"Rule '{R1}': the value of operator 'in' must be a list"),
        (with_condition(operator="in", value=["a"]), f"Rule '{R1}': the value for 'amount' must be a number, not 'a'"),
        (changed(levels={"CRITICAL": 5, "HIGH": 3}), "The rule set's 'levels' lacks 'MEDIUM'"),
        (changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": "1"}), "'levels' must be integers, not '1'"),
        (changed(levels={"CRITICAL": 3, "HIGH": 3, "MEDIUM": 1}), "must fall from CRITICAL to MEDIUM"),
        (changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": 0}), "must fall from CRITICAL to MEDIUM"),
        (changed(defaults={"amount": 1}), "The rule set's 'defaults' has an unknown name 'amount'"),
        (changed(defaults={"hour": "noon"}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (changed(defaults={"hour": 99}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (with_condition(value=10**400), f"Rule '{R1}': the value for 'amount' must be a number, not 1000"),
    ],
)
def test_a_wrong_rule_set_is_named(document: Any, message: str) -> None:
    with pytest.raises(RuleSetError) as caught:
        rules.load(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "hits", "misses"),
    [
        ({"field": "amount", "operator": ">=", "value": 10}, {"amount": 10}, {"amount": 9}),
        ({"field": "amount", "operator": "<=", "value": 10}, {"amount": 10}, {"amount": 11}),
        ({"field": "hour", "operator": "in", "value": [1, 2]}, {"amount": 0, "hour": 2}, {"amount": 0, "hour": 3}),
        (
            {"field": "store", "operator": "in", "value": ["A"]},
            {"amount": 0, "store": "A"},
            {"amount": 0, "store": "B"},
        ),
        ({"field": "store", "operator": "!=", "value": "A"}, {"amount": 0, "store": "B"}, {"amount": 0, "store": "A"}),
        # a condition on a field that is not there does not hold, whatever the operator
        ({"field": "store", "operator": "!=", "value": "A"}, {"amount": 0, "store": ""}, {"amount": 0}),
    ],
)
def test_operators(condition: dict[str, Any], hits: dict[str, Any], misses: dict[str, Any]) -> None:
    rule_set = rules.load(with_rule(when=[condition]))
    assert rule_set.assess(Transaction(**hits)).triggered_rules == (R1,)
    assert rule_set.assess(Transaction(**misses)).triggered_rules == ()


def test_a_default_stands_in_for_an_absent_field() -> None:
    rule_set = rules.load(changed(defaults={"hour": 3}))
    assert rule_set.assess(Transaction(amount=0)).triggered_rules == (R3,)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", r"rules\.json: The body is not valid JSON"),
        (b'{"version": "1", "version": "2"}', r"rules\.json: Field 'version' appears more than once"),
        (b"\xff", r"rules\.json: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes, error: str) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(content)
    with pytest.raises(RuleSetError, match=error):
        rules._read(str(file))
