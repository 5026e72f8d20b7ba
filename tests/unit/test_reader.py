"""LedgerReader: results, numbers of calls, deadlines and malformed responses."""

import io
import itertools
import json
import math
import random
import time
from typing import Any

import pytest

from scoring import http_api
from scoring.aws.client import CALL_SECONDS
from scoring.decision import Decision
from scoring.errors import CallFailed, StoreUnavailable
from scoring.ledger.reader import MAX_FOUND, LedgerReader
from scoring.ledger.writer import LedgerWriter
from scoring.store import Store
from tests.rule_set import decide
from tests.unit.aws_errors import dynamodb_errors
from tests.unit.conftest import NO_DEADLINE, SETTINGS, Intercept, record
from tests.unit.fakes import FakeClient, MotoClient

LOW = {"tx_id": "TX001", "amount": 50.0}


def evaluated_at(timestamp: str, decision: Decision) -> Decision:
    return decision._replace(response={**decision.response, "evaluated_at": timestamp})


def test_find_returns_newest_first(writer: LedgerWriter, reader: LedgerReader) -> None:
    for number in random.sample(range(MAX_FOUND + 5), MAX_FOUND + 5):
        decision = decide(LOW, f"{number % 7}-{number}")
        # Two decisions per time, ordered by their ids.
        record(writer, evaluated_at(f"2026-11-22T10:00:00.{number // 2:06d}Z", decision))
    found = [(one["evaluated_at"], one["decision_id"]) for one in reader.find("TX001", NO_DEADLINE)]
    assert found == sorted(found, reverse=True)
    assert len(found) == MAX_FOUND
    assert found[0][0] == f"2026-11-22T10:00:00.{(MAX_FOUND + 4) // 2:06d}Z"


def test_find_reads_consistently(reader: LedgerReader, intercept: Intercept) -> None:
    calls = intercept("query")
    reader.find("TX001", NO_DEADLINE)
    assert calls
    assert all(call["ConsistentRead"] for call in calls)


def test_find_respects_the_deadline(writer: LedgerWriter, reader: LedgerReader) -> None:
    record(writer, decide(LOW, "k1"))
    assert len(reader.find("TX001", time.monotonic() + CALL_SECONDS + 5)) == 1
    with pytest.raises(StoreUnavailable):
        reader.find("TX001", time.monotonic() + CALL_SECONDS - 0.01)


def test_find_returns_the_transaction(writer: LedgerWriter, reader: LedgerReader) -> None:
    transaction = {"tx_id": "TX001", "amount": 20.0, "category": "książki", "hour": 3}
    decision = decide({**transaction, "card": "4111111111111111"}, "k1")
    record(writer, decision)
    assert reader.find("TX001", NO_DEADLINE) == [{**decision.response, "transaction": transaction}]


OPINION = {"version": "1+m", "risk_level": "HIGH", "fraud": True, "fraud_probability": 0.5}
REASONS = {"unseen": ["category"], "contributions": [{"feature": "amount", "value": 5, "contribution": 0.4}]}


@pytest.mark.parametrize("opinion", [OPINION, OPINION | REASONS])
def test_find_returns_the_opinion_of_a_model(reader: LedgerReader, dynamodb: Any, opinion: dict[str, Any]) -> None:
    item = {"tx_id": {"S": "TX001"}, "decision_id": {"S": "k1"}, **stored_item("k1")}
    dynamodb.put_item(TableName="DecisionsTable", Item={**item, "shadow": {"S": json.dumps(opinion)}})
    (found,) = reader.find("TX001", NO_DEADLINE)
    assert found["shadow"] == opinion
    assert (
        json.dumps({name: value for name, value in found.items() if name not in {"transaction", "shadow"}})
        == (item["answer"]["S"])
    )


@pytest.mark.parametrize(
    "opinion",
    [
        {"N": "1"},
        {"S": ""},
        {"S": "{"},
        {"S": "[]"},
        *(
            {"S": json.dumps(other)}
            for other in (
                {**OPINION, "other": 1},
                {name: value for name, value in OPINION.items() if name != "fraud"},
                {**OPINION, "risk_level": "NONE"},
                {**OPINION, "risk_level": []},
                {**OPINION, "fraud": 1},
                {**OPINION, "fraud_probability": "0.5"},
                {**OPINION, "unseen": "category"},
                {**OPINION, "contributions": {}},
                {**OPINION, "version": None},
            )
        ),
    ],
    ids=str,
)
def test_invalid_opinion_does_not_hide_the_decision(
    reader: LedgerReader, dynamodb: Any, opinion: dict[str, str]
) -> None:
    item = {"tx_id": {"S": "TX001"}, "decision_id": {"S": "k1"}, **stored_item("k1"), "shadow": opinion}
    dynamodb.put_item(TableName="DecisionsTable", Item=item)
    (found,) = reader.find("TX001", NO_DEADLINE)
    assert "shadow" not in found


