"""Reports over moto: what they read, in how many calls, and when they give up."""

import io
import itertools
import json
import random
import time
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from scoring import aws, reports
from scoring.errors import StoreUnavailable
from scoring.ledger import Ledger
from scoring.reports import MAX_FOUND, Reports
from tests.rule_set import decide
from tests.unit.conftest import LATER, SETTINGS, ledger_of
from tests.unit.failing import failing

LOW = {"tx_id": "TX001", "amount": 50.0}


def test_find_answers_newest_first(ledger: Ledger, reports: Reports) -> None:
    for number in random.sample(range(MAX_FOUND + 5), MAX_FOUND + 5):
        decision = decide(LOW, f"{number % 7}-{number}")
        # Two at a time, told apart by their ids
        ledger.record(decision._replace(evaluated_at=f"2026-11-22T10:00:00.{number // 2:06d}Z"), LATER)
    found = [(answer["evaluated_at"], answer["decision_id"]) for answer in reports.find("TX001", LATER)]
    assert found == sorted(found, reverse=True)
    assert len(found) == MAX_FOUND
    assert found[0][0] == f"2026-11-22T10:00:00.{(MAX_FOUND + 4) // 2:06d}Z"


def test_find_reads_what_was_just_written(ledger: Ledger, reports: Reports, dynamodb: Any) -> None:
    asked: list[Any] = []
    dynamodb.meta.events.register("provide-client-params.dynamodb.Query", lambda params, **_: asked.append(params))
    reports.find("TX001", LATER)
    assert [params["ConsistentRead"] for params in asked] == [True]


def test_find_gives_up_in_time(ledger: Ledger, reports: Reports) -> None:
    ledger.record(decide(LOW, "k1"), LATER)
    assert len(reports.find("TX001", time.monotonic() + aws.CALL_SECONDS + 5)) == 1
    with pytest.raises(StoreUnavailable):
        reports.find("TX001", time.monotonic() + aws.CALL_SECONDS - 0.01)


def test_totals_read_every_shard_in_as_many_calls_as_it_takes(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = SETTINGS._replace(stats_shards=250)
    ledger, reports = ledger_of(dynamodb, configuration), Reports(dynamodb, configuration)
    for shard in range(250):
        ledger._shard = shard
        ledger.record(decide(LOW, f"k{shard}"), LATER)
    calls = failing(monkeypatch, dynamodb, "batch_get_item")
    assert reports.totals(LATER).total == 250
    assert len(calls) == 3
    assert all(call["RequestItems"]["StatsTable"]["ConsistentRead"] for call in calls)


def test_totals_that_take_too_long_are_given_up(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports(dynamodb, SETTINGS._replace(stats_shards=1000))
    clock = itertools.count(step=1.5)
    monkeypatch.setattr("scoring.reports.time.monotonic", lambda: next(clock))
    calls = failing(monkeypatch, dynamodb, "batch_get_item")
    with pytest.raises(StoreUnavailable):
        reports.totals(aws.CALL_SECONDS + 2)
    assert len(calls) == 2


def test_totals_ask_again_for_what_was_left_unprocessed(
    ledger: Ledger, reports: Reports, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
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
        reports.totals(time.monotonic() + aws.CALL_SECONDS + 0.1)


def test_nothing_is_begun_that_could_end_too_late(
    reports: Reports, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = failing(monkeypatch, dynamodb, "batch_get_item")
    with pytest.raises(StoreUnavailable):
        reports.totals(time.monotonic() + aws.CALL_SECONDS - 0.01)
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
    ConnectTimeoutError(endpoint_url="http://localhost"),
    EndpointConnectionError(endpoint_url="http://localhost"),
    ReadTimeoutError(endpoint_url="http://localhost"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_of_the_store_is_store_unavailable(
    reports: Reports, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, log: io.StringIO
) -> None:
    failing(monkeypatch, dynamodb, "batch_get_item", error)
    failing(monkeypatch, dynamodb, "query", error)
    with pytest.raises(StoreUnavailable):
        reports.totals(LATER)
    with pytest.raises(StoreUnavailable):
        reports.find("TX001", LATER)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    assert [(line["level"], line["reason"]) for line in lines] == [("ERROR", reason)] * 2


def test_the_client_waits_no_longer_than_a_caller_does(dynamodb: Any) -> None:
    config: Any = reports.connect()._client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (0.2, 1)
    assert config.retries == {"mode": "standard", "total_max_attempts": 2}
