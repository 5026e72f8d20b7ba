"""The stream function: record Kafka records once, send those that can never be scored to the dead-letter queue."""

import base64
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from scoring import http_api, scorers, stream
from scoring.errors import InvalidRequest, NotRecorded
from scoring.ledger.reader import LedgerReader
from scoring.ledger.writer import LedgerWriter
from scoring.scorers.forest.scorer import MAX_EXPLAINED
from scoring.stream import Record
from tests import rule_set
from tests.corpus import BAD_UTF_8, MISSING, TOO_LARGE
from tests.rule_set import R1, decide
from tests.unit.aws_errors import cancellation
from tests.unit.conftest import FOREST, NO_DEADLINE, Intercept, MetricLines, record
from tests.unit.log_lines import metrics

TRANSACTION = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
QUEUE = "StreamDeadLetters"

# (*records) -> the response
Stream = Callable[..., Any]


def kafka_record(
    value: Any, offset: int = 0, partition: int = 0, idempotency_key: bytes | None = None
) -> dict[str, Any]:
    """Return a record as Lambda passes it on; a value that is no bytes is encoded as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return {
        "topic": "transactions",
        "partition": partition,
        "offset": offset,
        "timestamp": 1_764_000_000_000,
        "timestampType": "CREATE_TIME",
        "key": base64.b64encode(b"key").decode(),
        "value": base64.b64encode(raw).decode(),
        "headers": [] if idempotency_key is None else [{"idempotency_key": list(idempotency_key)}],
    }


def kafka_event(*records: dict[str, Any]) -> dict[str, Any]:
    """Return an event with these records, by partition."""
    by_partition: dict[str, list[dict[str, Any]]] = {}
    for one in records:
        by_partition.setdefault(f"{one['topic']}-{one['partition']}", []).append(one)
    return {"eventSource": "aws:kafka", "bootstrapServers": "b-1.example:9092", "records": by_partition}


@pytest.fixture
def app(
    dynamodb: Any,
    sqs: Any,
    writer: LedgerWriter,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Any]:
    """Import the function anew; the parameter is PARTIAL_RESPONSES."""
    sqs.create_queue(QueueName=QUEUE)
    monkeypatch.setenv("DEAD_LETTERS_URL", QUEUE)
    monkeypatch.setenv("PARTIAL_RESPONSES", getattr(request, "param", "true"))
    monkeypatch.setattr(scorers, "load", lambda: rule_set.RULE_SET)
    monkeypatch.delitem(sys.modules, "functions.stream.app", raising=False)
    module = importlib.import_module("functions.stream.app")
    monkeypatch.setattr(module, "LEDGER", writer)
    yield module
    sys.modules.pop("functions.stream.app")


@pytest.fixture
def consume(app: Any, context: SimpleNamespace) -> Stream:
    return lambda *records: app.lambda_handler(kafka_event(*records), context)


def dead_letters() -> list[dict[str, Any]]:
    """Receive all messages of the dead-letter queue."""
    letters: list[dict[str, Any]] = []
    queue = boto3.client("sqs")
    while received := queue.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10).get("Messages"):
        letters.extend(json.loads(message["Body"]) for message in received)
    return letters


def test_record_is_decided_and_counted(consume: Stream, reader: LedgerReader) -> None:
    assert consume(kafka_record(TRANSACTION, offset=7, partition=2)) == {"batchItemFailures": []}
    (found,) = reader.find("TX003", NO_DEADLINE)
    expected = decide(TRANSACTION, "transactions-2-7").response
    assert found == {**expected, "evaluated_at": found["evaluated_at"], "transaction": TRANSACTION}
    assert reader.totals(NO_DEADLINE).by_rule[R1] == 1
    assert dead_letters() == []


def test_frauds_do_not_hold_up_a_partition(
    app: Any, consume: Stream, reader: LedgerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SCORER", FOREST)
    for start in (0, 1000):
        numbers = range(start, start + MAX_EXPLAINED + 10)
        consume(*[kafka_record({"tx_id": f"TX{number}", "amount": 5000, "hour": 3}, number) for number in numbers])
        found = [reader.find(f"TX{number}", NO_DEADLINE)[0] for number in numbers]
        assert {one["risk_level"] for one in found} == {"CRITICAL"}
        assert sum("contributions" in one for one in found) == MAX_EXPLAINED


def test_redelivered_records_are_counted_once(consume: Stream, reader: LedgerReader) -> None:
    records = [kafka_record({"tx_id": f"TX{number}", "amount": number}, offset=number) for number in range(150)]
    consume(*records[:100])
    consume(*records)
    assert reader.totals(NO_DEADLINE).total == 150


def test_key_of_the_producer_is_the_decision_id(consume: Stream, reader: LedgerReader) -> None:
    """A producer that sends a transaction twice makes one decision, wherever the records are."""
    consume(kafka_record(TRANSACTION, 1, idempotency_key=b"order-17"))
    consume(kafka_record(TRANSACTION, 2, partition=1, idempotency_key=b"order-17"), kafka_record(TRANSACTION, 3))
    ids = {decision["decision_id"] for decision in reader.find("TX003", NO_DEADLINE)}
    assert ids == {"order-17", "transactions-0-3"}
    assert reader.totals(NO_DEADLINE).total == 2
    assert dead_letters() == []


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"", None, "The body is empty; it must be a JSON document"),
        (b"{", None, "The body is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)"),
        (b"\xff", None, BAD_UTF_8),
        (b'{"amount": NaN}', None, "The body is not valid JSON: NaN is not a number in JSON"),
        ({}, None, MISSING),
        ({"amount": "12"}, None, "Field 'amount' must be a number"),
        ({"amount": 1, "note": "x" * 65_536}, None, TOO_LARGE),
        (
            {"amount": 1},
            b"a b",
            "Header 'idempotency_key' must have 1 to 128 visible ASCII characters, no space, no comma",
        ),
        (
            {"amount": 1},
            b"\xff",
            "Header 'idempotency_key' must have 1 to 128 visible ASCII characters, no space, no comma",
        ),
    ],
)
def test_record_that_can_never_be_scored_is_a_dead_letter(
    consume: Stream, reader: LedgerReader, value: Any, key: bytes | None, reason: str
) -> None:
    bad = kafka_record(value, 1, idempotency_key=key)
    good = [kafka_record({"tx_id": f"TX{offset}", "amount": 1}, offset) for offset in (0, 2)]
    assert consume(good[0], bad, good[1]) == {"batchItemFailures": []}
    assert dead_letters() == [
        {"topic": "transactions", "partition": 0, "offset": 1, "reason": reason, "value": bad["value"]}
    ]
    assert reader.totals(NO_DEADLINE).total == 2


def test_record_without_a_value_is_a_dead_letter(consume: Stream, reader: LedgerReader) -> None:
    tombstone = kafka_record(b"", offset=4)
    del tombstone["value"]
    consume(tombstone, {**kafka_record(b"", offset=5), "value": None})
    assert [(letter["reason"], letter["value"]) for letter in dead_letters()] == [("The record has no value", None)] * 2
    assert reader.totals(NO_DEADLINE).total == 0


def test_key_used_for_another_transaction_is_a_dead_letter(consume: Stream, reader: LedgerReader) -> None:
    consume(
        kafka_record(TRANSACTION, 0, idempotency_key=b"k"),
        kafka_record({**TRANSACTION, "amount": 1}, 1, idempotency_key=b"k"),
    )
    (letter,) = dead_letters()
    assert letter["offset"] == 1
    assert "already used with another body" in letter["reason"]
    assert reader.totals(NO_DEADLINE).total == 1


@pytest.mark.parametrize(("length", "is_hashed"), [(97, False), (98, True), (249, True)])
def test_id_is_a_valid_key_whatever_the_topic_is_called(
    consume: Stream, reader: LedgerReader, *, length: int, is_hashed: bool
) -> None:
    topic, partition, offset = "t" * length, 2**31 - 1, 2**63 - 1
    consume({**kafka_record(TRANSACTION, offset, partition), "topic": topic})
    (found,) = reader.find("TX003", NO_DEADLINE)
    assert len(found["decision_id"]) <= http_api.MAX_KEY_LENGTH
    assert found["decision_id"].startswith("t" * length) != is_hashed
    assert found["decision_id"].endswith(f"-{partition}-{offset}")


def test_value_that_does_not_fit_is_left_out() -> None:
    record = Record("t", 0, 1, base64.b64encode(b"x" * 800_000).decode(), [])
    letter = stream.dead_letter(record, InvalidRequest("reason"))
    assert json.loads(letter) == {"topic": "t", "partition": 0, "offset": 1, "reason": "reason", "value": None}


def test_headers_have_signed_bytes_and_repeat(consume: Stream, reader: LedgerReader) -> None:
    """Java's bytes are signed; of repeated headers, the last counts, as for Kafka's clients."""
    one = kafka_record(TRANSACTION)
    one["headers"] = [
        {"other": None},
        {"idempotency_key": [107, 49]},
        {"trace": [-61, -87]},
        {"idempotency_key": [107, 50]},
    ]
    consume(one)
    (found,) = reader.find("TX003", NO_DEADLINE)
    assert found["decision_id"] == "k2"


def fail_from(dynamodb: Any, monkeypatch: pytest.MonkeyPatch, decision_id: str) -> None:
    """Make DynamoDB unavailable for transactions with this decision."""
    transact_write_items = dynamodb.transact_write_items

    def fail(**parameters: Any) -> Any:
        puts = parameters["TransactItems"][:-1]
        if any(put["Put"]["Item"]["decision_id"]["S"] == decision_id for put in puts):
            failing = boto3.client("dynamodb").exceptions.InternalServerError
            raise failing({"Error": {"Code": "InternalServerError", "Message": "m"}}, "TransactWriteItems")
        return transact_write_items(**parameters)

    monkeypatch.setattr(dynamodb, "transact_write_items", fail)


def test_partition_is_delivered_again_from_its_first_failure(
    consume: Stream, reader: LedgerReader, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first transaction has 99 records; a dead letter behind the failure waits for the next delivery."""
    fail_from(dynamodb, monkeypatch, "transactions-1-50")
    records = [kafka_record({"tx_id": f"TX{number}", "amount": 1}, number) for number in range(60)]
    records += [kafka_record({"tx_id": f"TX{number}", "amount": 1}, number, partition=1) for number in range(60)]
    records[3]["value"] = records[63]["value"] = records[119]["value"] = ""
    assert consume(*records) == {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": "transactions-1", "offset": offset}} for offset in range(41, 60)
        ]
    }
    assert {(letter["partition"], letter["offset"]) for letter in dead_letters()} == {(0, 3), (1, 3)}
    assert reader.totals(NO_DEADLINE).total == 99