def test_decision_id_and_tx_id_do_not_collide(writer: LedgerWriter, reader: LedgerReader) -> None:
    """A decision without ``tx_id`` and with the key K neither blocks the key K of transaction K, nor is found there."""
    without, other = decide({"amount": 1}, "K"), decide({"amount": 2}, "other")
    record(writer, without)
    record(writer, other)
    assert reader.find("K", NO_DEADLINE) == [{**without.response, "transaction": {"amount": 1}}]
    own = decide({"tx_id": "K", "amount": 3}, "K")
    assert not record(writer, own).replayed
    assert reader.find("K", NO_DEADLINE) == [{**own.response, "transaction": {"tx_id": "K", "amount": 3}}]
    assert record(writer, decide({"amount": 1}, "K")).replayed
    assert reader.totals(NO_DEADLINE).total == 3


def test_decision_of_an_earlier_version_is_found(writer: LedgerWriter, reader: LedgerReader, dynamodb: Any) -> None:
    """Its partition key is its decision id, and its JSON is ASCII."""
    decision = decide({"amount": 1, "store": "Kraków"}, "K")
    item = {
        "tx_id": {"S": "K"},
        "decision_id": {"S": "K"},
        "transaction": {"S": json.dumps(decision.transaction)},
        "answer": {"S": json.dumps(decision.response)},
        "request_hash": {"S": decision.request_hash},
    }
    dynamodb.put_item(TableName="DecisionsTable", Item=item)
    assert reader.find("K", NO_DEADLINE) == [{**decision.response, "transaction": {"amount": 1, "store": "Kraków"}}]
    record(writer, decide({"tx_id": "K", "amount": 2}, "k2"))
    assert [found["decision_id"] for found in reader.find("K", NO_DEADLINE)] == ["k2"]


def test_find_stays_within_the_response_limit_of_lambda(writer: LedgerWriter, reader: LedgerReader) -> None:
    large = {**LOW, "store": "é" * 32_000}
    for number in range(40):
        decision = decide(large, f"k{number:02}")
        record(writer, evaluated_at(f"2026-11-22T10:00:00.{number:06d}Z", decision))
    found = reader.find("TX001", NO_DEADLINE)
    assert [one["decision_id"] for one in found] == [f"k{number:02}" for number in range(39, 39 - len(found), -1)]
    response = json.dumps(http_api.json_response({"tx_id": "TX001", "status": "found", "decisions": found}))
    assert 5_000_000 < len(response) < 6_000_000


def stored_item(decision_id: str) -> dict[str, Any]:
    decision = decide(LOW, decision_id)
    return {"answer": {"S": json.dumps(decision.response)}, "transaction": {"S": "{}"}}


def test_find_reads_every_page() -> None:
    client = FakeClient(
        {"Items": [stored_item("k1")], "LastEvaluatedKey": {"tx_id": {"S": "TX001"}}}, {"Items": [stored_item("k2")]}
    )
    found = LedgerReader(Store(client), SETTINGS).find("TX001", NO_DEADLINE)
    assert {one["decision_id"] for one in found} == {"k1", "k2"}
    first, second = client.calls
    assert second == {**first, "ExclusiveStartKey": {"tx_id": {"S": "TX001"}}}


MALFORMED = [
    {},
    {"message": "Welcome"},
    {"Items": None},
    {"Items": "items"},
    {"Items": {}},
    {"Items": ""},
    {"Items": [None]},
    {"Items": [{}]},
    {"Items": [stored_item("k") | {"answer": {"S": "{"}}]},
    {"Items": [stored_item("k") | {"answer": {"S": "[]"}}]},
    {"Items": [stored_item("k") | {"answer": {"S": "{}"}}]},
    {"Items": [stored_item("k") | {"transaction": {"N": "1"}}]},
    {"Items": [stored_item("k") | {"transaction": {"S": "[" * 100_000}}]},
    {"Items": [stored_item("k") | {"answer": {"S": json.dumps(decide(LOW, "k").response | {"score": math.nan})}}]},
    {"Items": [stored_item("k") | {"transaction": {"S": '{"amount": Infinity}'}}]},
    {"Responses": {}},
    {"Responses": {}, "UnprocessedKeys": {}},
    {"Responses": {"Other": []}, "UnprocessedKeys": {}},
    {"Responses": {"StatsTable": ""}, "UnprocessedKeys": {}},
    {"Responses": {"StatsTable": {}}, "UnprocessedKeys": {}},
    {"Responses": [], "UnprocessedKeys": {}},
    {"Responses": {"StatsTable": [None]}, "UnprocessedKeys": {}},
    {"Responses": {"StatsTable": {"total": 1}}, "UnprocessedKeys": {}},
    {"Responses": {"StatsTable": [{"total": {"S": "1"}}]}, "UnprocessedKeys": {}},
    *(
        {"Responses": {"StatsTable": [{"total": {"N": number}}]}, "UnprocessedKeys": {}}
        for number in ("many", "", "1_0", " 1", "٣", "-1", "1e3", 1, 1.5, True, math.inf, None)
    ),
]


