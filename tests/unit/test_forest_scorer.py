"""A model with the rules as a floor: levels, what the response says, and rule sets that a model does not fit."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import decision
from scoring.assessment import RISK_LEVELS
from scoring.errors import ModelError
from scoring.history.profiles import Features
from scoring.lookups import Known, enriched
from scoring.scorers import rules_loader
from scoring.scorers.forest.inputs import Category, Number
from scoring.scorers.forest.model import LOGISTIC
from scoring.scorers.forest.scorer import MAX_CONTRIBUTIONS, ForestScorer
from scoring.scorers.forest.shapley import Explainer
from scoring.scorers.rules import RuleSet
from scoring.transaction import Transaction
from tests import rule_set
from tests.forests import SMALL, Tree, model, numbers
from tests.rule_set import R1, R2, R3, RULE_SET

SCORER = ForestScorer(RULE_SET, SMALL)
BUSY: Any = {
    "count_1h": 4,
    "count_24h": 4,
    "count_7d": 4,
    "sum_24h": 80.0,
    "max_24h": 20.0,
    "seconds_since_last": 60,
    "amount_ratio": 100.0,
    "distinct_24h": 1,
    "is_new": False,
}


def read(document: dict[str, Any], history: Features | None = None, rules: RuleSet = RULE_SET) -> Transaction:
    """Return a transaction of 20 at noon, with these fields."""
    transaction = rules.fields.read({"amount": 20, **document})
    return enriched(transaction, {"customer": history} if history else {}, {})


def constant(probability: float) -> Any:
    """Return a model that estimates the same probability for every transaction."""
    return model((probability, 1.0), features=[Number("amount", 0.0)])


def rules_with(*rules: dict[str, Any], **changes: Any) -> RuleSet:
    """Return the tests' rule set with other rules, which hit every transaction."""
    when = [{"field": "amount", "operator": ">=", "value": 0}]
    labelled = [{"label": f"R{number}", "when": when, **rule} for number, rule in enumerate(rules, start=1)]
    return rules_loader.from_document({**rule_set.DOCUMENT, "rules": labelled, **changes})


@pytest.mark.parametrize(
    ("document", "history", "score", "level", "hits", "fraud", "probability"),
    [
        ({}, None, 0, "LOW", (), False, 0.05),
        ({"hour": 3}, None, 2, "MEDIUM", (R3,), False, 0.15),
        # The model raises the level of the rules,
        ({"amount": 2000, "category": "electronics"}, None, 2, "HIGH", (R2,), True, 0.5),
        ({"amount": 1200, "category": "electronics"}, None, 0, "HIGH", (), True, 0.5),
        ({"amount": 1200, "category": "electronics"}, BUSY, 0, "HIGH", (), True, 0.65),
        ({"amount": 1200, "category": "electronics", "hour": 5}, BUSY, 2, "CRITICAL", (R3,), True, 0.75),
        # the rules raise that of the model, and `fraud` is the model's opinion.
        ({"amount": 4000}, None, 3, "HIGH", (R1,), False, 0.2),
        ({"amount": 4000, "hour": 5}, None, 5, "CRITICAL", (R1, R3), False, 0.3),
    ],
)
def test_assessment(
    document: dict[str, Any],
    history: Features | None,
    score: int,
    level: str,
    hits: tuple[str, ...],
    fraud: bool,  # noqa: FBT001
    probability: float,
) -> None:
    transaction = read(document, history)
    found = SCORER.assess(transaction)
    assert (found.score, found.risk_level, found.triggered_rules) == (score, level, hits)
    assert found.details["fraud"] is fraud
    assert found.details["fraud_probability"] == pytest.approx(probability)
    assert ("contributions" in found.details) == (level in {"HIGH", "CRITICAL"})
    # All but the level is as the rules say.
    alone = RULE_SET.assess(transaction)
    assert found._replace(risk_level=alone.risk_level, details={}) == alone


@pytest.mark.parametrize(
    ("probability", "fraud", "level"),
    [
        (math.nextafter(0.1, 0), False, "LOW"),
        (0.1, False, "MEDIUM"),
        (math.nextafter(0.35, 0), False, "MEDIUM"),
        (0.35, True, "HIGH"),
        (math.nextafter(0.7, 0), True, "HIGH"),
        (0.7, True, "CRITICAL"),
    ],
)
def test_thresholds(probability: float, fraud: bool, level: str) -> None:  # noqa: FBT001
    found = ForestScorer(RULE_SET, constant(probability)).assess(read({}))
    assert (found.risk_level, found.details) == (
        level,
        {"fraud": fraud, "fraud_probability": probability, **({"contributions": []} if fraud else {})},
    )


