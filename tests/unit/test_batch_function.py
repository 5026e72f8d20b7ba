"""The handler of ``POST /score/batch``: results, replays, keys, outages."""

import json
from typing import Any

import pytest

from scoring import batches, telemetry
from scoring.errors import StoreUnavailable
from scoring.ledger import outbox
from scoring.ledger.writer import Recorded
from scoring.scorers.forest.scorer import MAX_EXPLAINED
from tests import events
from tests.forests import decide_again
from tests.rule_set import R1
from tests.unit.conftest import FOREST, Functions, MetricLines
from tests.unit.test_openapi import SCHEMAS


def body_of(response: dict[str, Any]) -> Any:
    assert response["headers"]["Content-Type"] == "application/json"
    return json.loads(response["body"])


def send(invoke: Functions, *items: Any, **headers: str) -> list[dict[str, Any]]:
    """Send a batch and return its results."""
    response = invoke("BatchFunction", events.post(json.dumps(items), **headers))
    assert response["statusCode"] == 200, response
    results: list[dict[str, Any]] = body_of(response)["results"]
    assert list(body_of(response)) == ["results"]
    return results


def single(invoke: Functions, transaction: Any, **headers: str) -> dict[str, Any]:
    return dict(invoke("ScoreFunction", events.post(json.dumps(transaction), **headers)))


def total(invoke: Functions) -> int:
    return int(body_of(invoke("StatsFunction", events.load("stats")))["total"])


def test_results_are_in_order(invoke: Functions) -> None:
    amounts = [5000, 20, -1, 3001, 0, "7", 4000]
    results = send(invoke, *({"tx_id": f"TX{number}", "amount": amount} for number, amount in enumerate(amounts)))
    assert [result.get("risk_level", result.get("error")) for result in results] == [
        *("HIGH", "LOW", "Field 'amount' must not be negative", "HIGH", "LOW"),
        *("Field 'amount' must be a number", "HIGH"),
    ]
    assert [result["tx_id"] for result in results if "tx_id" in result] == ["TX0", "TX1", "TX3", "TX4", "TX6"]
    assert total(invoke) == 5


