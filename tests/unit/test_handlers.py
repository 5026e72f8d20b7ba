"""The handlers: the events in ``events/`` and further cases of each function.

``docs`` and ``reconcile`` have files of their own.
"""

import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scoring import scorers
from scoring.errors import ConfigurationError, RuleSetError
from scoring.ledger import outbox
from tests import events
from tests.expected import RESPONSES, Expected
from tests.local import template
from tests.rule_set import R1, R2, R3
from tests.unit.conftest import Functions

DECIDING = {"ScoreFunction", "BatchFunction", "StreamFunction", "HealthFunction"}


def check(response: dict[str, Any], expected: Expected) -> None:
    if expected.status is None:
        assert response == expected.body
        return
    assert response["statusCode"] == expected.status, response
    assert expected.matches(response["body"]), response
    assert response["headers"]["Content-Type"] == expected.content_type


def test_every_event_file_has_an_expected_response() -> None:
    assert sorted(RESPONSES) == events.names()


def test_every_event(invoke: Functions) -> None:
    for name, expected in RESPONSES.items():
        check(invoke(expected.function, events.load(name)), expected)


def test_broken_rule_set_stops_only_the_functions_that_load_it(
    dynamodb: Any, sqs: Any, monkeypatch: pytest.MonkeyPatch, context: Any
) -> None:
    def fail() -> None:
        raise RuleSetError("rules.json: The file is empty")

    for load in ("load", "load_rules"):
        monkeypatch.setattr(scorers, load, fail)
    broken = started(monkeypatch, context)
    assert broken.keys() == {*DECIDING, "ListsFunction", "CustomerFunction"}


def test_broken_model_stops_only_the_functions_that_decide(
    dynamodb: Any, sqs: Any, sns: Any, monkeypatch: pytest.MonkeyPatch, context: Any, tmp_path: Path
) -> None:
    damaged = tmp_path / "forest.model"
    damaged.write_bytes(b"damaged")
    monkeypatch.setenv("SCORER", "forest")
    monkeypatch.setattr(scorers, "MODEL_FILE", str(damaged))
    scorers.load.cache_clear()
    broken = started(monkeypatch, context)
    assert broken.keys() == DECIDING
    assert set(broken.values()) == {
        "forest.model: The file is not a model: it does not begin with a line of risk-scoring-model"
    }


def started(monkeypatch: pytest.MonkeyPatch, context: Any) -> dict[str, str]:
    """Import all functions anew; return the error of each that fails. Fail if ``/stats`` has no numbers."""
    broken = {}
    for name, function in template.functions().items():
        module = f"functions.{function.folders[0].name}.app"
        monkeypatch.delitem(sys.modules, module, raising=False)
        try:
            app = importlib.import_module(module)
        except ConfigurationError as error:
            broken[name] = str(error)
            continue
        if name == "StatsFunction":
            stats = json.loads(app.lambda_handler(events.load("stats"), context)["body"])
            assert stats["total"] == sum(stats["by_rule"].values()) == 0
        if name == "DocsFunction":
            assert app.lambda_handler(events.load("openapi"), context)["statusCode"] == 200
    return broken


def test_response_has_all_fields_in_order(invoke: Functions) -> None:
    response = json.loads(invoke("ScoreFunction", events.load("score-critical"))["body"])
    assert list(response) == [
        "score",
        "risk_level",
        "triggered_rules",
        "tx_id",
        "decision_id",
        "version",
        "evaluated_at",
        "reasons",
    ]
    assert response["version"] == "1.0-tests"
    evaluated_at = datetime.strptime(response["evaluated_at"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert abs((datetime.now(UTC) - evaluated_at).total_seconds()) < 60
    assert response["decision_id"] == events.load("score-critical")["requestContext"]["requestId"]


def test_replay_has_a_header_and_the_same_body(invoke: Functions) -> None:
    event = events.post('{"tx_id": "TX1", "amount": 5}', idempotency_key="k1")
    first, second = invoke("ScoreFunction", event), invoke("ScoreFunction", event)
    assert second["headers"].pop("Idempotent-Replayed") == "true"
    assert second == first
    other = invoke("ScoreFunction", events.post('{"tx_id": "TX1", "amount": 6}', idempotency_key="k1"))
    assert other["statusCode"] == 422


def test_score_without_store_and_outbox_is_503(invoke: Functions, dynamodb: Any, sqs: Any) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    sqs.delete_queue(QueueUrl="OutboxQueue")
    response = invoke("ScoreFunction", events.post('{"amount": 5}'))
    assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "1")
    assert list(json.loads(response["body"])) == ["error"]


def test_score_without_store_uses_the_outbox(invoke: Functions, dynamodb: Any, sqs: Any) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    event = events.post('{"tx_id": "TX1", "amount": 5000}', idempotency_key="k1")
    response = invoke("ScoreFunction", event)
    body = json.loads(response["body"])
    assert (response["statusCode"], body.pop("recorded"), body["risk_level"]) == (200, False, "HIGH")
    assert "Idempotent-Replayed" not in response["headers"]
    (message,) = sqs.receive_message(QueueUrl="OutboxQueue")["Messages"]
    assert outbox.decode(message["Body"]).response == body


def test_405_names_the_allowed_method(invoke: Functions) -> None:
    assert invoke("FallbackFunction", events.load("wrong-method"))["headers"]["Allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/transaction/TX1", 405),
        ("HEAD", "/health", 405),
        ("OPTIONS", "/score", 405),
        ("GET", "/score/batch", 405),
        ("POST", "/score/batch/", 404),
        ("POST", "/score/x", 404),
        ("DELETE", "/", 405),
        ("GET", "/transaction", 404),
        ("GET", "/transaction/", 404),
        ("POST", "/transaction/", 404),
        ("POST", "/transaction/a/b", 404),
        ("POST", "/score/", 404),
        ("GET", "/" + "x" * 5000, 404),
        ("PUT", "/lists/a", 405),
        ("DELETE", "/lists/a", 405),
        ("GET", "/lists/a/b", 405),
        ("POST", "/lists/a/b/c", 405),
        ("PUT", "/lists/a/", 404),
        ("PUT", "/lists/a/b\nc", 404),
        ("GET", "/lists", 404),
        ("GET", "/lists/", 404),
        ("GET", "/customer/a/b", 405),
        ("DELETE", "/customer/", 404),
    ],
)
def test_fallback(invoke: Functions, method: str, path: str, status: int) -> None:
    event = events.load("unknown-path")
    event["requestContext"]["http"] |= {"method": method, "path": path}
    response = invoke("FallbackFunction", event)
    assert response["statusCode"] == status
    assert len(response["body"]) < 300