@pytest.mark.parametrize(
    ("rules", "probability", "level", "setters"),
    [
        ([{"points": 1}], 0.9, "CRITICAL", []),
        ([{"level": "at most LOW"}], 0.9, "LOW", [1]),
        ([{"level": "at most MEDIUM"}, {"level": "at most HIGH"}], 0.9, "MEDIUM", [1]),
        ([{"level": "at most HIGH"}], 0.2, "MEDIUM", []),
        ([{"level": "at least HIGH"}], 0.0, "HIGH", [1]),
        ([{"level": "at least HIGH"}], 0.5, "HIGH", []),
        ([{"level": "at least HIGH"}], 0.9, "CRITICAL", []),
        ([{"level": "at most LOW"}, {"level": "at least HIGH"}], 0.9, "HIGH", [2]),
        ([{"points": -100}], 0.9, "CRITICAL", []),
    ],
)
def test_limits_of_rules_win(rules: list[dict[str, Any]], probability: float, level: str, setters: list[int]) -> None:
    """``setters`` are the numbers of the rules whose reason says that they set the level."""
    limited = rules_with(*[{"points": 0, **rule} for rule in rules])
    found = ForestScorer(limited, constant(probability)).assess(read({}, rules=limited))
    assert found.risk_level == level
    assert [number for number, reason in enumerate(found.reasons, start=1) if "level" in reason] == setters
    assert found.details["fraud"] is (probability >= 0.35)
    assert ("contributions" in found.details) == (level in {"HIGH", "CRITICAL"})


@given(st.floats(0, 1), st.integers(0, 6))
def test_level_is_the_higher_one(probability: float, points: int) -> None:
    rules = rules_with({"points": points})
    found = ForestScorer(rules, constant(probability)).assess(read({}, rules=rules)).risk_level
    of_points = rules.assess(read({}, rules=rules)).risk_level
    of_model = RISK_LEVELS[SMALL.level(probability)]
    assert RISK_LEVELS.index(found) == max(map(RISK_LEVELS.index, (of_points, of_model)))


@pytest.mark.parametrize(
    ("document", "unseen"),
    [
        ({}, None),
        ({"category": "grocery"}, None),
        ({"category": "travel"}, ["category"]),
        ({"category": ""}, ["category"]),
        ({"category": "Electronics"}, ["category"]),
        ({"store": "never seen"}, None),
    ],
)
def test_unseen(document: dict[str, Any], unseen: list[str] | None) -> None:
    assert SCORER.assess(read(document)).details.get("unseen") == unseen


def test_contributions_of_features() -> None:
    """Columns of a category are added; features without effect are left out; the largest comes first."""
    tree: Tree = (1, 0.5, (2, 0.5, (0.1, 5.0), (0.3, 3.0)), (0.9, 2.0))
    both = model(
        tree, (0, 100.0, (1.0, 1.0), (0.0, 1.0)), features=[Number("amount", 0), Category("store", ("A", "B"))]
    )
    found = ForestScorer(RULE_SET, both).assess(read({"store": "B"})).details
    columns = Explainer(both).contributions([20.0, 0.0, 1.0])
    assert columns[1] < 0 < columns[2] < columns[0]
    assert found["contributions"] == [
        {"feature": "amount", "value": 20, "contribution": 0.25},
        {"feature": "store", "value": "B", "contribution": pytest.approx(columns[1] + columns[2])},
    ]
    base = (0.1 * 5 + 0.3 * 3 + 0.9 * 2) / 10 / 2 + 0.25
    assert base + sum(one["contribution"] for one in found["contributions"]) == pytest.approx(
        found["fraud_probability"]
    )


@pytest.mark.parametrize(
    ("document", "history", "values"),
    [
        # As the caller sent it
        ({"amount": 4000, "hour": 3, "category": "electronics"}, None, [4000, 3, None, "electronics"]),
        # A default, the hour of a time, a missing field, and history
        ({"amount": 4000}, None, [4000, 12, None, None]),
        ({"amount": 4000, "timestamp": "2026-11-25T05:30:00Z"}, BUSY, [4000, 5, 4, None]),
        ({"amount": 4000, "category": "x" * 64}, None, [4000, 12, None, "x" * 64]),
        ({"amount": 4000, "category": "x" * 65}, None, [4000, 12, None, "x" * 63 + "…"]),
    ],
)
def test_values_of_contributions(document: dict[str, Any], history: Features | None, values: list[Any]) -> None:
    found = SCORER.assess(read(document, history)).details["contributions"]
    expected = dict(zip(("amount", "hour", "customer.count_1h", "category"), values, strict=True))
    assert {one["feature"]: one["value"] for one in found} == expected