@pytest.mark.parametrize("response", MALFORMED, ids=lambda response: json.dumps(response)[:80])
def test_malformed_response_is_store_unavailable(response: Any, log: io.StringIO) -> None:
    reader = LedgerReader(Store(FakeClient(response, response)), SETTINGS)
    with pytest.raises(StoreUnavailable):
        reader.totals(NO_DEADLINE)
    with pytest.raises(StoreUnavailable):
        reader.find("TX001", NO_DEADLINE)
    assert [json.loads(line)["reason"] for line in log.getvalue().splitlines()] == ["UnexpectedResponse"] * 2


def test_totals_read_every_shard_in_batches(dynamodb: Any, intercept: Intercept) -> None:
    for shard in range(250):
        dynamodb.put_item(TableName="StatsTable", Item={"shard": {"N": str(shard)}, "total": {"N": "1"}})
    calls = intercept("batch_get_item")
    reader = LedgerReader(Store(MotoClient(dynamodb)), SETTINGS._replace(stats_shards=250))
    assert reader.totals(NO_DEADLINE).total == 250
    assert len(calls) == 3
    assert all(call["RequestItems"]["StatsTable"]["ConsistentRead"] for call in calls)


def test_deadline_ends_a_long_read(dynamodb: Any, intercept: Intercept, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LedgerReader(Store(MotoClient(dynamodb)), SETTINGS._replace(stats_shards=1000))
    clock = itertools.count(step=1.5)
    monkeypatch.setattr("scoring.deadlines.time.monotonic", lambda: next(clock))
    calls = intercept("batch_get_item")
    with pytest.raises(StoreUnavailable):
        reader.totals(CALL_SECONDS + 2)
    assert len(calls) == 2


def test_totals_retry_unprocessed_shards(
    writer: LedgerWriter, reader: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(writer, decide(LOW, "k1"))
    original = dynamodb.batch_get_item
    incomplete = [True, True]

    def first_shard(RequestItems: Any) -> Any:  # noqa: N803  boto3's name
        keys = RequestItems["StatsTable"]["Keys"]
        if not incomplete:
            return original(RequestItems=RequestItems)
        incomplete.pop()
        page = original(RequestItems={"StatsTable": {"Keys": keys[:1], "ConsistentRead": True}})
        return {**page, "UnprocessedKeys": {"StatsTable": {"Keys": keys[1:], "ConsistentRead": True}}}

    monkeypatch.setattr(dynamodb, "batch_get_item", first_shard)
    assert reader.totals(NO_DEADLINE).total == 1

    monkeypatch.setattr(
        dynamodb,
        "batch_get_item",
        lambda RequestItems: {"Responses": {}, "UnprocessedKeys": RequestItems},  # noqa: N803
    )
    with pytest.raises(StoreUnavailable):
        reader.totals(time.monotonic() + CALL_SECONDS + 0.1)


def test_back_off_doubles_while_shards_are_unprocessed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("scoring.ledger.batch_get.random.uniform", lambda _, longest: longest)
    monkeypatch.setattr("scoring.ledger.batch_get.time.sleep", pauses.append)
    unprocessed = {"Responses": {}, "UnprocessedKeys": {"StatsTable": {"Keys": [{"shard": {"N": "0"}}]}}}
    client = FakeClient(*[unprocessed] * 6, {"Responses": {"StatsTable": []}, "UnprocessedKeys": {}})
    assert LedgerReader(Store(client), SETTINGS).totals(NO_DEADLINE).total == 0
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert client.calls[-1] == {"RequestItems": unprocessed["UnprocessedKeys"]}


def test_totals_respect_the_deadline(reader: LedgerReader, intercept: Intercept) -> None:
    calls = intercept("batch_get_item")
    with pytest.raises(StoreUnavailable):
        reader.totals(time.monotonic() + CALL_SECONDS - 0.01)
    assert calls == []


@pytest.mark.parametrize("error", dynamodb_errors("BatchGetItem", "Query"), ids=str)
def test_error_of_dynamodb_is_store_unavailable(error: CallFailed, log: io.StringIO) -> None:
    reader = LedgerReader(Store(FakeClient(error, error)), SETTINGS)
    with pytest.raises(StoreUnavailable):
        reader.totals(NO_DEADLINE)
    with pytest.raises(StoreUnavailable):
        reader.find("TX001", NO_DEADLINE)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["level"], line["reason"]) for line in lines] == [("ERROR", error.reason)] * 2
