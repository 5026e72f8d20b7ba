"""The shadow function: store a model's opinion with each decision, and report the first failure."""

import importlib
import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scoring import scorers
from scoring.aws import client
from scoring.errors import CallFailed, ModelError
from tests import events, forests
from tests.unit.conftest import Functions, MetricLines
from tests.unit.fakes import MotoClient
from tests.unit.test_openapi import SCHEMAS, validator
from tests.unit.test_shadow import as_opinion, decided

TABLE = "DecisionsTable"
Judge = Callable[..., str | None]
Fail = Callable[[dict[str, str]], list[str]]
TRANSACTIONS = [
    {"tx_id": "TX-low", "amount": 20},
    {"tx_id": "TX-shift", "amount": 1200, "category": "electronics"},
    {"amount": 4500, "category": "electronics", "hour": 3},
]


def scored(invoke: Functions, *transactions: dict[str, Any]) -> list[dict[str, Any]]:
    """Score transactions with the keys k1, k2, ..., and return the responses."""
    requests = [
        events.post(json.dumps(one), idempotency_key=f"k{number}") for number, one in enumerate(transactions, start=1)
    ]
    return [json.loads(invoke("ScoreFunction", request)["body"]) for request in requests]


def items(dynamodb: Any) -> dict[str, dict[str, Any]]:
    """Return the items of the decisions table, as DynamoDB has them, by decision id."""
    return {item["decision_id"]["S"]: item for item in dynamodb.scan(TableName=TABLE)["Items"]}


def records(dynamodb: Any) -> list[dict[str, Any]]:
    """Return stream records of all decisions, with sequence numbers from 9 on."""
    return [
        {"eventName": "INSERT", "dynamodb": {"SequenceNumber": str(number), "NewImage": item}}
        for number, (_, item) in enumerate(sorted(items(dynamodb).items()), start=9)
    ]


def opinions(dynamodb: Any) -> dict[str, Any]:
    """Return the stored opinions, by decision id; None if there is none."""
    return {
        decision_id: json.loads(item["shadow"]["S"]) if "shadow" in item else None
        for decision_id, item in items(dynamodb).items()
    }


@pytest.fixture
def judge(with_shadow: Functions) -> Judge:
    """Invoke the shadow function and return the sequence number that it reports, if any."""

    def judge(*delivered: dict[str, Any]) -> str | None:
        response = with_shadow("ShadowFunction", {"Records": list(delivered)})
        assert response.keys() == {"batchItemFailures"}
        if not response["batchItemFailures"]:
            return None
        (failure,) = response["batchItemFailures"]
        return str(failure["itemIdentifier"])

    return judge


class FailingClient(MotoClient):
    """A client whose updates fail for some decisions, with a reason by decision id; ``*`` is any."""

    def __init__(self, boto3_client: Any, failures: dict[str, str], calls: list[str]) -> None:
        super().__init__(boto3_client)
        self._failures = failures
        self._calls = calls

    def call(self, operation: str, parameters: dict[str, Any]) -> Any:
        assert operation == "UpdateItem"
        decision_id = parameters["Key"]["decision_id"]["S"]
        self._calls.append(decision_id)
        if reason := self._failures.get(decision_id) or self._failures.get("*"):
            raise CallFailed(reason, 400)
        return super().call(operation, parameters)


