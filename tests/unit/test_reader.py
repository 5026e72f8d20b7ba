"""LedgerReader over moto: what they read, in how many calls, and when they give up."""

import io
import itertools
import json
import math
import random
import time
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from scoring import http_api
from scoring.aws import client
from scoring.decision import Decision
from scoring.errors import CallFailed, StoreUnavailable
from scoring.ledger.reader import MAX_FOUND, LedgerReader
from scoring.ledger.writer import LedgerWriter
from tests.rule_set import decide
from tests.unit.conftest import LATER, SETTINGS, ledger_of, reports_of
from tests.unit.failing import failing

LOW = {"tx_id": "TX001", "amount": 50.0}


def evaluated(decision: Decision, moment: str) -> Decision:
    """Return the decision as if it had been made at another time."""
    return decision._replace(response={**decision.response, "evaluated_at": moment})


def test_find_answers_newest_first(ledger: LedgerWriter, reports: LedgerReader) -> None:
    for number in random.sample(range(MAX_FOUND + 5), MAX_FOUND + 5):
        decision = decide(LOW, f"{number % 7}-{number}")
        # Two at a time, told apart by their ids
        ledger.record(evaluated(decision, f"2026-11-22T10:00:00.{number // 2:06d}Z"), LATER)
    found = [(answer["evaluated_at"], answer["decision_id"]) for answer in reports.find("TX001", LATER)]
    assert found == sorted(found, reverse=True)
    assert len(found) == MAX_FOUND
    assert found[0][0] == f"2026-11-22T10:00:00.{(MAX_FOUND + 4) // 2:06d}Z"


def test_find_reads_what_was_just_written(ledger: LedgerWriter, reports: LedgerReader, dynamodb: Any) -> None:
    asked: list[Any] = []
    dynamodb.meta.events.register("provide-client-params.dynamodb.Query", lambda params, **_: asked.append(params))
    reports.find("TX001", LATER)
    assert asked
    assert all(params["ConsistentRead"] for params in asked)


def test_find_gives_up_in_time(ledger: LedgerWriter, reports: LedgerReader) -> None:
    ledger.record(decide(LOW, "k1"), LATER)
    assert len(reports.find("TX001", time.monotonic() + client.CALL_SECONDS + 5)) == 1
    with pytest.raises(StoreUnavailable):
        reports.find("TX001", time.monotonic() + client.CALL_SECONDS - 0.01)


def test_find_shows_each_transaction_as_it_was_assessed(ledger: LedgerWriter, reports: LedgerReader) -> None:
    transaction = {"tx_id": "TX001", "amount": 20.0, "category": "książki", "hour": 3}
    decision = decide({**transaction, "card": "4111111111111111"}, "k1")
    ledger.record(decision, LATER)
    assert reports.find("TX001", LATER) == [{**decision.response, "transaction": transaction}]


def test_transaction_and_decision_id_of_the_same_name_are_kept_apart(
    ledger: LedgerWriter, reports: LedgerReader
) -> None:
    """A request without ``tx_id`` under the key K neither blocks K as key of transaction K, nor shows up there."""
    without, other = decide({"amount": 1}, "K"), decide({"amount": 2}, "other")
    ledger.record(without, LATER)
    ledger.record(other, LATER)
    assert reports.find("K", LATER) == [{**without.response, "transaction": {"amount": 1}}]
    own = decide({"tx_id": "K", "amount": 3}, "K")
    assert not ledger.record(own, LATER).replayed
    assert reports.find("K", LATER) == [{**own.response, "transaction": {"tx_id": "K", "amount": 3}}]
    assert ledger.record(decide({"amount": 1}, "K"), LATER).replayed
    assert reports.totals(LATER).total == 3