def test_contributions_are_sorted_and_limited() -> None:
    """The 20 that matter most remain, positive ones before negative ones."""
    declared = {f"x{index}": {"type": "number"} for index in range(25)}
    rules = rules_with({"level": "at least HIGH"}, fields=declared)
    stumps: list[Tree] = [(index, 0.5, (0.0, 1.0), ((-1) ** index * (index + 1.0), 1.0)) for index in range(25)]
    scorer = ForestScorer(rules, model(*stumps, features=numbers(25), link=LOGISTIC))
    found = scorer.assess(read(dict.fromkeys(declared, 1), rules=rules)).details["contributions"]
    positive = [(index, (index + 1) / 2) for index in range(24, 4, -2)]
    negative = [(index, -(index + 1) / 2) for index in range(5, 25, 2)]
    assert MAX_CONTRIBUTIONS == len(found) == 20
    assert [(one["feature"], one["contribution"]) for one in found] == [
        (f"x{index}", pytest.approx(contribution)) for index, contribution in positive + negative
    ]


@given(st.permutations(["tx_id", "amount", "category", "store", "hour", "customer_id"]))
def test_same_transaction_gives_the_same_assessment(names: list[str]) -> None:
    document = {
        "tx_id": "TX1",
        "amount": 2000,
        "category": "electronics",
        "store": "A",
        "hour": 3,
        "customer_id": "C1",
    }
    found = SCORER.assess(read({name: document[name] for name in names}, BUSY))
    assert found == ForestScorer(RULE_SET, SMALL).assess(read(document, BUSY))
    assert repr(found) == repr(SCORER.assess(read(document, BUSY)))


def test_transaction_does_not_change() -> None:
    transaction, before = read({"amount": 4000}, BUSY), read({"amount": 4000}, BUSY)
    SCORER.assess(transaction)
    assert transaction == before


def test_scorer_has_all_of_its_rule_set() -> None:
    rules = rules_loader.from_document(
        {
            **rule_set.DOCUMENT,
            "rules": [
                {
                    "label": "listed",
                    "points": 1,
                    "when": [{"field": "store", "operator": "in list", "value": "blocked"}],
                }
            ],
        }
    )
    scorer = ForestScorer(rules, SMALL)
    assert scorer.version == "1.0-tests+2.0-tests"
    for name in ("labels", "fields", "histories", "lists", "list_fields"):
        assert getattr(scorer, name) == getattr(rules, name)
        assert getattr(rules, name)


OWN_FIELDS = rules_with(
    {"points": 1},
    version="1.1",
    fields={"items": {"type": "integer"}, "present": {"type": "boolean"}, "at": {"type": "time"}},
)
UNKNOWN = "Model '2.0-tests' needs {}, which rule set '1.1' does not declare"
OTHER_TYPE = "Model '2.0-tests' needs {} as {}; rule set '1.1' declares it as {}"


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Number("amount", 0), None),
        (Number("items", 0), None),
        (Number("present", 0), None),
        (Number("customer.is_new", 0), None),
        (Number("customer.amount_ratio", 0), None),
        (Category("customer_id", ("C1",)), None),
        (Number("Amount", 0), UNKNOWN.format("'Amount'")),
        (Number("customer", 0), UNKNOWN.format("'customer'")),
        (Number("customer.count_2h", 0), UNKNOWN.format("'customer.count_2h'")),
        (Number("store.count_1h", 0), UNKNOWN.format("'store.count_1h'")),
        (Category("idempotency_key", ("k",)), UNKNOWN.format("'idempotency_key'")),
        (Number("x" * 100, 0), UNKNOWN.format(f"'{'x' * 100}'")),
        (Number("store", 0), OTHER_TYPE.format("'store'", "a number or boolean", "string")),
        (Number("timestamp", 0), OTHER_TYPE.format("'timestamp'", "a number or boolean", "time")),
        (Category("at", ("now",)), OTHER_TYPE.format("'at'", "a string", "time")),
        (Category("amount", ("20",)), OTHER_TYPE.format("'amount'", "a string", "number")),
        (Category("items", ("1",)), OTHER_TYPE.format("'items'", "a string", "integer")),
        (Category("present", ("true",)), OTHER_TYPE.format("'present'", "a string", "boolean")),
        (Category("customer.is_new", ("true",)), OTHER_TYPE.format("'customer.is_new'", "a string", "boolean")),
    ],
)
def test_facts_that_the_rule_set_declares(feature: Number | Category, message: str | None) -> None:
    fitted = model((0.5, 1.0), features=[Number("hour", 12), feature])
    if message is None:
        ForestScorer(OWN_FIELDS, fitted).assess(read({"items": 2**63 - 1, "present": True}, BUSY, OWN_FIELDS))
        return
    with pytest.raises(ModelError) as caught:
        ForestScorer(OWN_FIELDS, fitted)
    assert str(caught.value) == message


