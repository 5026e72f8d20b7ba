"""Evaluation of rule sets."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.assessment import RISK_LEVELS, Assessment
from scoring.scorers import rules_loader
from scoring.scorers.rules import RuleSet
from scoring.transaction import Transaction
from tests.rule_set import DOCUMENT, R1, R3
from tests.unit.strategies import TRANSACTIONS

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
    lambda rules, thresholds, defaults: {
        "version": "1",
        "rules": [{"label": f"R{number}", **rule} for number, rule in enumerate(rules)],
        "levels": dict(zip(["MEDIUM", "HIGH", "CRITICAL"], sorted(thresholds), strict=True)),
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
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
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
def test_assessment_follows_the_definition(document: Any, tx: dict[str, Any]) -> None:
    fields = document["defaults"] | tx
    hits = [
        rule
        for rule in document["rules"]
        if all(
            condition["field"] in fields
            and OPERATORS[condition["operator"]](fields[condition["field"]], condition["value"])
            for condition in rule["when"]
        )
    ]
    score = sum(rule["points"] for rule in hits)
    reached = [level for level, minimum in document["levels"].items() if score >= minimum]
    assert rules_loader.from_document(document).assess(Transaction(**tx)) == Assessment(
        score=score,
        risk_level=reached[-1] if reached else "LOW",
        triggered_rules=tuple(rule["label"] for rule in hits),
    )


@given(RULE_SETS, st.lists(TRANSACTIONS, min_size=2))
def test_level_increases_with_the_score(document: Any, txs: list[dict[str, Any]]) -> None:
    rule_set = rules_loader.from_document(document)
    assessments = sorted((rule_set.assess(Transaction(**tx)) for tx in txs), key=lambda one: one.score)
    levels = [RISK_LEVELS.index(assessment.risk_level) for assessment in assessments]
    assert levels == sorted(levels)


def rule_set_with(condition: dict[str, Any]) -> RuleSet:
    return rules_loader.from_document({**DOCUMENT, "rules": [{**DOCUMENT["rules"][0], "when": [condition]}]})


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
        # A condition on a missing field does not hold, not even with `!=`.
        ({"field": "store", "operator": "!=", "value": "A"}, {"amount": 0, "store": ""}, {"amount": 0}),
    ],
)
def test_operators(condition: dict[str, Any], hits: dict[str, Any], misses: dict[str, Any]) -> None:
    rule_set = rule_set_with(condition)
    assert rule_set.assess(Transaction(**hits)).triggered_rules == (R1,)
    assert rule_set.assess(Transaction(**misses)).triggered_rules == ()


def test_default_replaces_a_missing_field() -> None:
    rule_set = rules_loader.from_document({**DOCUMENT, "defaults": {"hour": 3}})
    assert rule_set.assess(Transaction(amount=0)).triggered_rules == (R3,)


def test_largest_rule_set() -> None:
    always = {"points": rules_loader.MAX_POINTS, "when": [{"field": "amount", "operator": ">=", "value": 0}]}
    rule_set = rules_loader.from_document(
        {
            **DOCUMENT,
            "version": "v" * 64,
            "rules": [{"label": f"{number:3}" + "🂡" * 197, **always} for number in range(100)],
            "levels": {"CRITICAL": rules_loader.MAX_SCORE, "HIGH": 2, "MEDIUM": 1},
        }
    )
    assessment = rule_set.assess(Transaction(amount=0))
    assert (assessment.score, assessment.risk_level) == (100_000_000, "CRITICAL")
    assert len(assessment.triggered_rules) == 100


def test_long_in_list_is_fast() -> None:
    values = [f"store {number}" for number in range(60_000)]
    rule_set = rule_set_with({"field": "store", "operator": "in", "value": values})
    last = Transaction(amount=0, store=values[-1])
    start = time.process_time()
    assert {rule_set.assess(last).score for _ in range(1_000)} == {3}
    assert time.process_time() - start < 0.5