def test_decision_of_an_earlier_version_is_found(ledger: LedgerWriter, reports: LedgerReader, dynamodb: Any) -> None:
    """It stood in the partition of its decision id, its JSON as ASCII."""
    decision = decide({"amount": 1, "store": "Kraków"}, "K")
    item = {
        "tx_id": {"S": "K"},
        "decision_id": {"S": "K"},
        "transaction": {"S": json.dumps(decision.transaction.as_dict())},
        "answer": {"S": json.dumps(decision.response)},
        "request_hash": {"S": decision.request_hash},
    }
    dynamodb.put_item(TableName="DecisionsTable", Item=item)
    assert reports.find("K", LATER) == [{**decision.response, "transaction": {"amount": 1, "store": "Kraków"}}]
    ledger.record(decide({"tx_id": "K", "amount": 2}, "k2"), LATER)
    assert [found["decision_id"] for found in reports.find("K", LATER)] == ["k2"]


def test_find_returns_no_more_than_lambda_does(ledger: LedgerWriter, reports: LedgerReader) -> None:
    large = {**LOW, "store": "é" * 32_000}
    for number in range(40):
        decision = decide(large, f"k{number:02}")
        ledger.record(evaluated(decision, f"2026-11-22T10:00:00.{number:06d}Z"), LATER)
    found = reports.find("TX001", LATER)
    assert [one["decision_id"] for one in found] == [f"k{number:02}" for number in range(39, 39 - len(found), -1)]
    response = json.dumps(http_api.json_response({"tx_id": "TX001", "status": "found", "decisions": found}))
    assert 5_000_000 < len(response) < 6_000_000


class Scripted:
    """Stands in for :class:`scoring.client.Client`: gives these responses, one after the other."""

    def __init__(self, *responses: Any) -> None:
        self.responses = list(responses)
        self.calls: list[dict[str, Any]] = []

    def call(self, _operation: str, parameters: dict[str, Any]) -> Any:
        self.calls.append(dict(parameters))
        return self.responses.pop(0)


def scripted(*responses: Any) -> tuple[LedgerReader, Scripted]:
    service: Any = Scripted(*responses)
    return LedgerReader(service, SETTINGS), service


def item_of(decision_id: str) -> dict[str, Any]:
    decision = decide(LOW, decision_id)
    return {"answer": {"S": json.dumps(decision.response)}, "transaction": {"S": "{}"}}


def test_find_reads_every_page() -> None:
    reports, service = scripted(
        {"Items": [item_of("k1")], "LastEvaluatedKey": {"tx_id": {"S": "TX001"}}}, {"Items": [item_of("k2")]}
    )
    assert {found["decision_id"] for found in reports.find("TX001", LATER)} == {"k1", "k2"}
    first, second = service.calls
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
    {"Items": [item_of("k") | {"answer": {"S": "{"}}]},
    {"Items": [item_of("k") | {"answer": {"S": "[]"}}]},
    {"Items": [item_of("k") | {"answer": {"S": "{}"}}]},
    {"Items": [item_of("k") | {"transaction": {"N": "1"}}]},
    {"Items": [item_of("k") | {"transaction": {"S": "[" * 100_000}}]},
    {"Items": [item_of("k") | {"answer": {"S": json.dumps(decide(LOW, "k").response | {"score": math.nan})}}]},
    {"Items": [item_of("k") | {"transaction": {"S": '{"amount": Infinity}'}}]},
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
def test_unexpected_response_is_store_unavailable(response: Any, log: io.StringIO) -> None:
    for call in (lambda: scripted(response)[0].totals(LATER), lambda: scripted(response)[0].find("TX001", LATER)):
        with pytest.raises(StoreUnavailable):
            call()
    assert [json.loads(line)["reason"] for line in log.getvalue().splitlines()] == ["UnexpectedResponse"] * 2


