"""The corpus of requests, as events for the handlers."""

import io
import json
from collections import Counter
from typing import Any

import pytest

from scoring.scorers import rules_loader
from tests import card_rules, corpus, rule_set
from tests.card_corpus import CARD_CASES, REFUSING_CASES, REFUSING_DOCUMENT
from tests.corpus import CASES, INJECTED, RESPONSE_HEADERS, Case
from tests.unit import log_lines
from tests.unit.conftest import Functions

LOGGED_FIELDS = {"decision_id", "risk_level", "score", "triggered_rules", "version", "replayed", "recorded"}


def check(case: Case, response: dict[str, Any], counted: int, rejected: int, log: str) -> None:
    assert response["statusCode"] == case.status, response
    unexpected = {"Retry-After", "Idempotent-Replayed"} | ({"Allow"} if case.status != 405 else set())
    assert response["headers"].keys() == RESPONSE_HEADERS - unexpected
    assert INJECTED not in str(response["headers"])
    if case.error is not None:
        assert json.loads(response["body"]) == {"error": case.error}
    elif isinstance(case.expected, str):
        assert response["body"] == case.expected
    else:
        assert case.compared(json.loads(response["body"])) == case.expected
    assert counted == case.counted
    # One line per decision and per count; neither the error nor the request is logged.
    decisions, counts = log_lines.parse(log)
    assert [decision.keys() for decision in decisions] == [LOGGED_FIELDS] * case.counted
    assert [metric for metric, _ in counts if metric == "RejectedRequests"] == ["RejectedRequests"] * rejected
    assert INJECTED not in log


@pytest.mark.parametrize(
    ("document", "cases"),
    [(rule_set.DOCUMENT, CASES), (card_rules.DOCUMENT, CARD_CASES), (REFUSING_DOCUMENT, REFUSING_CASES)],
    ids=["lab", "card", "refusing"],
)
def test_every_case(
    document: Any,
    cases: list[Case],
    invoke: Functions,
    subtests: pytest.Subtests,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def total() -> int:
        _, event = corpus.event_of(stats, "stats")
        number: int = json.loads(invoke("StatsFunction", event)["body"])["total"]
        return number

    monkeypatch.setattr(invoke.modules["ScoreFunction"], "SCORER", rules_loader.from_document(document))
    stats = Case("stats", "GET", "/stats", (), b"", 200, {})
    for number, case in enumerate(cases):
        if case.only_http:
            continue
        with subtests.test(case.name):
            before = total()
            start = log.tell()
            function, event = corpus.event_of(case, f"request-{number}")
            response = invoke(function, event)
            rejected = int(function == "ScoreFunction" and case.status >= 400)
            check(case, response, total() - before, rejected, log.getvalue()[start:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cases", [CASES, CARD_CASES, REFUSING_CASES], ids=["lab", "card", "refusing"])
def test_corpus_is_consistent(cases: list[Case]) -> None:
    assert [name for name, count in Counter(case.name for case in cases).items() if count > 1] == []
    assert not [case.name for case in cases if case.only_http and case.only_event]
    assert not [case.name for case in cases if case.event_changes and not case.only_event]


def test_card_cases_cover_the_fields() -> None:
    bodies = "".join(case.body.decode() for case in CARD_CASES)
    assert [field.name for field in card_rules.RULE_SET.fields.declared if f'"{field.name}"' not in bodies] == []
