"""The opinion of a model about stored decisions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import decision, shadow
from scoring.assessment import RISK_LEVELS
from scoring.decision import Decision
from scoring.errors import InvalidImage
from scoring.ledger.tables import partition_key
from scoring.lookups import Known
from scoring.scorers import rules_loader
from scoring.scorers.forest.inputs import Number
from scoring.scorers.forest.scorer import ForestScorer
from tests import forests, rule_set
from tests.unit.conftest import FOREST

LIMITS = [None, *rules_loader.LEVEL_LIMITS]
LAST_YEAR = "2025-11-25T08:30:00Z"


def image(made: Decision, **response: Any) -> dict[str, Any]:
    """Return the item of a decision, as the stream data class reads it."""
    return {
        "tx_id": partition_key(made.transaction.get("tx_id"), made.decision_id),
        "decision_id": made.decision_id,
        "transaction": json.dumps(made.transaction),
        "answer": json.dumps({**made.response, **response}),
    }


def decided(transaction: dict[str, Any], known: Known | None = None, scorer: Any = rule_set.RULE_SET) -> Decision:
    """Decide a transaction by what is known."""
    made = decision.decide(transaction, "k1", scorer)
    return made.lookups.decide(known or Known({}, frozenset())) if made.lookups else made


def opinion_of(made: Decision, scorer: ForestScorer = FOREST) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(shadow.judge(image(made), scorer).document)
    return document


def as_opinion(response: Any) -> dict[str, Any]:
    """Return the part of a response by a model that is its opinion."""
    names = ("version", "risk_level", "fraud", "fraud_probability", "unseen", "contributions")
    return {name: response[name] for name in names if name in response}


@pytest.mark.parametrize(
    ("transaction", "opinion"),
    [
        ({"amount": 20}, ("LOW", False, 0.05)),
        ({"amount": 1200, "category": "toys"}, ("MEDIUM", False, 0.2)),
        ({"amount": 1200, "category": "electronics"}, ("HIGH", True, 0.5)),
        # The rules stay the floor.
        ({"amount": 5000, "hour": 3}, ("CRITICAL", False, 0.3)),
        ({"amount": 5000, "category": "electronics", "hour": 3}, ("CRITICAL", True, 0.6)),
    ],
)
def test_opinion(transaction: dict[str, Any], opinion: tuple[str, bool, float]) -> None:
    made = decided(transaction)
    found = shadow.judge(image(made), FOREST)
    document = json.loads(found.document)
    assert (document["risk_level"], document["fraud"]) == opinion[:2]
    assert document["fraud_probability"] == pytest.approx(opinion[2])
    assert (found.before, found.after, found.fraud) == (made.response["risk_level"], *opinion[:2])
    assert document["version"] == "1.0-tests+2.0-tests"
    assert ("contributions" in document) == (found.after in {"HIGH", "CRITICAL"})
    assert document.get("unseen") == (["category"] if transaction.get("category") == "toys" else None)
    assert document == as_opinion(decided(transaction, scorer=FOREST).response)


def test_history_is_that_of_the_decision() -> None:
    transaction = {"amount": 1200, "customer_id": "C1", "store": "S", "timestamp": LAST_YEAR}
    by_rules, by_model = Known({}, frozenset()), Known({}, frozenset())
    opinions = [opinion_of(decided(transaction, by_rules)) for _ in range(5)]
    assert opinions == [as_opinion(decided(transaction, by_model, FOREST).response) for _ in range(5)]
    assert [one["fraud_probability"] for one in opinions] == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.35])


def test_decision_without_history_is_judged_without() -> None:
    made = decision.decide({"amount": 20, "customer_id": "C1"}, "k1", rule_set.RULE_SET)
    assert made.lookups
    fallback = made.lookups.fallback()
    assert fallback.response["degraded"] == ["history"]
    assert opinion_of(fallback)["fraud_probability"] == pytest.approx(0.05)


def constant(rules: Any, probability: float) -> ForestScorer:
    """Return a scorer whose model gives this probability to everything."""
    return ForestScorer(rules, forests.model((probability, 1.0), features=[Number("amount", 0.0)]))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 9), st.sampled_from(LIMITS)), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.1, 0.35, 0.7]),
)
def test_level_is_the_one_that_the_model_would_have_given(
    rules: list[tuple[bool, int, str | None]], probability: float
) -> None:
    """With any points, floors and ceilings of the hits, which the opinion knows by their labels only."""
    document = {
        "version": "1",
        "fields": {f"f{number}": {"type": "boolean"} for number in range(len(rules))},
        "rules": [
            {
                "label": f"R{number}",
                "points": points,
                "when": [{"field": f"f{number}", "operator": "==", "value": True}],
                **({"level": level} if level else {}),
            }
            for number, (_, points, level) in enumerate(rules)
        ],
        "levels": {"CRITICAL": 6, "HIGH": 3, "MEDIUM": 1},
    }
    scorer = constant(rules_loader.from_document(document), probability)
    transaction = {"amount": 1, **{f"f{number}": hit for number, (hit, _, _) in enumerate(rules)}}
    opinion = opinion_of(decided(transaction, scorer=scorer.rules), scorer)
    assert opinion == as_opinion(decided(transaction, scorer=scorer).response)


@pytest.mark.parametrize(("level", "judged"), [("at most MEDIUM", "MEDIUM"), ("at least HIGH", "CRITICAL")])
def test_lists_need_not_be_known(level: str, judged: str) -> None:
    """The hits of the decision say what the lists said."""
    rule = {
        "label": "listed",
        "level": level,
        "when": [{"field": "customer_id", "operator": "in list", "value": "customers"}],
    }
    rules = rules_loader.from_document({**rule_set.DOCUMENT, "rules": [rule]})
    made = decision.decide({"amount": 20, "customer_id": "C1"}, "k1", rules)
    assert made.lookups
    made = made.lookups.decide(Known({}, made.lookups.entries))
    assert made.response["triggered_rules"] == ["listed"]
    assert opinion_of(made, constant(rules, 1.0))["risk_level"] == judged


def test_level_of_another_rule_set_counts_as_it_is_stored() -> None:
    """A rule that has been removed limits the model no longer."""
    rule = {"label": "old", "level": "at most LOW", "when": [{"field": "amount", "operator": ">", "value": 0}]}
    made = decided({"amount": 20}, scorer=rules_loader.from_document({**rule_set.DOCUMENT, "rules": [rule]}))
    assert made.response["risk_level"] == "LOW"
    assert opinion_of(made, constant(rule_set.RULE_SET, 0.5))["risk_level"] == "HIGH"
    for level in RISK_LEVELS:
        assert shadow.judge(image(made, risk_level=level), FOREST).after == level


def test_decision_of_a_model_is_judged_too() -> None:
    """While a stack changes from forest to shadow, both decide."""
    made = decided({"amount": 1200, "category": "electronics"}, scorer=FOREST)
    assert opinion_of(made) == as_opinion(made.response)


GOOD = image(decided({"tx_id": "TX1", "amount": 20, "customer_id": "C1", "store": "S", "timestamp": LAST_YEAR}))
HISTORY = json.loads(GOOD["answer"])["history"]["customer"]
OTHER_HISTORIES: list[Any] = [
    None,
    [],
    {},
    {**HISTORY, "count_30d": 1},
    {**HISTORY, "count_1h": "private"},
    dict(reversed(HISTORY.items())),
]
REFUSING = ForestScorer(
    rules_loader.from_document({**rule_set.DOCUMENT, "fields": {"amount": {"maximum": 10}}}), forests.SMALL
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "{"}, "The response or the transaction is not JSON"),
        ({"answer": "{}"}, "The response or the transaction has a missing or invalid field"),
        ({"transaction": "[]"}, "The response or the transaction has a missing or invalid field"),
        ({"transaction": '{"amount": "private"}'}, "The rule set refuses the transaction: Field 'amount' must be a"),
        *(
            ({"history": {"customer": history}}, "The history is not one of this version")
            for history in OTHER_HISTORIES
        ),
    ],
)
def test_item_that_cannot_be_judged(change: dict[str, Any], reason: str) -> None:
    if "history" in change:
        change = {"answer": json.dumps({**json.loads(GOOD["answer"]), **change})}
    with pytest.raises(InvalidImage) as raised:
        shadow.judge({**GOOD, **change}, FOREST)
    assert str(raised.value).startswith(reason)
    assert "private" not in str(raised.value)


def test_refused_transaction_cannot_be_judged() -> None:
    with pytest.raises(InvalidImage, match="refuses the transaction: Field 'amount' must be at most 10"):
        shadow.judge(GOOD, REFUSING)