def test_totals_read_every_shard_in_as_many_calls_as_it_takes(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = SETTINGS._replace(stats_shards=250)
    ledger, reports = ledger_of(dynamodb, configuration), reports_of(dynamodb, configuration)
    for shard in range(250):
        ledger._shard = shard
        ledger.record(decide(LOW, f"k{shard}"), LATER)
    calls = failing(monkeypatch, dynamodb, "batch_get_item")
    assert reports.totals(LATER).total == 250
    assert len(calls) == 3
    assert all(call["RequestItems"]["StatsTable"]["ConsistentRead"] for call in calls)


def test_totals_that_take_too_long_are_given_up(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = reports_of(dynamodb, SETTINGS._replace(stats_shards=1000))
    clock = itertools.count(step=1.5)
    monkeypatch.setattr("scoring.ledger.reader.time.monotonic", lambda: next(clock))
    calls = failing(monkeypatch, dynamodb, "batch_get_item")
    with pytest.raises(StoreUnavailable):
        reports.totals(client.CALL_SECONDS + 2)
    assert len(calls) == 2


def test_totals_ask_again_for_what_was_left_unprocessed(
    ledger: LedgerWriter, reports: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.record(decide(LOW, "k1"), LATER)
    real = dynamodb.batch_get_item
    left = [True, True]

    def half(RequestItems: Any) -> Any:  # noqa: N803  boto3's name
        keys = RequestItems["StatsTable"]["Keys"]
        if not left:
            return real(RequestItems=RequestItems)
        left.pop()
        page = real(RequestItems={"StatsTable": {"Keys": keys[:1], "ConsistentRead": True}})
        return {**page, "UnprocessedKeys": {"StatsTable": {"Keys": keys[1:], "ConsistentRead": True}}}

    monkeypatch.setattr(dynamodb, "batch_get_item", half)
    assert reports.totals(LATER).total == 1

    monkeypatch.setattr(
        dynamodb,
        "batch_get_item",
        lambda RequestItems: {"Responses": {}, "UnprocessedKeys": RequestItems},  # noqa: N803
    )
    with pytest.raises(StoreUnavailable):
        reports.totals(time.monotonic() + client.CALL_SECONDS + 0.1)


def test_pauses_grow_while_shards_are_left_unprocessed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("scoring.ledger.reader.random.uniform", lambda _, longest: longest)
    monkeypatch.setattr("scoring.ledger.reader.time.sleep", pauses.append)
    left = {"Responses": {}, "UnprocessedKeys": {"StatsTable": {"Keys": [{"shard": {"N": "0"}}]}}}
    reports, service = scripted(*[left] * 6, {"Responses": {"StatsTable": []}, "UnprocessedKeys": {}})
    assert reports.totals(LATER).total == 0
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert service.calls[-1] == {"RequestItems": left["UnprocessedKeys"]}


def test_nothing_is_begun_that_could_end_too_late(
    reports: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = failing(monkeypatch, dynamodb, "batch_get_item")
    with pytest.raises(StoreUnavailable):
        reports.totals(time.monotonic() + client.CALL_SECONDS - 0.01)
    assert reads == []


# Every code that DynamoDB's own model lists, and those that every AWS service may send.
CODES = sorted(
    {
        shape.name
        for operation in ("BatchGetItem", "Query")
        for shape in botocore.session.get_session()
        .get_service_model("dynamodb")
        .operation_model(operation)
        .error_shapes
    }
    | {"AccessDeniedException", "InternalFailure", "ServiceUnavailable", "ThrottlingException", "ValidationException"}
)
ERRORS = [
    *(ClientError({"Error": {"Code": code}}, "any") for code in CODES),
    CallFailed("ConnectionRefusedError"),
    CallFailed("TimeoutError"),
    CallFailed("HTTP 503", 503),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_of_the_store_is_store_unavailable(
    reports: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, log: io.StringIO
) -> None:
    failing(monkeypatch, dynamodb, "batch_get_item", error)
    failing(monkeypatch, dynamodb, "query", error)
    with pytest.raises(StoreUnavailable):
        reports.totals(LATER)
    with pytest.raises(StoreUnavailable):
        reports.find("TX001", LATER)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else str(error)
    assert [(line["level"], line["reason"]) for line in lines] == [("ERROR", reason)] * 2