@pytest.mark.parametrize("app", ["false"], indirect=True)
def test_without_partial_responses_the_batch_fails_and_is_absorbed_later(
    consume: Stream, reader: LedgerReader, intercept: Intercept
) -> None:
    records = [kafka_record({"tx_id": f"TX{number}", "amount": 1}, number) for number in range(150)]
    records.append(kafka_record(b"", 150))
    intercept("transact_write_items", cancellation("ProvisionedThroughputExceededException"))
    with pytest.raises(NotRecorded, match="150 of 151 records were not recorded; all are delivered again"):
        consume(*records)
    assert dead_letters() == []
    assert consume(*records) == {"batchItemFailures": []}
    assert reader.totals(NO_DEADLINE).total == 150
    assert [letter["offset"] for letter in dead_letters()] == [150]


def test_dead_letter_that_is_not_sent_is_delivered_again(consume: Stream, reader: LedgerReader, sqs: Any) -> None:
    sqs.delete_queue(QueueUrl=QUEUE)
    records = [kafka_record({"tx_id": f"TX{number}", "amount": 1}, number) for number in range(3)]
    assert consume(*records, kafka_record(b"", 3), kafka_record(b"", 4)) == {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": "transactions-0", "offset": offset}} for offset in (3, 4)
        ]
    }
    assert reader.totals(NO_DEADLINE).total == 3