@pytest.fixture
def fail(with_shadow: Functions, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let updates fail, as :class:`FailingClient`; return the decision ids of all calls from then on."""

    def fail(failures: dict[str, str]) -> list[str]:
        calls: list[str] = []
        app = with_shadow.modules["ShadowFunction"]
        monkeypatch.setattr(app, "CLIENTS", [FailingClient(dynamodb, failures, calls)] * app.THREADS)
        return calls

    return fail


def test_opinion_is_stored_and_returned(with_shadow: Functions, judge: Judge, dynamodb: Any) -> None:
    responses = scored(with_shadow, *TRANSACTIONS)
    before = items(dynamodb)
    assert judge(*records(dynamodb)) is None
    expected = {f"k{number}": as_opinion_of(one) for number, one in enumerate(TRANSACTIONS, start=1)}
    assert opinions(dynamodb) == expected
    # Nothing else has changed.
    for decision_id, item in items(dynamodb).items():
        del item["shadow"]
        assert item == before[decision_id]
    for response, transaction in zip(responses, TRANSACTIONS, strict=True):
        tx_id = transaction.get("tx_id", response["decision_id"])
        event = events.load("transaction") | {"pathParameters": {"tx_id": tx_id}}
        body = json.loads(with_shadow("TransactionFunction", event)["body"])
        validator(SCHEMAS["Lookup"]).validate(body)
        (found,) = body["decisions"]
        assert found == {**response, "transaction": transaction, "shadow": expected[response["decision_id"]]}


def as_opinion_of(transaction: dict[str, Any]) -> dict[str, Any]:
    """Return the opinion about a transaction without history."""
    return as_opinion(decided(transaction, scorer=scorers.load_forest()).response)


def test_replay_is_the_same_with_an_opinion(with_shadow: Functions, judge: Judge, dynamodb: Any) -> None:
    request = events.post(json.dumps(TRANSACTIONS[1]), idempotency_key="k1")
    first = with_shadow("ScoreFunction", request)
    judge(*records(dynamodb))
    assert opinions(dynamodb)["k1"]["risk_level"] == "HIGH"
    again = with_shadow("ScoreFunction", request)
    assert again["body"] == first["body"]
    assert again["headers"]["Idempotent-Replayed"] == "true"


def test_repeated_delivery_changes_nothing(with_shadow: Functions, judge: Judge, dynamodb: Any) -> None:
    scored(with_shadow, *TRANSACTIONS)
    delivered = records(dynamodb)
    judge(*delivered)
    stored = items(dynamodb)
    assert judge(*delivered, *reversed(delivered)) is None
    assert items(dynamodb) == stored


def test_deleted_decision_is_not_made_again(
    with_shadow: Functions, judge: Judge, dynamodb: Any, log: io.StringIO, new_metric_lines: MetricLines
) -> None:
    scored(with_shadow, *TRANSACTIONS)
    delivered = records(dynamodb)
    dynamodb.delete_item(TableName=TABLE, Key={"tx_id": {"S": "TX-low"}, "decision_id": {"S": "k1"}})
    new_metric_lines()
    assert judge(*delivered) is None
    assert items(dynamodb).keys() == {"k2", "k3"}
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (gone,) = (line for line in lines if line.get("message") == "opinions not stored")
    assert (gone["level"], gone["opinions"], gone["reason"]) == ("INFO", 1, "ConditionalCheckFailedException")
    line = new_metric_lines()[0]
    assert line["ShadowDecisions"] == 2
    assert "ShadowFailures" not in line


def test_opinion_is_not_stored_with_another_decision(with_shadow: Functions, judge: Judge, dynamodb: Any) -> None:
    """The decision was deleted, and its key used again, before its record arrived."""
    scored(with_shadow, TRANSACTIONS[0])
    delivered = records(dynamodb)
    dynamodb.delete_item(TableName=TABLE, Key={"tx_id": {"S": "TX-low"}, "decision_id": {"S": "k1"}})
    scored(with_shadow, {**TRANSACTIONS[0], "amount": 1200})
    assert judge(*delivered) is None
    assert opinions(dynamodb) == {"k1": None}
    assert judge(*delivered, *records(dynamodb)) is None
    assert opinions(dynamodb)["k1"]["fraud_probability"] == pytest.approx(0.2)


def test_first_failure_is_reported(
    with_shadow: Functions,
    judge: Judge,
    dynamodb: Any,
    fail: Fail,
    new_metric_lines: MetricLines,
    log: io.StringIO,
) -> None:
    scored(with_shadow, *[{"amount": 20, "tx_id": f"TX{number}"} for number in range(1, 6)])
    fail({"k2": "AccessDeniedException", "k4": "ThrottlingException"})
    new_metric_lines()
    # As numbers: 9 is less than 10.
    assert judge(*reversed(records(dynamodb))) == "10"
    assert {decision_id for decision_id, one in opinions(dynamodb).items() if one} == {"k1", "k3", "k5"}
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    errors = {line["reason"]: line["opinions"] for line in lines if line.get("level") == "ERROR"}
    assert errors == {"AccessDeniedException": 1, "ThrottlingException": 1}
    line = new_metric_lines()[0]
    assert (line["ShadowDecisions"], line["ShadowFailures"]) == (3, 2)
    fail({})
    assert judge(*records(dynamodb)[1:]) is None
    assert None not in opinions(dynamodb).values()


def test_outage_costs_a_call_per_thread(with_shadow: Functions, judge: Judge, dynamodb: Any, fail: Fail) -> None:
    scored(with_shadow, *[{"amount": 20, "tx_id": f"TX{number}"} for number in range(40)])
    calls = fail({"*": "TimeoutError"})
    assert judge(*records(dynamodb)) == "9"
    assert len(calls) == with_shadow.modules["ShadowFunction"].THREADS


def test_opinion_that_is_never_accepted_does_not_hold_up_others(
    with_shadow: Functions, judge: Judge, dynamodb: Any, fail: Fail, new_metric_lines: MetricLines
) -> None:
    """With it, the item would be larger than DynamoDB allows, for example."""
    scored(with_shadow, *TRANSACTIONS)
    fail({"k1": "ValidationException"})
    new_metric_lines()
    assert judge(*records(dynamodb)) is None
    assert new_metric_lines()[0]["ShadowFailures"] == 1
    assert opinions(dynamodb)["k3"]


def test_no_call_starts_that_could_outlast_the_function(
    with_shadow: Functions, judge: Judge, dynamodb: Any, fail: Fail, context: SimpleNamespace
) -> None:
    scored(with_shadow, *TRANSACTIONS)
    calls = fail({})
    context.get_remaining_time_in_millis = lambda: 1000 * client.CALL_SECONDS
    assert judge(*records(dynamodb)) == "9"
    assert calls == []


def test_item_that_cannot_be_judged_is_passed_over(
    with_shadow: Functions, judge: Judge, dynamodb: Any, log: io.StringIO, new_metric_lines: MetricLines
) -> None:
    scored(with_shadow, *TRANSACTIONS)
    first, second, third = records(dynamodb)
    second["dynamodb"]["NewImage"]["transaction"] = {"S": '{"amount": "secret"}'}
    third["dynamodb"]["NewImage"] = {"tx_id": {"S": "TX"}, "decision_id": {"S": "k3"}, "secret": {"N": "1"}}
    new_metric_lines()
    assert judge(first, second, third) is None
    stored = opinions(dynamodb)
    assert [decision_id for decision_id, one in stored.items() if one] == ["k1"]
    errors = [json.loads(line) for line in log.getvalue().splitlines()][:2]
    assert {(line["level"], line["message"]) for line in errors} == {("ERROR", "item cannot be judged")}
    assert [line["decision_id"] for line in errors] == ["k2", "k3"]
    assert "secret" not in log.getvalue()
    assert "Traceback" not in log.getvalue()
    line = new_metric_lines()[0]
    assert (line["ShadowDecisions"], line["ShadowFailures"]) == (1, 2)


def test_shifts_are_counted_and_logged(
    with_shadow: Functions, judge: Judge, dynamodb: Any, log: io.StringIO, new_metric_lines: MetricLines
) -> None:
    toys = {"amount": 1200, "category": "toys"}
    scored(with_shadow, *TRANSACTIONS, toys, {**toys, "tx_id": "TX4"})
    new_metric_lines()
    judge(*records(dynamodb))
    shifts = [json.loads(line) for line in log.getvalue().splitlines() if "level would change" in line]
    assert sorted((line["decision_id"], line["from"], line["to"]) for line in shifts) == [
        ("k2", "LOW", "HIGH"),
        ("k4", "LOW", "MEDIUM"),
        ("k5", "LOW", "MEDIUM"),
    ]
    assert "TX-shift" not in log.getvalue()
    total, *others = new_metric_lines()
    assert (total["ShadowDecisions"], total["ShadowAgreements"]) == (5, 2)
    assert {(one["from"], one["to"]): one["ShadowShifts"] for one in others if "ShadowShifts" in one} == {
        ("LOW", "HIGH"): 1,
        ("LOW", "MEDIUM"): 2,
    }
    frauds = {one["risk_level"]: one["ShadowFrauds"] for one in others if "ShadowFrauds" in one}
    assert frauds == {"LOW": 1, "CRITICAL": 1}


def test_threads_have_clients_of_their_own(with_shadow: Functions) -> None:
    """A client makes one call at a time."""
    app = with_shadow.modules["ShadowFunction"]
    assert len({id(one) for one in app.CLIENTS}) == app.THREADS == len(app.CLIENTS)


def test_updates_run_at_once(with_shadow: Functions, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = with_shadow.modules["ShadowFunction"]
    scored(with_shadow, *[{"amount": 20, "tx_id": f"TX{number}"} for number in range(app.THREADS)])
    together = threading.Barrier(app.THREADS)
    waiting = SimpleNamespace(call=lambda *_: together.wait(10))
    monkeypatch.setattr(app, "CLIENTS", [waiting] * app.THREADS)
    assert with_shadow("ShadowFunction", {"Records": records(dynamodb)}) == {"batchItemFailures": []}


def test_invalid_model_stops_the_function_only(
    invoke: Functions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = forests.write(tmp_path / "forest.model")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    monkeypatch.setattr(scorers, "MODEL_FILE", str(damaged))
    monkeypatch.delitem(sys.modules, "functions.shadow.app", raising=False)
    with pytest.raises(ModelError, match=r"^forest\.model: The model is damaged") as raised:
        importlib.import_module("functions.shadow.app")
    assert "\n" not in str(raised.value)
    assert scored(invoke, TRANSACTIONS[0])[0]["risk_level"] == "LOW"