def test_batch_of_frauds_has_the_contributions_of_some(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is assessed twice: without its history, for the size of the response, and with it."""
    monkeypatch.setattr(invoke.modules["BatchFunction"], "SCORER", FOREST)
    numbers = range(MAX_EXPLAINED + 10)
    frauds = [{"amount": 5000, "category": "electronics", "customer_id": f"C{number}"} for number in numbers]
    for key in ("b1", "b2"):
        results = send(invoke, {"amount": 1}, *frauds, idempotency_key=key)
        assert [result["fraud"] for result in results] == [False] + [True] * len(frauds)
        assert ["contributions" in result for result in results] == [False] + [True] * MAX_EXPLAINED + [False] * 10
        for fraud, result in zip(frauds, results[1 : MAX_EXPLAINED + 1], strict=False):
            assert result == decide_again(FOREST, fraud, result)
    documented = SCHEMAS["Decision"]["properties"]["contributions"]["description"]
    assert f"only for up to {MAX_EXPLAINED} of these" in documented


def test_decision_is_that_of_a_single_request(invoke: Functions) -> None:
    transaction = {"tx_id": "TX1", "amount": 5000, "categroy": "x"}
    (result,) = send(invoke, {**transaction, "idempotency_key": "batch"})
    expected = body_of(single(invoke, transaction, idempotency_key="single"))
    assert list(result) == list(expected)
    for response, decision_id in ((result, "batch"), (expected, "single")):
        assert response.pop("decision_id") == decision_id
        assert response.pop("evaluated_at")
    assert result == expected
    assert (result["triggered_rules"], len(result["warnings"])) == ([R1], 1)


def test_repeated_batch_is_a_replay(invoke: Functions) -> None:
    items = ({"tx_id": "TX1", "amount": 1}, {"amount": "x"}, {"amount": 2, "idempotency_key": "own"}, {"amount": 3})
    first, second = (send(invoke, *items, idempotency_key="k") for _ in range(2))
    assert [result.get("decision_id") for result in first] == ["k:0", None, "own", "k:3"]
    assert not [result for result in first if "replayed" in result]
    assert second == [result if "error" in result else {**result, "replayed": True} for result in first]
    assert total(invoke) == 3


def test_repeated_batch_without_key_is_decided_again(invoke: Functions) -> None:
    for number in range(2):
        results = send(invoke, {"amount": 1}, {"amount": 1}, request_id=f"request-{number}")
        assert [result["decision_id"] for result in results] == [f"request-{number}:0", f"request-{number}:1"]
    assert total(invoke) == 4


def test_grown_batch_replays_what_it_had(invoke: Functions) -> None:
    items = [{"tx_id": f"TX{number}", "amount": number} for number in range(110)]
    assert len(send(invoke, *items[:100], idempotency_key="k")) == 100
    results = send(invoke, *items, idempotency_key="k")
    assert ["replayed" in result for result in results] == [True] * 100 + [False] * 10
    assert total(invoke) == 110


def conflict(key: str) -> dict[str, str]:
    return {"error": f"Header 'Idempotency-Key': '{key}' was already used with another body"}


def test_equal_keys_in_one_batch_are_one_decision(invoke: Functions) -> None:
    keyed = {"tx_id": "TX1", "idempotency_key": "k"}
    first, again, other, other_id, last = send(
        invoke,
        {**keyed, "amount": 1},
        {"amount": 1, **keyed},
        {**keyed, "amount": 2},
        {**keyed, "tx_id": "TX2", "amount": 2},
        {"amount": 2},
    )
    assert again == {**first, "replayed": True}
    assert other == conflict("k")
    assert (other_id["decision_id"], other_id["tx_id"], last["tx_id"]) == ("k", "TX2", "unknown")
    assert total(invoke) == 3


def test_single_request_and_batch_share_keys(invoke: Functions) -> None:
    one, two = {"tx_id": "TX1", "amount": 1}, {"tx_id": "TX2", "amount": 2}
    first = body_of(single(invoke, one, idempotency_key="k1"))
    replay, new, other = send(
        invoke, {**one, "idempotency_key": "k1"}, {**two, "idempotency_key": "k2"}, {"tx_id": "TX1", "amount": 3}
    )
    assert replay == {**first, "replayed": True}
    again = single(invoke, two, idempotency_key="k2")
    assert (again["headers"]["Idempotent-Replayed"], body_of(again)) == ("true", new)
    assert send(invoke, {**one, "amount": 9, "idempotency_key": "k1"}) == [conflict("k1")]
    assert single(invoke, {**two, "amount": 9}, idempotency_key="k2")["statusCode"] == 422
    # The third one's key is made of the request id.
    assert body_of(single(invoke, {"tx_id": "TX1", "amount": 3}, idempotency_key="request-1:2")) == other
    assert total(invoke) == 3


def test_batch_of_invalid_transactions_needs_no_store(invoke: Functions, dynamodb: Any, sqs: Any) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    sqs.delete_queue(QueueUrl="OutboxQueue")
    assert send(invoke, {}, []) == [
        {"error": "Missing required field 'amount'"},
        {"error": "The transaction must be a JSON object, not an array"},
    ]


def test_batch_without_store_uses_the_outbox(invoke: Functions, dynamodb: Any, sqs: Any) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    results = send(invoke, *({"amount": number} for number in range(25)), {}, idempotency_key="k")
    assert [result.get("recorded") for result in results] == [False] * 25 + [None]
    messages: list[Any] = []
    while received := sqs.receive_message(QueueUrl="OutboxQueue", MaxNumberOfMessages=10).get("Messages"):
        messages += received
    sent = {decision.decision_id: decision.response for decision in (outbox.decode(one["Body"]) for one in messages)}
    assert len(messages) == len(sent) == 25
    assert [{**sent[f"k:{number}"], "recorded": False} for number in range(25)] == results[:25]


def test_batch_without_store_and_outbox_is_503(invoke: Functions, dynamodb: Any, sqs: Any) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    sqs.delete_queue(QueueUrl="OutboxQueue")
    response = invoke("BatchFunction", events.post('[{"amount": 5}, {}]'))
    assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "1")
    assert list(body_of(response)) == ["error"]


def test_nothing_is_recorded_if_the_response_would_be_too_large(
    invoke: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_DECIDED_BYTES", 500)
    response = invoke("BatchFunction", events.post('[{"amount": 5}, {"amount": 6}, {"amount": 7}]'))
    assert response["statusCode"] == 413
    assert body_of(response)["error"].endswith("send fewer transactions in one batch")
    assert total(invoke) == 0


def test_metrics_count_each_transaction(invoke: Functions, new_metric_lines: MetricLines) -> None:
    items = ({"amount": 5000}, {"amount": 1, "x": 1, "idempotency_key": "k"}, {"amount": -1}, {"amount": 5000})
    send(invoke, {"amount": 1, "x": 1, "idempotency_key": "k"})
    new_metric_lines()
    send(invoke, *items, request_id="request-7")
    batch, *others = new_metric_lines()
    assert (batch["message"], batch["request_id"], batch["BatchItems"]) == ("batch", "request-7", 4)
    assert (batch["replayed"], batch["rejected"]) == (1, 1)
    counted = {
        (metric["Name"], line.get("risk_level") or line.get("rule") or line.get("reason")): line[metric["Name"]]
        for line in others
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    }
    assert counted.items() >= {("Decisions", "HIGH"): 2, ("RejectedItems", "InvalidRequest"): 1}.items()
    assert counted["RuleHits", R1] == 2


def test_unavailable_store_does_not_hide_what_was_recorded(
    invoke: Functions, new_metric_lines: MetricLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = invoke.modules["BatchFunction"].RECORDER
    record = recorder.record
    monkeypatch.setattr(
        recorder, "record", lambda decisions, deadline: [*record(decisions[:2], deadline), StoreUnavailable()]
    )
    response = invoke("BatchFunction", events.post('[{"amount": 1}, {"amount": 2}, {"amount": 3}]'))
    assert response["statusCode"] == 503
    lines = new_metric_lines()
    assert sum(line.get("Decisions", 0) for line in lines) == 2
    assert [line["reason"] for line in lines if "RejectedItems" in line] == ["StoreUnavailable"]


def test_replays_that_are_too_large_are_refused(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier rule set may have had more and longer labels."""
    recorder = invoke.modules["BatchFunction"].RECORDER
    stored = Recorded({"triggered_rules": ["x" * batches.MAX_RESPONSE_BYTES]}, replayed=True)
    record = recorder.record
    monkeypatch.setattr(recorder, "record", lambda *arguments: [stored, *record(*arguments)[1:]])
    monkeypatch.setattr(telemetry, "emit_batch", lambda *_, **__: None)
    response = invoke("BatchFunction", events.post('[{"amount": 1}, {"amount": 2}]'))
    assert response["statusCode"] == 413
    assert "send fewer transactions" in body_of(response)["error"]


def test_whole_request_errors_are_counted_as_rejections(invoke: Functions, new_metric_lines: MetricLines) -> None:
    for body, status, reason in (("{}", 400, "InvalidRequest"), (" " * 5_242_881, 413, "PayloadTooLarge")):
        response = invoke("BatchFunction", events.post(body))
        assert response["statusCode"] == status
        assert [line["reason"] for line in new_metric_lines()] == [reason]
    assert invoke("BatchFunction", events.post("[]", content_type="text/plain"))["statusCode"] == 415