def test_writes_leave_time_for_the_dead_letters(
    consume: Stream, context: SimpleNamespace, intercept: Intercept
) -> None:
    calls = intercept("transact_write_items")
    context.get_remaining_time_in_millis = lambda: 4500
    assert consume(kafka_record(TRANSACTION, 0), kafka_record(b"", 1, partition=1))["batchItemFailures"] == [
        {"itemIdentifier": {"partition": "transactions-0", "offset": 0}}
    ]
    assert calls == []
    assert len(dead_letters()) == 1


def test_metrics(consume: Stream, writer: LedgerWriter, new_metric_lines: MetricLines) -> None:
    record(writer, decide(TRANSACTION, "transactions-0-0"))
    new_metric_lines()
    consume(
        kafka_record(TRANSACTION, 0),
        *(kafka_record({"amount": 3200 + number, "x": 1}, 1 + number) for number in range(3)),
        kafka_record({"amount": 1}, 4),
        kafka_record(b"", 5),
        kafka_record({}, 6),
        kafka_record({"amount": 1, "note": "x" * 65_536}, 7),
    )
    counts = {
        (name, *(value for key, value in sorted(dimensions) if key != "service")): number
        for line in new_metric_lines()
        for (_, name, dimensions), _, number in metrics(line)
    }
    assert counts == {
        ("StreamRecords",): 8,
        # Counts of two lines with the same dimension add up in CloudWatch.
        ("DeadLetters",): counts[("DeadLetters",)],
        ("DeadLetters", "InvalidRequest"): 2,
        ("DeadLetters", "PayloadTooLarge"): 1,
        ("Decisions",): counts[("Decisions",)],
        ("Decisions", "HIGH"): 3,
        ("Decisions", "LOW"): 1,
        ("UnknownFields",): 3,
        ("UnknownFields", "HIGH"): 3,
        ("RuleHits", R1): 3,
    }


def test_failures_are_counted(consume: Stream, intercept: Intercept, new_metric_lines: MetricLines) -> None:
    intercept("transact_write_items", cancellation("ProvisionedThroughputExceededException"))
    consume(kafka_record(TRANSACTION, 0), kafka_record(TRANSACTION, 1))
    (line,) = new_metric_lines()
    assert (line["StreamRecords"], line["StreamFailures"]) == (2, 2)


def test_no_content_of_a_record_is_logged(consume: Stream, log: io.StringIO) -> None:
    private = {"tx_id": "TX-private", "amount": 3141.59, "card": "4111-1111"}
    consume(
        kafka_record(private, 0),
        kafka_record({**private, "amount": "3141.59"}, 1),
        kafka_record(b'{"private": 1, "private": 2}', 2),
        kafka_record(private, 3, idempotency_key=b"4111-1111 private"),
    )
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["offset"] for line in lines if "offset" in line] == [1, 2, 3]
    assert not [word for word in ("private", "3141.59", "4111-") if word in log.getvalue()]
