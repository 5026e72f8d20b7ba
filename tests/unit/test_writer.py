"""The ledger over moto: what is written, counted, replayed and refused; no concurrency, which moto gets wrong."""

import io
import itertools
import json
import math
import time
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring import decision as decision_module
from scoring import http_api, strict_json
from scoring.aws import client
from scoring.decision import Decision
from scoring.errors import CallFailed, IdempotencyConflict, StoreUnavailable
from scoring.ledger import outbox
from scoring.ledger.reader import LedgerReader, Totals
from scoring.ledger.writer import LedgerWriter, Recorded
from scoring.scorers.rules_loader import MAX_LABEL_LENGTH, MAX_RULES, from_document
from tests.rule_set import DOCUMENT, R1, R2, R3, decide
from tests.unit.conftest import LATER, SETTINGS, ledger_of, reports_of
from tests.unit.failing import canceled, failing
from tests.unit.ledger_model import LedgerModel

CRITICAL = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
LOW = {"tx_id": "TX001", "amount": 50.0}
NOTHING = Totals(0, 0, {"LOW": 0, "MEDIUM": 0, "HIGH": 0, "CRITICAL": 0}, {})


def shards(dynamodb: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = dynamodb.scan(TableName="StatsTable")["Items"]
    return items


def test_a_decision_is_stored_with_its_reasons(ledger: LedgerWriter, dynamodb: Any) -> None:
    decision = decide({**CRITICAL, "card": "4111111111111111"}, "k1")
    recorded = ledger.record(decision, LATER)

    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    assert item["tx_id"] == {"S": "TX003"}
    assert item["decision_id"] == {"S": "k1"}
    assert json.loads(item["answer"]["S"]) == recorded.response == decision.response
    # Unknown fields may hold anything, a card number too: they are not kept.
    assert json.loads(item["transaction"]["S"]) == CRITICAL
    assert not recorded.replayed


def test_a_decision_expires(ledger: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoring.ledger.writer.time.time", lambda: 1_000_000.9)
    ledger.record(decide(LOW, "k1"), LATER)
    (item,) = dynamodb.scan(TableName="DecisionsTable")["Items"]
    time_to_live = dynamodb.describe_time_to_live(TableName="DecisionsTable")["TimeToLiveDescription"]
    assert item[time_to_live["AttributeName"]] == {"N": str(1_000_000 + 90 * 86_400)}


def test_counts(ledger: LedgerWriter, reports: LedgerReader) -> None:
    assert reports.totals(LATER) == NOTHING
    for number, transaction in enumerate([CRITICAL, LOW, LOW, {"amount": 3200}, {"amount": 1, "hour": 1}]):
        ledger.record(decide(transaction, f"k{number}"), LATER)
    assert reports.totals(LATER) == Totals(
        total=5,
        high=2,
        by_risk_level={"LOW": 2, "MEDIUM": 1, "HIGH": 1, "CRITICAL": 1},
        by_rule={R1: 2, R2: 1, R3: 2},
    )


def test_the_same_request_again_is_answered_from_the_store(ledger: LedgerWriter, reports: LedgerReader) -> None:
    first = ledger.record(decide(CRITICAL, "k1"), LATER)
    again = ledger.record(decide(CRITICAL, "k1"), LATER)
    assert again.replayed
    assert again.response == first.response
    assert reports.totals(LATER).total == 1


def test_a_write_whose_reply_was_lost_is_no_replay(ledger: LedgerWriter, reports: LedgerReader) -> None:
    decision = decide(CRITICAL, "k1")
    first = ledger.record(decision, LATER)
    assert ledger.record(decision, LATER) == first
    assert reports.totals(LATER).total == 1


def test_the_key_with_another_body_is_refused(ledger: LedgerWriter, reports: LedgerReader) -> None:
    ledger.record(decide(CRITICAL, "k1"), LATER)
    with pytest.raises(IdempotencyConflict, match="'k1' was already used with another body"):
        ledger.record(decide({**CRITICAL, "amount": 1}, "k1"), LATER)
    assert reports.totals(LATER).total == 1


def test_every_transaction_has_a_token_of_its_own(
    ledger: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which DynamoDB tells transactions apart from attempts: it takes an equal token for one more attempt."""
    calls = failing(monkeypatch, dynamodb, "transact_write_items", canceled("TransactionConflict", "None"))
    for key in ("k1", "k2"):
        ledger.record(decide(LOW, key), LATER)
    tokens = {call["ClientRequestToken"] for call in calls}
    assert len(tokens) == len(calls) == 3
    assert {len(token) for token in tokens} == {32}  # DynamoDB takes up to 36 characters


def test_a_key_belongs_to_its_transaction(ledger: LedgerWriter, reports: LedgerReader) -> None:
    ledger.record(decide(CRITICAL, "k1"), LATER)
    ledger.record(decide(LOW, "k1"), LATER)
    assert reports.totals(LATER).total == 2


def test_without_tx_id_the_decision_id_is_the_key(ledger: LedgerWriter, reports: LedgerReader) -> None:
    ledger.record(decide({"amount": 1}, "k1"), LATER)
    ledger.record(decide({"amount": 1}, "k2"), LATER)
    (found,) = reports.find("k1", LATER)
    assert (found["tx_id"], found["decision_id"]) == ("unknown", "k1")
    assert reports.find("unknown", LATER) == []


def test_every_environment_starts_at_a_shard_of_its_own(dynamodb: Any) -> None:
    shards = {ledger_of(dynamodb, SETTINGS._replace(stats_shards=64))._shard for _ in range(200)}
    assert shards <= set(range(64))
    assert len(shards) > 32


@pytest.mark.parametrize("left", [-1, 0, client.CALL_SECONDS - 0.01])
def test_nothing_is_begun_that_could_end_too_late(
    ledger: LedgerWriter, reports: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    writes = failing(monkeypatch, dynamodb, "transact_write_items")
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), time.monotonic() + left)
    assert writes == []


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
    ledger: LedgerWriter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, passing: ClientError
) -> None:
    moves = iter([3, 2])
    monkeypatch.setattr("scoring.ledger.writer.random.randrange", lambda *_: next(moves))
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
    monkeypatch.setattr("scoring.ledger.writer.time.sleep", lambda _: None)
    monkeypatch.setattr("scoring.ledger.writer.RETRY_BUDGET_SECONDS", 60)
    ledger = ledger_of(dynamodb, SETTINGS._replace(stats_shards=shards))
    calls = failing(monkeypatch, dynamodb, "transact_write_items", *[canceled("TransactionConflict")] * 50)
    ledger.record(decide(LOW, "k1"), LATER)
    used = [int(call["TransactItems"][1]["Update"]["Key"]["shard"]["N"]) for call in calls]
    assert set(used) <= set(range(shards))
    assert all(one != other for one, other in itertools.pairwise(used)) or shards == 1


def test_conflicts_without_end_are_given_up_in_time(
    ledger: LedgerWriter, reports: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    clock = [0.0]
    monkeypatch.setattr("scoring.ledger.writer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("scoring.ledger.writer.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    calls = failing(monkeypatch, dynamodb, "transact_write_items", *[canceled("TransactionConflict", "None")] * 1000)
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), LATER)
    assert 8 < len(calls) < 100
    assert 0.5 <= clock[0] < 0.6
    assert json.loads(log.getvalue())["reason"] == "TransactionConflict"
    assert reports.totals(LATER) == NOTHING


# Every code that DynamoDB's own model lists, and those that every AWS service may send.
CODES = sorted(
    {
        shape.name
        for shape in botocore.session.get_session()
        .get_service_model("dynamodb")
        .operation_model("TransactWriteItems")
        .error_shapes
    }
    | {"AccessDeniedException", "InternalFailure", "ServiceUnavailable", "ThrottlingException", "ValidationException"}
)
PASSING = {"TransactionInProgressException"}
ERRORS = [
    *(ClientError({"Error": {"Code": code}}, "any") for code in CODES if code not in PASSING),
    canceled("ValidationError"),
    ClientError({"Error": {"Code": "TransactionCanceledException"}}, "TransactWriteItems"),
    CallFailed("ConnectionRefusedError"),
    CallFailed("TimeoutError"),
    CallFailed("HTTP 503", 503),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_of_the_store_is_store_unavailable(
    ledger: LedgerWriter,
    reports: LedgerReader,
    dynamodb: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    log: io.StringIO,
) -> None:
    failing(monkeypatch, dynamodb, "transact_write_items", error)
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), LATER)
    assert reports.totals(LATER) == NOTHING
    line = json.loads(log.getvalue())
    reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else str(error)
    assert (line["level"], line["message"], line["reason"]) == ("ERROR", "store unavailable", reason)
    assert line["decision_id"] == "k1"


TEXT = {"S": "{}"}


def stored_item(**changes: Any) -> dict[str, Any]:
    """The stored decision about a request under the key ``k1``, with changes of its answer."""
    decision = decide(LOW, "k1")
    answer = {"S": json.dumps(decision.response | changes)}
    return {"request_hash": {"S": decision.request_hash}, "answer": answer}


@pytest.mark.parametrize(
    "response",
    [
        {"message": "Welcome"},
        {"__type": "SomethingElse"},
        {"MessageId": "1"},
        {"CancellationReasons": []},
        # Not asked for
        {"ConsumedCapacity": []},
    ],
    ids=str,
)
def test_response_of_another_shape_is_never_taken_for_recorded(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, response: dict[str, Any]
) -> None:
    monkeypatch.setattr(ledger._dynamodb, "call", lambda *_: response)
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), LATER)
    assert json.loads(log.getvalue())["reason"] == "UnexpectedResponse"


def test_response_of_a_transaction_confirms_it(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger._dynamodb, "call", lambda *_: {})
    assert not ledger.record(decide(LOW, "k1"), LATER).replayed


def test_answers_of_earlier_versions_are_replayed(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch, reports: LedgerReader
) -> None:
    """Even if responses have gained a field since."""
    first = ledger.record(decide(CRITICAL, "k1"), LATER)
    decision = decide(CRITICAL, "k1")
    newer: Any = {**decision.response, "new": 1}
    again = ledger.record(decision._replace(response=newer), LATER)
    assert (again.response, again.replayed) == (first.response, True)
    with pytest.raises(IdempotencyConflict):
        ledger.record(decide({**CRITICAL, "amount": 1}, "k1"), LATER)
    assert reports.totals(LATER).total == 1


@pytest.mark.parametrize(
    "reasons",
    [
        None,
        "TransactionConflict",
        5,
        {"Code": "TransactionConflict"},
        [None],
        ["TransactionConflict"],
        [[]],
        [{"Code": "ConditionalCheckFailed"}, None],
        [{"Code": ["TransactionConflict"]}],
        [{"Code": None}],
        [{"Code": "ConditionalCheckFailed"}],
        [{"Code": "ConditionalCheckFailed", "Item": "item"}],
        [{"Code": "ConditionalCheckFailed", "Item": ["item"]}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": "x", "answer": TEXT}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "{"}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": 5}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "[]"}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "{}"}}}],
        [{"Code": "ConditionalCheckFailed", "Item": {"request_hash": TEXT, "answer": {"S": "[" * 100_000}}}],
        [{"Code": "ConditionalCheckFailed", "Item": stored_item(decision_id="other")}],
        [{"Code": "ConditionalCheckFailed", "Item": stored_item(score=math.nan)}],
        [{"Code": "ConditionalCheckFailed", "Item": stored_item() | {"request_hash": {"S": 5}}}],
    ],
    ids=lambda reasons: str(reasons)[:90],
)
def test_malformed_reasons_are_a_failed_call(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, reasons: Any
) -> None:
    """The decision then goes to the outbox, and is neither lost nor taken for recorded."""

    def cancel(*_: Any) -> Any:
        raise CallFailed("TransactionCanceledException", 400, {"CancellationReasons": reasons})

    monkeypatch.setattr(ledger._dynamodb, "call", cancel)
    with pytest.raises(StoreUnavailable):
        ledger.record(decide(LOW, "k1"), LATER)
    assert json.loads(log.getvalue())["reason"] in {"TransactionCanceledException", "UnexpectedResponse"}


@pytest.mark.parametrize("character", ["x", "é", "€", "🂡", "\x7f", "\\u0001", '\\"'])
def test_largest_decision_fits_into_an_item(dynamodb: Any, character: str) -> None:
    """DynamoDB takes 400 KB of names and values in UTF-8; so many rules with such labels may hit at once."""
    rule = {"points": 1, "when": [{"field": "amount", "operator": ">=", "value": 0}]}
    rules = [{"label": f"{number:03}" + "🂡" * (MAX_LABEL_LENGTH - 3), **rule} for number in range(MAX_RULES)]
    rule_set = from_document({**DOCUMENT, "version": "🂡" * 64, "rules": rules})
    text = character * ((http_api.MAX_BODY_BYTES - 600) // len(character.encode()))
    body = f'{{"amount": 1, "tx_id": "{"🂡" * 128}", "store": "{text}"}}'
    assert http_api.MAX_BODY_BYTES - 100 < len(body.encode()) <= http_api.MAX_BODY_BYTES
    decision = decision_module.decide(strict_json.parse(body), "k" * 128, rule_set)
    item = ledger_of(dynamodb)._put(decision)["Put"]["Item"]
    size = sum(len((name + text).encode()) for name, value in item.items() for text in value.values())
    assert size < 160_000
    assert len(outbox.encode(decision)) < 1024 * 1024 * 2 / 3


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
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_the_ledger_does_as_its_model(dynamodb: Any, requests: list[Any]) -> None:
    """The first request under a key decides, later ones replay or conflict; every shard adds up at every moment."""
    for table, names in {"DecisionsTable": ["tx_id", "decision_id"], "StatsTable": ["shard"]}.items():
        for item in dynamodb.scan(TableName=table)["Items"]:
            dynamodb.delete_item(TableName=table, Key={name: item[name] for name in names})
    ledger, reports, model = ledger_of(dynamodb), reports_of(dynamodb), LedgerModel()

    def outcome(of: LedgerWriter | LedgerModel, decision: Decision) -> Recorded | str:
        try:
            return of.record(decision, LATER)
        except IdempotencyConflict as error:
            return str(error)

    for key, document, shard in requests:
        ledger._shard = shard
        decision = decide(document, key)
        assert outcome(ledger, decision) == outcome(model, decision)
        assert reports.totals(LATER) == model.totals(LATER)
        for tx_id in ("TX001", "k1", "k2", "k3", "unknown"):
            assert reports.find(tx_id, LATER) == model.find(tx_id, LATER)
        for item in shards(dynamodb):
            levels = sum(int(value["N"]) for name, value in item.items() if name.startswith("level#"))
            assert int(item["total"]["N"]) == levels