def test_response() -> None:
    transaction = read({"tx_id": "TX1", "amount": 2000, "category": "travel", "hour": 3, "colour": "red"}, BUSY)
    response = decision.assess(transaction, "k1", SCORER, datetime(2026, 11, 25, tzinfo=UTC))
    contributions = response["contributions"]
    assert response == {
        "score": 2,
        "risk_level": "HIGH",
        "triggered_rules": [R3],
        "tx_id": "TX1",
        "decision_id": "k1",
        "version": "1.0-tests+2.0-tests",
        "evaluated_at": "2026-11-25T00:00:00.000000Z",
        "reasons": [{"rule": R3, "points": 2, "because": {"hour": 3}}],
        "warnings": ["Unknown field 'colour' was ignored"],
        "fraud": True,
        "fraud_probability": pytest.approx(0.45),
        "unseen": ["category"],
        "contributions": contributions,
    }
    assert [one["feature"] for one in contributions] == ["amount", "hour", "customer.count_1h", "category"]
    stored = json.loads(json.dumps(response))
    assert stored == response
    assert decision.is_response(stored)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certain_probability_is_stored_as_a_float(probability: float) -> None:
    response = decision.assess(read({}), "k1", ForestScorer(RULE_SET, constant(probability)), datetime.now(UTC))
    assert decision.is_response(json.loads(json.dumps(response)))


def test_rules_alone_add_no_fields() -> None:
    response = decision.assess(read({"amount": 4000}), "k1", RULE_SET, datetime.now(UTC))
    assert not response.keys() & {"fraud", "fraud_probability", "unseen", "contributions"}


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"fraud": True, "fraud_probability": 0.5}, True),
        ({"fraud": 1}, False),
        ({"fraud": None}, False),
        ({"fraud_probability": 1}, False),
        ({"fraud_probability": True}, False),
        ({"fraud_probability": "0.5"}, False),
        ({"unseen": []}, True),
        ({"unseen": "category"}, False),
        ({"contributions": []}, True),
        ({"contributions": {}}, False),
        ({"contributions": None}, False),
    ],
)
def test_is_response(changes: dict[str, Any], valid: bool) -> None:  # noqa: FBT001
    response = decision.assess(read({}), "k1", RULE_SET, datetime.now(UTC))
    assert decision.is_response({**response, **changes}) is valid


def test_decision_with_and_without_history() -> None:
    """The first of a customer, and one whose history is unavailable, which is decided without it."""
    document = {"amount": 1200, "category": "electronics", "customer_id": "C1"}
    pending = decision.decide(document, "k1", SCORER)
    assert pending.lookups
    made = pending.lookups.decide(Known({}, frozenset()))
    degraded = decision.decide(document, "k1", SCORER).fallback
    assert made.response["history"]["customer"]["count_1h"] == 0
    assert degraded.response["degraded"] == ["history"]
    for response in (made.response, degraded.response):
        assert (response["risk_level"], response["fraud"]) == ("HIGH", True)
        assert response["fraud_probability"] == pytest.approx(0.5)
        assert decision.is_response(json.loads(json.dumps(response)))


def test_history_counts() -> None:
    """The model knows that a fifth payment of a customer in an hour is more suspicious than the four before."""
    known = Known({}, frozenset())
    probabilities = []
    for number in range(5):
        document = {"amount": 1200, "customer_id": "C1", "timestamp": f"2026-11-25T12:0{number}:00Z"}
        pending = decision.decide(document, f"k{number}", SCORER)
        assert pending.lookups
        probabilities.append(pending.lookups.decide(known).response["fraud_probability"])
    assert probabilities == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.35])