def test_stats_without_decisions(invoke: Functions) -> None:
    assert json.loads(invoke("StatsFunction", events.load("stats"))["body"]) == {
        "total": 0,
        "high": 0,
        "by_risk_level": {"LOW": 0, "MEDIUM": 0, "HIGH": 0, "CRITICAL": 0},
        "by_rule": {R1: 0, R2: 0, R3: 0},
    }


def test_stats_keep_the_counts_of_removed_rules(invoke: Functions, dynamodb: Any) -> None:
    dynamodb.put_item(
        TableName="StatsTable", Item={"shard": {"N": "0"}, "rule#R0: retired": {"N": "4"}, "total": {"N": "4"}}
    )
    by_rule = json.loads(invoke("StatsFunction", events.load("stats"))["body"])["by_rule"]
    assert list(by_rule.items())[-1] == ("R0: retired", 4)
    assert len(by_rule) == 4


@pytest.mark.parametrize("key", ["order-17/attempt=1", "x" * 128])
def test_decision_without_tx_id_is_found_under_its_id(invoke: Functions, key: str) -> None:
    invoke("ScoreFunction", events.post('{"amount": 5}', idempotency_key=key))
    response = invoke("TransactionFunction", events.load("transaction") | {"pathParameters": {"tx_id": key}})
    (found,) = json.loads(response["body"])["decisions"]
    assert (found["tx_id"], found["decision_id"]) == ("unknown", key)


@pytest.mark.parametrize("tx_id", ["", "x" * 129, "a\tb", None])
def test_lookup_of_an_invalid_tx_id(invoke: Functions, tx_id: str | None) -> None:
    event = events.load("transaction") | {"pathParameters": {"tx_id": tx_id}}
    response = invoke("TransactionFunction", event)
    assert response["statusCode"] == 400
    assert "'tx_id'" in json.loads(response["body"])["error"]


def test_lookup_of_an_unknown_tx_id(invoke: Functions) -> None:
    response = invoke("TransactionFunction", events.load("transaction"))
    assert response["statusCode"] == 404
    assert json.loads(response["body"]) == {"error": "No decision is stored for tx_id 'TX0042'"}


@pytest.mark.parametrize(
    ("body", "status"),
    [("[1, 2]", 200), ('"abc"', 200), ("5", 400), ("null", 400), ("[1e400]", 400), ("[" * 90_000, 413), ("", 400)],
)
def test_echo_of_other_json(invoke: Functions, body: str, status: int) -> None:
    assert invoke("LabFunction", events.load("lab-echo") | {"body": body})["statusCode"] == status


def test_echo_of_the_deepest_decodable_body(invoke: Functions) -> None:
    """The response nests one level deeper than the body, and may be too deep to encode."""
    for depth in range(100, 30_000, 20):
        body = "[" * depth + "]" * depth
        status = invoke("LabFunction", events.load("lab-echo") | {"body": body})["statusCode"]
        assert status in (200, 400)
        if status == 400:
            break
    for shallower in range(depth - 20, depth):
        body = "[" * shallower + "]" * shallower
        assert invoke("LabFunction", events.load("lab-echo") | {"body": body})["statusCode"] in (200, 400)


@pytest.mark.parametrize(
    ("query", "greeting"),
    [("name=", "Hello, !"), ("name=A&name=B", "Hello, A!"), ("name=%C5%81ukasz+K", "Hello, Łukasz K!"), ("n=1", None)],
)
def test_hello(invoke: Functions, query: str, greeting: str | None) -> None:
    response = invoke("LabFunction", events.load("lab-hello") | {"rawQueryString": query})
    assert response["body"] == (greeting or "Hello, stranger!")
