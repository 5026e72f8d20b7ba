"""The corpus of requests, as events for the handlers."""

import io
import json
from collections import Counter
from typing import Any

import pytest

from tests import corpus
from tests.corpus import CASES, INJECTED, RESPONSE_HEADERS, Case
from tests.rule_set import R1, RULE_SET
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
        assert json.loads(response["body"]).items() >= case.expected.items()
    assert counted == case.counted
    # One line per decision and per count; neither the error nor the request is logged.
    decisions, counts = log_lines.parse(log)
    assert [decision.keys() for decision in decisions] == [LOGGED_FIELDS] * case.counted
    assert [metric for metric, _ in counts if metric == "RejectedRequests"] == ["RejectedRequests"] * rejected
    assert INJECTED not in log


def test_every_case(
    invoke: Functions,
    subtests: pytest.Subtests,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def total() -> int:
        _, event = corpus.event_of(stats, "stats")
        number: int = json.loads(invoke("StatsFunction", event)["body"])["total"]
        return number

    stats = Case("stats", "GET", "/stats", (), b"", 200, {})
    for number, case in enumerate(CASES):
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


def test_cases_follow_the_rule_set() -> None:
    assert corpus.decided_by(RULE_SET) == CASES
    cases = corpus.decided_by(RULE_SET._replace(rules=RULE_SET.rules[:1]))
    expected = {case.name: case.expected for case in cases}
    assert expected["hour -0"] == {"score": 0, "risk_level": "LOW", "triggered_rules": []}
    assert expected["amount 1e308"] == {"score": 3, "risk_level": "HIGH", "triggered_rules": [R1]}


def test_corpus_is_consistent() -> None:
    assert len(CASES) >= 80
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert not [case.name for case in CASES if case.only_http and case.only_event]
    assert not [case.name for case in CASES if case.event_changes and not case.only_event]
