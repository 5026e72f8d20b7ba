"""The ledger over moto: what is written, counted, replayed and refused; no concurrency, which moto gets wrong."""

import dataclasses
import io
import itertools
import json
import random
import time
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring import aws
from scoring.decision import Decision, decide
from scoring.errors import IdempotencyConflict, StoreUnavailable
from scoring.ledger import MAX_FOUND, Ledger, Recorded, Totals
from tests.expected import R1, R2, R3
from tests.unit.conftest import LATER, SETTINGS
from tests.unit.failing import canceled, failing
from tests.unit.ledger_model import LedgerModel

CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
LOW = {"tx_id": "TX001", "amount": 50.0}
NOTHING = Totals(0, 0, {"LOW": 0, "MEDIUM": 0, "HIGH": 0, "CRITICAL": 0}, {})


def shards(dynamodb: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = dynamodb.scan(TableName="StatsTable")["Items"]
    return items


def test_a_decision_is_stored_with_its_reasons(ledger: Ledger, dynamodb: Any) -> None:
    decision = decide({**CRITICAL, "card": "4111111111111111"}, "k1")
    recorded = ledger.record(decision, LATER)

    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    assert item["tx_id"] == {"S": "TX003"}
    assert item["decision_id"] == {"S": "k1"}
    assert json.loads(item["answer"]["S"]) == recorded.answer == decision.answer()
    # Unknown fields may hold anything, a card number too: they are not kept.
    assert json.loads(item["transaction"]["S"]) == CRITICAL
    assert not recorded.replayed


def test_a_decision_expires(ledger: Ledger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.ledger.time.time", lambda: 1_000_000.9)
    ledger.record(decide(LOW, "k1"), LATER)
    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    time_to_live = dynamodb.describe_time_to_live(TableName="DecisionsTable")["TimeToLiveDescription"]
    assert item[time_to_live["AttributeName"]] == {"N": str(1_000_000 + 90 * 86_400)}


def test_counts(ledger: Ledger) -> None:
    assert ledger.totals(LATER) == NOTHING
    for number, transaction in enumerate([CRITICAL, LOW, LOW, {"amount": 3200}, {"amount": 1, "hour": 1}]):
        ledger.record(decide(transaction, f"k{number}"), LATER)
    assert ledger.totals(LATER) == Totals(
        total=5,
        high=2,
        by_risk_level={"LOW": 2, "MEDIUM": 1, "HIGH": 1, "CRITICAL": 1},
        by_rule={R1: 2, R2: 1, R3: 2},
    )


def test_the_same_request_again_is_answered_from_the_store(ledger: Ledger) -> None:
    first = ledger.record(decide(CRITICAL, "k1"), LATER)
    again = ledger.record(decide(CRITICAL, "k1"), LATER)
    assert again.replayed
    assert again.answer == first.answer
    assert ledger.totals(LATER).total == 1


def test_a_write_whose_reply_was_lost_is_no_replay(ledger: Ledger) -> None:
    decision = decide(CRITICAL, "k1")
    first = ledger.record(decision, LATER)
    assert ledger.record(decision, LATER) == first
    assert ledger.totals(LATER).total == 1


def test_the_key_with_another_body_is_refused(ledger: Ledger) -> None:
    ledger.record(decide(CRITICAL, "k1"), LATER)
    with pytest.raises(IdempotencyConflict, match="'k1' was already used with another body"):
        ledger.record(decide({**CRITICAL, "amount": 1}, "k1"), LATER)
    assert ledger.totals(LATER).total == 1


def test_a_key_belongs_to_its_transaction(ledger: Ledger) -> None:
    ledger.record(decide(CRITICAL, "k1"), LATER)
    ledger.record(decide(LOW, "k1"), LATER)
    assert ledger.totals(LATER).total == 2


def test_without_tx_id_the_decision_id_is_the_key(ledger: Ledger) -> None:
    ledger.record(decide({"amount": 1}, "k1"), LATER)
    ledger.record(decide({"amount": 1}, "k2"), LATER)
    (found,) = ledger.find("k1", LATER)
    assert (found["tx_id"], found["decision_id"]) == ("unknown", "k1")
    assert ledger.find("unknown", LATER) == []


def test_find_answers_newest_first(ledger: Ledger) -> None:
    for number in random.sample(range(MAX_FOUND + 5), MAX_FOUND + 5):
        decision = decide(LOW, f"{number % 7}-{number}")
        # Two at a time, told apart by their ids
        ledger.record(dataclasses.replace(decision, evaluated_at=f"2026-11-22T10:00:00.{number // 2:06d}Z"), LATER)
    found = [(answer["evaluated_at"], answer["decision_id"]) for answer in ledger.find("TX001", LATER)]
    assert found == sorted(found, reverse=True)
    assert len(found) == MAX_FOUND
    assert found[0][0] == f"2026-11-22T10:00:00.{(MAX_FOUND + 4) // 2:06d}Z"


def test_find_reads_what_was_just_written(ledger: Ledger, dynamodb: Any) -> None:
    asked: list[Any] = []
    dynamodb.meta.events.register("provide-client-params.dynamodb.Query", lambda params, **_: asked.append(params))
    ledger.find("TX001", LATER)
    assert [params["ConsistentRead"] for params in asked] == [True]


def test_find_gives_up_in_time(ledger: Ledger) -> None:
    ledger.record(decide(LOW, "k1"), LATER)
    assert len(ledger.find("TX001", time.monotonic() + aws.CALL_SECONDS + 5)) == 1
    with pytest.raises(StoreUnavailable):
        ledger.find("TX001", time.monotonic() + aws.CALL_SECONDS - 0.01)


def test_every_environment_starts_at_a_shard_of_its_own(dynamodb: Any) -> None:
    shards = {Ledger(dynamodb, dataclasses.replace(SETTINGS, stats_shards=64))._shard for _ in range(200)}
    assert shards <= set(range(64))
    assert len(shards) > 32


@pytest.mark.parametrize("left", [-1, 0, aws.CALL_SECONDS - 0.01])
def test_nothing_is_begun_that_could_end_too_late(
    ledger: Ledger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    writes = failing(monkeypatch, dynamodb, "transact_write_items")
    reads = failing(monkeypatch, dynamodb, "batch_get_item")
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), time.monotonic() + left)
    with pytest.raises(StoreUnavailable):
        ledger.totals(time.monotonic() + left)
    assert (writes, reads) == ([], [])


@pytest.mark.parametrize(
    "passing",
    [
        canceled("None", "TransactionConflict"),
        canceled("TransactionConflict", "None"),
        canceled("None", "ThrottlingError"),
        canceled("ProvisionedThroughputExceeded", "None"),
        ClientError({"Error": {"Code": "TransactionInProgressException"}}, "TransactWriteItems"),
    ],
)
def test_what_stands_in_the_way_moves_to_another_shard(
    ledger: Ledger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, passing: ClientError
) -> None:
    moves = iter([3, 2])
    monkeypatch.setattr("scoring.ledger.random.randrange", lambda *_: next(moves))
    ledger._shard = 2
    calls = failing(monkeypatch, dynamodb, "transact_write_items", passing, passing)

    ledger.record(decide(CRITICAL, "k1"), LATER)
    ledger.record(decide(LOW, "k2"), LATER)

    assert [call["TransactItems"][1]["Update"]["Key"]["shard"]["N"] for call in calls] == ["2", "1", "3", "3"]
    (shard,) = shards(dynamodb)
    assert (shard["shard"], shard["total"]) == ({"N": "3"}, {"N": "2"})


@pytest.mark.parametrize("shards", [1, 2, 64])
def test_the_other_shard_is_another_where_there_is_one(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.setattr("scoring.ledger.time.sleep", lambda _: None)
    monkeypatch.setattr("scoring.ledger._PATIENCE", 60)
    ledger = Ledger(dynamodb, dataclasses.replace(SETTINGS, stats_shards=shards))
    calls = failing(monkeypatch, dynamodb, "transact_write_items", *[canceled("TransactionConflict")] * 50)
    ledger.record(decide(LOW, "k1"), LATER)
    used = [int(call["TransactItems"][1]["Update"]["Key"]["shard"]["N"]) for call in calls]
    assert set(used) <= set(range(shards))
    assert all(one != other for one, other in itertools.pairwise(used)) or shards == 1


def test_conflicts_without_end_are_given_up_in_time(
    ledger: Ledger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    clock = [0.0]
    monkeypatch.setattr("scoring.ledger.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("scoring.ledger.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    calls = failing(monkeypatch, dynamodb, "transact_write_items", *[canceled("TransactionConflict", "None")] * 1000)
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), LATER)
    assert 8 < len(calls) < 100
    assert 0.5 <= clock[0] < 0.6
    assert json.loads(log.getvalue())["reason"] == "TransactionConflict"
    assert ledger.totals(LATER) == NOTHING


# Every code that DynamoDB's own model lists, and those that every AWS service may send.
CODES = sorted(
    {
        shape.name
        for operation in ("TransactWriteItems", "BatchGetItem", "Query")
        for shape in botocore.session.get_session()
        .get_service_model("dynamodb")
        .operation_model(operation)
        .error_shapes
    }
    | {"AccessDeniedException", "InternalFailure", "ServiceUnavailable", "ThrottlingException", "ValidationException"}
)
PASSING = {"TransactionInProgressException"}
ERRORS = [
    *(ClientError({"Error": {"Code": code}}, "any") for code in CODES if code not in PASSING),
    canceled("ValidationError"),
    ClientError({"Error": {"Code": "TransactionCanceledException"}}, "TransactWriteItems"),
    ConnectTimeoutError(endpoint_url="http://localhost"),
    EndpointConnectionError(endpoint_url="http://localhost"),
    ReadTimeoutError(endpoint_url="http://localhost"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_of_the_store_is_store_unavailable(
    ledger: Ledger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, log: io.StringIO
) -> None:
    failing(monkeypatch, dynamodb, "transact_write_items", error)
    failing(monkeypatch, dynamodb, "batch_get_item", error)
    failing(monkeypatch, dynamodb, "query", error)
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), LATER)
    with pytest.raises(StoreUnavailable):
        ledger.totals(LATER)
    with pytest.raises(StoreUnavailable):
        ledger.find("TX001", LATER)
    assert ledger.totals(LATER) == NOTHING
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    assert [(line["level"], line["reason"]) for line in lines] == [("ERROR", reason)] * 3
    assert lines[0]["decision_id"] == "k1"


def test_totals_read_every_shard_in_as_many_calls_as_it_takes(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(dynamodb, dataclasses.replace(SETTINGS, stats_shards=250))
    for shard in range(250):
        ledger._shard = shard
        ledger.record(decide(LOW, f"k{shard}"), LATER)
    calls = failing(monkeypatch, dynamodb, "batch_get_item")
    assert ledger.totals(LATER).total == 250
    assert len(calls) == 3
    assert all(call["RequestItems"]["StatsTable"]["ConsistentRead"] for call in calls)


def test_totals_that_take_too_long_are_given_up(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(dynamodb, dataclasses.replace(SETTINGS, stats_shards=1000))
    clock = itertools.count(step=1.5)
    monkeypatch.setattr("scoring.ledger.time.monotonic", lambda: next(clock))
    calls = failing(monkeypatch, dynamodb, "batch_get_item")
    with pytest.raises(StoreUnavailable):
        ledger.totals(aws.CALL_SECONDS + 2)
    assert len(calls) == 2


def test_totals_ask_again_for_what_was_left_unprocessed(
    ledger: Ledger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
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
    assert ledger.totals(LATER).total == 1

    monkeypatch.setattr(
        dynamodb,
        "batch_get_item",
        lambda RequestItems: {"Responses": {}, "UnprocessedKeys": RequestItems},  # noqa: N803
    )
    with pytest.raises(StoreUnavailable):
        ledger.totals(time.monotonic() + aws.CALL_SECONDS + 0.1)


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(["k1", "k2", "k3"]),
            st.sampled_from(
                [LOW, CRITICAL, {"amount": 1}, {"tx_id": "TX001", "amount": 3001}, {"tx_id": "k1", "amount": 1}]
            ),
            st.integers(0, 3),
        ),
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_the_ledger_does_as_its_model(dynamodb: Any, requests: list[Any]) -> None:
    """The first request under a key decides, later ones replay or conflict; every shard adds up at every moment."""
    for table, names in {"DecisionsTable": ["tx_id", "decision_id"], "StatsTable": ["shard"]}.items():
        for item in dynamodb.scan(TableName=table)["Items"]:
            dynamodb.delete_item(TableName=table, Key={name: item[name] for name in names})
    ledger, model = Ledger(dynamodb, SETTINGS), LedgerModel()

    def outcome(of: Ledger | LedgerModel, decision: Decision) -> Recorded | str:
        try:
            return of.record(decision, LATER)
        except IdempotencyConflict as error:
            return str(error)

    for key, document, shard in requests:
        ledger._shard = shard
        decision = decide(document, key)
        assert outcome(ledger, decision) == outcome(model, decision)
        assert ledger.totals(LATER) == model.totals(LATER)
        for tx_id in (decision.key, "TX001", "k1", "unknown"):
            assert ledger.find(tx_id, LATER) == model.find(tx_id, LATER)
        for item in shards(dynamodb):
            levels = sum(int(value["N"]) for name, value in item.items() if name.startswith("level#"))
            assert int(item["total"]["N"]) == levels
