"""The shipped rules are those of the lab, and the examples in the documentation follow them.

They apply to version 1.0-rules of ``functions/layer/scoring/scorers/rules.json``: ``conftest.py`` leaves them out once
you have rules of your own. No other test depends on the content of the file.
"""

import doctest
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import check_rules
import scoring
from functions.offline import backtest, backtest_report
from functions.offline.backtest_report import Contender
from functions.offline.labelled import Source
from scoring import score_transaction, scorers
from scoring.decision import decide
from scoring.scorers import rules_loader
from scoring.scorers.forest.shapley import Explainer
from tests import events, rule_set
from tests.forests import output
from tests.generated import OPENAPI_FILE
from tests.local.template import ROOT
from tests.rule_set import R1, R2, R3

VERSION = "1.0-rules"
README = ROOT / "README.md"
GUIDE = ROOT / "functions" / "README.md"


@pytest.mark.parametrize(
    ("tx", "score", "risk_level", "triggered_rules"),
    [
        # Task 4.2 of the lab.
        ({"tx_id": "TX001", "amount": 50.0, "category": "food", "hour": 14}, 0, "LOW", []),
        ({"tx_id": "TX002", "amount": 1800.0, "category": "electronics", "hour": 10}, 2, "MEDIUM", [R2]),
        ({"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}, 7, "CRITICAL", [R1, R2, R3]),
        # Without hour, without category, without both.
        ({"amount": 4500.0, "category": "electronics"}, 5, "CRITICAL", [R1, R2]),
        ({"amount": 4500.0, "hour": 3}, 5, "CRITICAL", [R1, R3]),
        ({"amount": 4500.0}, 3, "HIGH", [R1]),
        # Each threshold, one below and one above it.
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


@given(
    amount=st.one_of(st.integers(0, 10**6), st.floats(0, 1e9)),
    category=st.none() | st.sampled_from(["electronics", "food"]),
    hour=st.none() | st.integers(0, 23),
)
def test_same_assessment_as_in_the_lab(amount: float, category: str | None, hour: int | None) -> None:
    """The reference is the lab's function, rewritten from its description."""
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


def test_version() -> None:
    assert scorers.load().version == VERSION


def test_shipped_model_fits_the_rules() -> None:
    scorer = scorers.load_forest()
    assert scorer.version == f"{VERSION}+{scorer.model.version}"
    transaction = scorer.fields.read({"amount": 4500, "category": "electronics", "hour": 3})
    assessment = scorer.assess(transaction)
    assert (assessment.score, assessment.risk_level, assessment.triggered_rules) == (7, "CRITICAL", (R1, R2, R3))
    assert assessment.details["contributions"]
    row = scorer.model.inputs.row(transaction.facts)
    explainer = Explainer(scorer.model)
    assert explainer.base + sum(explainer.contributions(row)) == pytest.approx(output(scorer.model, row), abs=1e-12)


def test_rule_set_of_the_tests_differs_in_version_only() -> None:
    shipped = json.loads(Path(scorers.RULES_FILE).read_text(encoding="utf-8"))
    assert shipped.pop("$schema") == "rules.schema.json"
    assert {**shipped, "version": "1.0-tests"} == rule_set.DOCUMENT


def test_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "functions.health.app", raising=False)
    response = importlib.import_module("functions.health.app").lambda_handler(events.load("health"), None)
    assert response["body"] == '{"status":"ok","version":"1.0-rules"}'


def test_docstring_example() -> None:
    assert doctest.testmod(scoring) == (0, 1)


def test_readme_examples() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"-d '(\{.+\})'\n((?: +[{\"].+\n)+)", text)
    assert found
    request, response = json.loads(found[1]), json.loads(found[2])
    decided = decide(request, "order-17", scorers.load()).response
    assert {**decided, "evaluated_at": response["evaluated_at"]} == response
    assert f'`{{"status": "ok", "version": "{VERSION}"}}`' in text
    rule = re.search(r"\n\n( {4}\{\"label\".*\n(?: {4}.*\n)+)", text)
    assert rule
    shipped = json.loads(Path(scorers.RULES_FILE).read_text(encoding="utf-8"))
    assert json.loads(rule[1]) in shipped["rules"]
    own = re.search(r"\n\n( {4}\"fields\".*\n(?: {4}.*\n)+)", text)
    assert own
    rules = rules_loader.from_document({**shipped, **json.loads(f"{{{own[1]}}}")})
    foreign = {"amount": 1, "hour": 23, "ip_country": "de", "card_country": "PL"}
    assert rules.assess(rules.fields.read(foreign)).risk_level == "HIGH"


def test_rules_guide_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctest.testfile(str(GUIDE), module_relative=False) == (0, 2)
    document = json.loads(Path(scorers.RULES_FILE).read_text(encoding="utf-8"))
    text = GUIDE.read_text(encoding="utf-8").replace("\n       ", "\n")
    samples = Path("events/transactions.jsonl")
    monkeypatch.chdir(ROOT)
    present = Contender(scorers.load_rules(), "", None, [])
    scored = "\n".join(backtest_report.lines(backtest.backtest(Source(samples, {}), [present])))
    assert f"$ make rules\n{check_rules.report(document)}\n{scored}\n" in text
    document["version"], document["rules"][1]["when"][1]["value"] = "1.1", 2000
    candidate = Contender(rules_loader.from_document(document), "", None, [])
    compared = list(backtest_report.lines(backtest.backtest(Source(samples, {}), [present, candidate])))
    command = f"$ make backtest RULES=candidate.json DATA={samples}"
    assert "\n".join([command, "...", *compared[compared.index("2 of 10 change their level:") :]]) in text


def test_openapi_examples() -> None:
    """``test_openapi`` checks that they are consistent."""
    text = OPENAPI_FILE.read_text(encoding="utf-8")
    document = json.loads(text)
    assert document["components"]["schemas"]["Decision"]["properties"]["version"]["examples"] == [VERSION]
    for label in scorers.load().labels:
        assert f'"{label}"' in text
