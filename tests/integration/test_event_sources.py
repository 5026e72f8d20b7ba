"""The pollers of the local event source mappings."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.local import emulator
from tests.local.event_sources import filters, results, table_streams

TABLE, DEAD_LETTERS = "Records", "DeadLetters"
PARTIAL = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
FAILED = json.dumps({"errorType": "ValueError", "errorMessage": ""})


@pytest.mark.parametrize(
    ("result", "mapping", "failed"),
    [
        ("null", PARTIAL, []),
        ('{"batchItemFailures": []}', PARTIAL, []),
        ('{"batchItemFailures": null}', PARTIAL, []),
        ('{"batchItemFailures": [{"itemIdentifier": "b"}]}', PARTIAL, ["b"]),
        ('{"batchItemFailures": [{"itemIdentifier": "b"}]}', {}, []),
        ('{"batchItemFailures": [{"itemIdentifier": "c"}]}', PARTIAL, ["a", "b"]),
        ('{"batchItemFailures": [{"itemIdentifier": ""}]}', PARTIAL, ["a", "b"]),
        ('{"batchItemFailures": [{}]}', PARTIAL, ["a", "b"]),
        (FAILED, PARTIAL, ["a", "b"]),
        (FAILED, {}, ["a", "b"]),
    ],
)
def test_failed_items_of_a_batch(result: str, mapping: dict[str, Any], failed: list[str]) -> None:
    assert results.failed(result, ["a", "b"], mapping) == failed


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ({}, True),
        ({"name": ["INSERT"]}, True),
        ({"name": ["REMOVE", "INSERT"]}, True),
        ({"name": ["MODIFY"]}, False),
        ({"other": ["INSERT"]}, False),
        ({"image": {"level": {"S": ["HIGH"]}}}, True),
        ({"image": {"level": {"S": ["LOW"]}}}, False),
        ({"image": {"level": {"N": ["HIGH"]}}}, False),
        ({"name": ["INSERT"], "image": {"level": {"S": ["LOW"]}}}, False),
        ({"name": {"S": ["INSERT"]}}, False),
    ],
)
def test_filter_pattern(pattern: Any, *, matches: bool) -> None:
    assert filters.matches({"name": "INSERT", "image": {"level": {"S": "HIGH"}}}, pattern) is matches


def test_comparison_in_a_filter_is_an_error() -> None:
    with pytest.raises(ValueError, match="no comparison operators"):
        filters.matches({"name": "INSERT"}, {"name": [{"prefix": "IN"}]})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator.running() as endpoint:
        yield endpoint


@pytest.fixture
def clients(endpoint: str) -> Iterator[dict[str, Any]]:
    """boto3 clients, an empty table with a stream and an empty queue."""
    clients = {service: emulator.client(service, endpoint) for service in ("sqs", "dynamodb", "dynamodbstreams")}
    clients["dynamodb"].create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    clients["sqs"].create_queue(QueueName=DEAD_LETTERS)
    yield clients
    clients["dynamodb"].delete_table(TableName=TABLE)
    clients["sqs"].delete_queue(QueueUrl=DEAD_LETTERS)


class Function:
    """A function that records the ids of each batch; ``handler`` gets it and the ids, and returns its result."""

    def __init__(self, handler: Callable[["Function", list[str]], Any]) -> None:
        self.handler = handler
        self.batches: list[list[str]] = []
        self.events: list[Any] = []

    def __call__(self, name: str, event: str) -> str:
        assert name == "Function"
        records = json.loads(event)["Records"]
        self.events += records
        self.batches.append([record["dynamodb"]["Keys"]["id"]["S"] for record in records])
        return json.dumps(self.handler(self, self.batches[-1]))

    def failures(self, *ids: str) -> dict[str, Any]:
        """Return a partial response that names these records of the last batch."""
        numbers = {one["dynamodb"]["Keys"]["id"]["S"]: one["dynamodb"]["SequenceNumber"] for one in self.events}
        return {"batchItemFailures": [{"itemIdentifier": numbers[one]} for one in ids]}


def poller(clients: dict[str, Any], function: Function, **mapping: Any) -> table_streams.Poller:
    properties = {
        "FunctionName": "Function",
        "EventSourceArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{TABLE}/stream/label",
        "StartingPosition": "TRIM_HORIZON",
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 2,
        "DestinationConfig": {"OnFailure": {"Destination": f"arn:aws:sqs:us-east-1:000000000000:{DEAD_LETTERS}"}},
        **PARTIAL,
        **mapping,
    }
    return table_streams.Poller(**clients, invoke=function, mapping=properties, stop=threading.Event())


def put(clients: dict[str, Any], ids: str, level: str = "HIGH") -> None:
    for one in ids:
        clients["dynamodb"].put_item(
            TableName=TABLE, Item={"id": {"S": one}, "level": {"S": level}, "raw": {"B": b"1"}}
        )


def dead_letters(clients: dict[str, Any]) -> list[Any]:
    messages = clients["sqs"].receive_message(QueueUrl=DEAD_LETTERS, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"])["DDBStreamBatchInfo"] for message in messages]


def test_records_arrive_once_in_batches_in_order(clients: dict[str, Any]) -> None:
    function = Function(lambda *_: None)
    put(clients, "abcd")
    source = poller(clients, function, BatchSize=3)
    source.poll()
    put(clients, "e")
    source.poll()
    source.poll()
    assert function.batches == [["a", "b", "c"], ["d"], ["e"]]
    record = function.events[0]
    assert (record["eventSource"], record["eventName"]) == ("aws:dynamodb", "INSERT")
    assert record["eventSourceARN"].startswith("arn:aws:dynamodb:us-east-1:000000000000:table/Records/stream/")
    assert isinstance(record["dynamodb"]["ApproximateCreationDateTime"], float)
    assert record["dynamodb"]["NewImage"] == {"id": {"S": "a"}, "level": {"S": "HIGH"}, "raw": {"B": "MQ=="}}


def test_only_records_that_match_a_filter_arrive(clients: dict[str, Any]) -> None:
    pattern = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"level": {"S": ["HIGH", "CRITICAL"]}}}}
    function = Function(lambda *_: None)
    put(clients, "a", "LOW")
    put(clients, "b", "CRITICAL")
    put(clients, "a", "HIGH")  # an update
    put(clients, "c", "HIGH")
    clients["dynamodb"].delete_item(TableName=TABLE, Key={"id": {"S": "b"}})
    poller(clients, function, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]}).poll()
    assert function.batches == [["b", "c"]]


def test_partial_failure_is_delivered_again_from_its_first_record(clients: dict[str, Any]) -> None:
    function = Function(lambda this, _: this.failures("d", "b") if len(this.batches) == 1 else None)
    put(clients, "abcd")
    poller(clients, function).poll()
    assert function.batches == [["a", "b", "c", "d"], ["b", "c", "d"]]


def test_failed_batch_is_bisected_until_the_poison_record_is_alone(clients: dict[str, Any]) -> None:
    function = Function(lambda _, ids: json.loads(FAILED) if "b" in ids else None)
    put(clients, "abcd")
    poller(clients, function).poll()
    assert function.batches == [["a", "b", "c", "d"], ["a", "b"], ["a"], ["b"], ["b"], ["b"], ["c", "d"]]
    (dead,) = dead_letters(clients)
    assert dead["batchSize"] == 1
    assert dead["startSequenceNumber"] == dead["endSequenceNumber"] == function.events[1]["dynamodb"]["SequenceNumber"]


def test_failed_batch_is_given_up_as_a_whole_without_bisect(clients: dict[str, Any]) -> None:
    function = Function(lambda _, ids: json.loads(FAILED) if "a" in ids else None)
    put(clients, "ab")
    source = poller(clients, function, BisectBatchOnFunctionError=False)
    source.poll()
    put(clients, "c")
    source.poll()
    assert function.batches == [["a", "b"]] * 3 + [["c"]]
    (dead,) = dead_letters(clients)
    assert dead["batchSize"] == 2


def test_failed_batch_is_retried_until_it_succeeds_by_default(clients: dict[str, Any]) -> None:
    function = Function(lambda this, _: json.loads(FAILED) if len(this.batches) < 5 else None)
    put(clients, "a")
    poller(clients, function, MaximumRetryAttempts=-1).poll()
    assert function.batches == [["a"]] * 5
    assert dead_letters(clients) == []
