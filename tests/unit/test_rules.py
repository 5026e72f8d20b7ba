"""Rule sets: how one is evaluated, and every way in which one can be wrong."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import score_transaction
from scoring.assessment import RISK_LEVELS, Assessment
from scoring.errors import RuleSetError
from scoring.scorers import rules_loader
from scoring.transaction import Transaction
from tests.rule_set import DOCUMENT, R1, R3

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
    assert rules_loader.from_document(document).assess(Transaction(**tx)) == Assessment(
        score=score,
        risk_level=reached[-1] if reached else "LOW",
        triggered_rules=tuple(rule["label"] for rule in hits),
    )


@given(RULE_SETS, st.lists(TRANSACTIONS, min_size=2))
def test_a_higher_score_is_never_a_lower_level(document: Any, txs: list[dict[str, Any]]) -> None:
    rule_set = rules_loader.from_document(document)
    assessments = sorted((rule_set.assess(Transaction(**tx)) for tx in txs), key=lambda one: one.score)
    levels = [RISK_LEVELS.index(assessment.risk_level) for assessment in assessments]
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


NESTED: list[Any] = []
for _ in range(100_000):
    NESTED = [NESTED]


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
        (changed(version=""), "'version' must have 1 to 64 printable characters"),
        (changed(version="x" * 65), "'version' must have 1 to 64 printable characters"),
        (changed(version="   "), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0\nrules"), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0\x1b[31m"), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0-\ud83c"), "'version' must have 1 to 64 printable characters"),
        (changed(version=1), "'version' must have 1 to 64 printable characters"),
        (changed(rules=[]), "'rules' must be a list of 1 to 100 rules"),
        (changed(rules=DOCUMENT["rules"] * 34), "'rules' must be a list of 1 to 100 rules"),
        (changed(rules=DOCUMENT["rules"] * 2), f"Rule '{R1}' appears more than once"),
        (changed(rules=["R1"]), "Rule number 1 must be an object"),
        (changed(rules=[{"points": 1}]), "Rule number 1 lacks 'label'"),
        (with_rule(label=""), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="  "), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="two\nlines"), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="x" * 201), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(points=0), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
        (with_rule(points=True), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
        (with_rule(points=1.5), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
        (with_rule(points=1_000_001), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
        (with_rule(points=10**5000), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
        (with_rule(points=1e400), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
        (with_rule(label="half a pair: \ud83c"), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(note="x"), f"Rule '{R1}' has an unknown name 'note'"),
        (with_rule(when=[]), f"Rule '{R1}': 'when' must be a list of at least one condition"),
        (with_rule(**{"two\nlines": 1}), f"Rule '{R1}' has an unknown name 'two\\nlines'"),
        (with_rule(**{"x" * 100: 1}), f"Rule '{R1}' has an unknown name '{'x' * 64}'"),
        (with_rule(when=["amount > 1"]), f"Rule '{R1}': a condition must be an object"),
        (with_rule(when=[{"field": "amount"}]), f"Rule '{R1}': a condition lacks 'operator'"),
        (
            with_condition(field="colour"),
            f"Rule '{R1}': unknown field 'colour'; known are amount, category, hour, store",
        ),
        (with_condition(field=["amount"]), f"Rule '{R1}': unknown field an array"),
        (with_condition(operator="=>"), f"Rule '{R1}': unknown operator '=>'; known are > >= < <= == != in"),
        (with_condition(operator={}), f"Rule '{R1}': unknown operator an object"),
        (with_condition(field="store"), f"Rule '{R1}': operator '>' does not apply to 'store', which is a string"),
        (with_condition(value="3000"), f"Rule '{R1}': the value for 'amount' must be a number, not '3000'"),
        (with_condition(value=True), f"Rule '{R1}': the value for 'amount' must be a number, not a boolean"),
        (with_condition(value=float("nan")), f"Rule '{R1}': the value for 'amount' must be a finite number"),
        (with_condition(value=1e400), f"Rule '{R1}': the value for 'amount' must be a finite number"),
        (with_condition(value=NESTED), f"Rule '{R1}': the value for 'amount' must be a number, not an array"),
        (
            with_condition(operator="in", value=[1, 10**400]),
            f"Rule '{R1}': the value for 'amount' must be a finite number",
        ),
        (
            with_condition(field="store", operator="==", value="\ud83c"),
            f"Rule '{R1}': the value for 'store' must be valid Unicode text, not '\\ud83c'",
        ),
        (
            with_condition(field="store", operator="in", value=["A", "\ud83c"]),
            f"Rule '{R1}': the value for 'store' must be valid Unicode text, not '\\ud83c'",
        ),
        (with_condition(field="store", operator="==", value=1), f"Rule '{R1}': the value for 'store' must be a string"),
        (with_condition(operator="in"), f"Rule '{R1}': the value of operator 'in' must be a list"),
        (with_condition(operator="in", value=[]), f"Rule '{R1}': the value of operator 'in' must be a list"),
        (with_condition(operator="in", value=["a"]), f"Rule '{R1}': the value for 'amount' must be a number, not 'a'"),
        (changed(levels={"CRITICAL": 5, "HIGH": 3}), "The rule set's 'levels' lacks 'MEDIUM'"),
        (changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": "1"}), "'levels' must be integers from 1 to 100000000"),
        (changed(levels={"CRITICAL": 3, "HIGH": 3, "MEDIUM": 1}), "must decrease from CRITICAL to HIGH to MEDIUM"),
        (changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": 0}), "'levels' must be integers from 1 to 100000000"),
        (
            changed(levels={"CRITICAL": 10**5000, "HIGH": 3, "MEDIUM": 1}),
            "'levels' must be integers from 1 to 100000000",
        ),
        (changed(defaults=None), "The rule set's 'defaults' must be an object"),
        (changed(defaults={"store": "\ud83c"}), "'defaults': Field 'store' must be valid Unicode text"),
        (changed(defaults={"amount": 1}), "The rule set's 'defaults' has an unknown name 'amount'"),
        (changed(defaults={"hour": "noon"}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (changed(defaults={"hour": 99}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (with_condition(value=10**400), f"Rule '{R1}': the value for 'amount' must be a finite number"),
    ],
)
def test_a_wrong_rule_set_is_named(document: Any, message: str) -> None:
    with pytest.raises(RuleSetError) as caught:
        rules_loader.from_document(document)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 500


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
    rule_set = rules_loader.from_document(with_rule(when=[condition]))
    assert rule_set.assess(Transaction(**hits)).triggered_rules == (R1,)
    assert rule_set.assess(Transaction(**misses)).triggered_rules == ()


def test_a_default_stands_in_for_an_absent_field() -> None:
    rule_set = rules_loader.from_document(changed(defaults={"hour": 3}))
    assert rule_set.assess(Transaction(amount=0)).triggered_rules == (R3,)


def test_the_largest_rule_set_adds_up() -> None:
    always = {"points": rules_loader.MAX_POINTS, "when": [{"field": "amount", "operator": ">=", "value": 0}]}
    rule_set = rules_loader.from_document(
        changed(
            version="v" * 64,
            rules=[{"label": f"{number:3}" + "🂡" * 197, **always} for number in range(100)],
            levels={"CRITICAL": rules_loader.MAX_SCORE, "HIGH": 2, "MEDIUM": 1},
        )
    )
    assessment = rule_set.assess(Transaction(amount=0))
    assert (assessment.score, assessment.risk_level) == (100_000_000, "CRITICAL")
    assert len(assessment.triggered_rules) == 100


def test_long_in_list_is_fast() -> None:
    values = [f"store {number}" for number in range(60_000)]
    rule_set = rules_loader.from_document(with_rule(when=[{"field": "store", "operator": "in", "value": values}]))
    last = Transaction(amount=0, store=values[-1])
    started = time.process_time()
    assert {rule_set.assess(last).score for _ in range(1_000)} == {3}
    assert time.process_time() - started < 0.5


def twice(member: str) -> bytes:
    """A file in which one object has this member twice."""
    return json.dumps(DOCUMENT).replace(member, f"{member}, {member}", 1).encode()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The file is empty"),
        (b" \n", "The file is empty"),
        (b"{", "The file is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)"),
        (b"\xef\xbb\xbf{}", "The file is not valid JSON: it starts with a byte order mark"),
        (b'{"version": NaN}', "The file is not valid JSON: NaN is not a number in JSON"),
        (b'{"version": ' + b"1" * 4301 + b"}", "The file is not valid JSON: a number has too many digits"),
        (b"[" * 100_000, "The file is nested too deeply"),
        (b'{"version": "1", "version": "2"}', "The rule set has the name 'version' more than once"),
        (twice('"points": 3'), f"Rule '{R1}' has the name 'points' more than once"),
        (twice('"value": 3000'), f"Rule '{R1}': a condition has the name 'value' more than once"),
        (twice('"HIGH": 3'), "The rule set's 'levels' has the name 'HIGH' more than once"),
        (twice('"hour": 12'), "The rule set's 'defaults' has the name 'hour' more than once"),
        (b'{"version": "\xff"}', "The file is not valid UTF-8, from byte 13 on"),
        ('{"version": "1"}'.encode("utf-16"), "The file is not valid UTF-8, from byte 0 on"),
        (b" " * 1_000_001, "The file is larger than 1000000 bytes"),
        (b"[]", "The rule set must be an object"),
        (b"{}", "The rule set lacks 'levels'"),
        (json.dumps(with_rule(points=0)).encode(), f"Rule '{R1}': 'points' must be an integer from 1 to 1000000"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, content: bytes, error: str) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(content)
    with pytest.raises(RuleSetError) as caught:
        rules_loader.from_file(str(file))
    assert str(caught.value) == f"rules.json: {error}"


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    for path, reason in {tmp_path: "Is a directory", tmp_path / "none.json": "No such file or directory"}.items():
        with pytest.raises(RuleSetError) as caught:
            rules_loader.from_file(str(path))
        assert str(caught.value) == f"{path.name}: The file cannot be read: {reason}"


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(json.dumps(DOCUMENT).encode().ljust(rules_loader.MAX_FILE_BYTES))
    assert rules_loader.from_file(str(file)).version == DOCUMENT["version"]
