"""The poller of a Kafka topic delivers records as Lambda's event source mapping does."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.local import broker
from tests.local.event_sources import kafka

TOPIC, PARTITIONS = "payments", 3
FAILED = json.dumps({"errorType": "ValueError", "errorMessage": ""})
TIMEOUT_SECONDS = 30

Batch = dict[str, list[int]]


class Function:
    """A function that records the offsets of each batch; ``handler`` gets it and the batch, and returns its result."""

    def __init__(self, handler: Callable[["Function", Batch], Any] = lambda *_: None) -> None:
        self.handler = handler
        self.batches: list[Batch] = []
        self.events: list[Any] = []

    def __call__(self, name: str, event: str) -> str:
        assert name == "StreamFunction"
        self.events.append(json.loads(event))
        self.batches.append({key: [one["offset"] for one in of] for key, of in self.events[-1]["records"].items()})
        return json.dumps(self.handler(self, self.batches[-1]))

    def delivered(self, partition: str) -> list[int]:
        """Return the offsets of a partition in the order of their deliveries."""
        return [offset for batch in self.batches for offset in batch.get(partition, [])]


@pytest.fixture
def bootstrap() -> Iterator[str]:
    with broker.running() as bootstrap:
        broker.create_topic(bootstrap, TOPIC, PARTITIONS)
        yield bootstrap


def mapping(bootstrap: str, **properties: Any) -> dict[str, Any]:
    return {
        "FunctionName": "StreamFunction",
        "SelfManagedEventSource": {"Endpoints": {"KafkaBootstrapServers": [bootstrap]}},
        "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "risk-scoring"},
        "Topics": [TOPIC],
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0.2,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        **properties,
    }


def produce(bootstrap: str, count: int, **properties: Any) -> None:
    """Produce records round robin to all partitions."""
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 8_000_000})
    for number in range(count):
        producer.produce(TOPIC, **{"value": str(number), "partition": number % PARTITIONS, **properties})
    assert producer.flush(TIMEOUT_SECONDS) == 0


def poll_until(function: Function, properties: dict[str, Any], condition: Callable[[], bool]) -> kafka.Poller:
    """Poll until the condition holds, and for two more batches, which must be empty."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with closing(kafka.Poller(function, properties, threading.Event())) as poller:
        while not condition():
            poller.poll()
            assert time.monotonic() < deadline, function.batches
        batches = len(function.batches)
        poller.poll()
        poller.poll()
    assert len(function.batches) == batches
    return poller


def counts(function: Function) -> list[int]:
    return [len(function.delivered(f"{TOPIC}-{number}")) for number in range(PARTITIONS)]


def test_records_arrive_once_in_order(bootstrap: str) -> None:
    function = Function()
    produce(bootstrap, 60)
    poller = poll_until(function, mapping(bootstrap), lambda: sum(counts(function)) == 60)
    for number in range(PARTITIONS):
        assert function.delivered(f"{TOPIC}-{number}") == list(range(20))
    assert max(sum(map(len, batch.values())) for batch in function.batches) == 10
    assert poller.lag == 0


def test_event_has_the_shape_of_lambda(bootstrap: str) -> None:
    function = Function()
    headers = [("idempotency_key", b"k1"), ("raw", b"\x00\x7f\x80\xff"), ("idempotency_key", b"k2")]
    produce(bootstrap, 1, value=b"\xff{", key=b"customer", headers=headers, timestamp=1_790_000_000_123)
    produce(bootstrap, 1, value=None)
    poll_until(function, mapping(bootstrap), lambda: sum(counts(function)) == 2)
    (event, *others) = function.events
    records = [record for one in (event, *others) for record in one["records"]["payments-0"]]
    assert (event["eventSource"], event["bootstrapServers"]) == ("SelfManagedKafka", bootstrap)
    assert records[0] == {
        "topic": TOPIC,
        "partition": 0,
        "offset": 0,
        "timestamp": 1_790_000_000_123,
        "timestampType": "CREATE_TIME",
        "key": base64.b64encode(b"customer").decode(),
        "value": base64.b64encode(b"\xff{").decode(),
        "headers": [{"idempotency_key": [107, 49]}, {"raw": [0, 127, -128, -1]}, {"idempotency_key": [107, 50]}],
    }
    assert (records[1]["key"], records[1]["value"], records[1]["headers"]) == (None, None, [])


def test_partition_is_delivered_again_from_its_first_failed_record(bootstrap: str) -> None:
    def fail_twice(this: Function, batch: Batch) -> Any:
        if 3 in batch.get("payments-1", []) and this.delivered("payments-1").count(3) <= 2:
            return {"batchItemFailures": [{"itemIdentifier": {"partition": "payments-1", "offset": 3}}]}
        return None

    function = Function(fail_twice)
    produce(bootstrap, 30)
    poll_until(
        function,
        mapping(bootstrap, BatchSize=30),
        lambda: min(counts(function)) >= 10 and function.delivered("payments-1").count(3) == 3,
    )
    assert function.delivered("payments-0") == function.delivered("payments-2") == list(range(10))
    assert list(dict.fromkeys(function.delivered("payments-1"))) == list(range(10))
    assert [function.delivered("payments-1").count(offset) for offset in range(4)] == [1, 1, 1, 3]


@pytest.mark.parametrize(
    "result",
    [
        json.loads(FAILED),
        {"batchItemFailures": [{"itemIdentifier": {"partition": "payments-9", "offset": 0}}]},
        {"batchItemFailures": [{"itemIdentifier": {"topic": "payments", "partition": 0, "offset": 0}}]},
    ],
    ids=["error", "unknown record", "wrong shape"],
)
def test_whole_batch_is_delivered_again(bootstrap: str, result: Any) -> None:
    function = Function(lambda this, _: result if len(this.batches) == 1 else None)
    produce(bootstrap, 6)
    poll_until(function, mapping(bootstrap), lambda: len(function.batches) > 1 and min(counts(function)) >= 2)
    first = function.batches[0]
    for partition, offsets in first.items():
        assert function.delivered(partition)[: 2 * len(offsets)] == offsets * 2
    assert {key: set(function.delivered(key)) for key in first} == {key: {0, 1} for key in first}


def test_next_poller_continues_after_the_last_success(bootstrap: str) -> None:
    produce(bootstrap, 12)
    first = Function()
    poll_until(first, mapping(bootstrap), lambda: sum(counts(first)) == 12)
    failing = Function(lambda *_: json.loads(FAILED))
    produce(bootstrap, 3)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with closing(kafka.Poller(failing, mapping(bootstrap), threading.Event())) as poller:
        while not failing.batches:
            poller.poll()
            assert time.monotonic() < deadline
    last = Function()
    poll_until(last, mapping(bootstrap), lambda: sum(counts(last)) == 3)
    assert [last.delivered(f"{TOPIC}-{number}") for number in range(PARTITIONS)] == [[4], [4], [4]]


def test_event_is_not_larger_than_lambda_accepts(bootstrap: str) -> None:
    function = Function()
    produce(bootstrap, 9, value=b"x" * 900_000)
    poll_until(function, mapping(bootstrap), lambda: sum(counts(function)) == 9)
    assert len(function.batches) > 1
    assert max(len(json.dumps(event)) for event in function.events) <= 6 * 1024 * 1024
    assert counts(function) == [3, 3, 3]
