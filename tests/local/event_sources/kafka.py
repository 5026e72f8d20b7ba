"""A topic of a self-managed Kafka cluster: invokes a function with its records, in order within each partition.

The offsets of a batch are committed once it has succeeded. After a partial response, each partition is read again from
its first failed record; after an error of the function, the whole batch is. This poller retries without end, and does
not split batches.

Needs the virtual environment of the tests, since it uses confluent-kafka.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaException, Message, TopicPartition

from tests.local import broker
from tests.local.event_sources import results

# Lambda invokes with at most 6 MB, less the event around the records.
_MAX_RECORD_BYTES = 6 * 1024 * 1024 - 10_000
_SEPARATOR_BYTES = 2
_DEFAULT_BATCH_SIZE = 100
_DEFAULT_WINDOW_SECONDS = 0.5
_END_SECONDS = 5
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 2.0
_STARTING_POSITIONS = {"TRIM_HORIZON": "earliest", "LATEST": "latest"}


class Poller:
    """Polls a topic as a member of the mapping's consumer group.

    Parameters
    ----------
    invoke
        That of :class:`.environments.Environments`.
    mapping
        Properties of the event source mapping.
    stop
        Ends pauses between retries when it is set.

    Attributes
    ----------
    lag
        Records that were in the topic at the last batch but are not handled yet.
    """

    def __init__(self, invoke: Callable[[str, str], str], mapping: Mapping[str, Any], stop: threading.Event) -> None:
        self._invoke = invoke
        self._mapping = mapping
        self._stop = stop
        self._bootstrap: str = ",".join(mapping["SelfManagedEventSource"]["Endpoints"]["KafkaBootstrapServers"])
        self._failures = 0
        self.lag = 0
        # Offset of the next record to handle, by topic and partition
        self._positions: dict[tuple[str, int], int] = {}
        self._consumer = self._joined()

    def poll(self) -> None:
        """Deliver the next batch.

        If the broker does not accept its offsets, join the group again, which delivers the batch again.
        """
        try:
            self._poll()
        except KafkaException:
            self._consumer.close()
            self._stop.wait(_RETRY_SECONDS)
            self._consumer = self._joined()

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()

    def _poll(self) -> None:
        records = self._receive()
        count = _fitting(records)
        failed = self._deliver(records[:count])
        again, positions = set(), {}
        for number, record in enumerate(records):
            partition, offset = (record["topic"], record["partition"]), record["offset"]
            if partition in again:
                continue
            if number >= count or _identifier(record) in failed:
                again.add(partition)
                positions[partition] = offset
            else:
                positions[partition] = offset + 1
        for partition in again:
            self._consumer.seek(TopicPartition(*partition, positions[partition]))
        if positions:
            offsets = [TopicPartition(*partition, offset) for partition, offset in positions.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._measure_lag(positions)
        self._failures = self._failures + 1 if failed else 0
        if failed:
            self._stop.wait(min(_RETRY_SECONDS * 2**self._failures, _MAX_RETRY_SECONDS))

    def _measure_lag(self, positions: dict[tuple[str, int], int]) -> None:
        self._positions |= positions
        watermarks = (
            (self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True), offset)
            for partition, offset in self._positions.items()
        )
        self.lag = sum(max(high - offset, 0) for (_, high), offset in watermarks)

    def _joined(self) -> Consumer:
        """Return a new member of the consumer group."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": self._mapping["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"],
                "auto.offset.reset": _STARTING_POSITIONS[self._mapping["StartingPosition"]],
                "enable.auto.commit": False,
                # While no broker responds, librdkafka would log a line per attempt.
                "log_level": 0,
                **broker.CONSUMER_PROPERTIES,
            }
        )
        consumer.subscribe(self._mapping["Topics"])
        return consumer

    def _receive(self) -> list[dict[str, Any]]:
        """Wait for records until the batch is full or its window has passed."""
        messages = self._consumer.consume(
            self._mapping.get("BatchSize", _DEFAULT_BATCH_SIZE),
            timeout=self._mapping.get("MaximumBatchingWindowInSeconds", _DEFAULT_WINDOW_SECONDS),
        )
        for error in filter(None, (message.error() for message in messages)):
            if error.fatal():
                raise KafkaException(error)
        return [_record(message) for message in messages if not message.error()]

    def _deliver(self, records: list[dict[str, Any]]) -> list[Any]:
        """Invoke the function with records, and return the identifiers of those that failed."""
        if not records:
            return []
        by_partition: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            by_partition.setdefault(_name(record), []).append(record)
        event = {"eventSource": "SelfManagedKafka", "bootstrapServers": self._bootstrap, "records": by_partition}
        result = self._invoke(self._mapping["FunctionName"], json.dumps(event))
        return results.failed(result, [_identifier(record) for record in records], self._mapping)


@contextmanager
def running(invoke: Callable[[str, str], str], mapping: Mapping[str, Any]) -> Iterator[Poller]:
    """Poll a topic in the background; the parameters are those of :class:`Poller`."""
    stop = threading.Event()
    poller = Poller(invoke, mapping, stop)

    def work() -> None:
        while not stop.is_set():
            poller.poll()
        poller.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield poller
    finally:
        stop.set()
        thread.join(_END_SECONDS)


def _record(message: Message) -> dict[str, Any]:
    """Return a record as Lambda's events have it."""
    kind, timestamp = message.timestamp()
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": timestamp,
        "timestampType": "LOG_APPEND_TIME" if kind == TIMESTAMP_LOG_APPEND_TIME else "CREATE_TIME",
        "key": _base64(message.key()),
        "value": _base64(message.value()),
        "headers": [{name: _signed(value)} for name, value in headers],
    }


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _signed(data: bytes | None) -> list[int]:
    """Return bytes as Java's signed ones: from 128 on, they are negative."""
    return [one - 256 if one > 127 else one for one in data or b""]


def _name(record: dict[str, Any]) -> str:
    return f"{record['topic']}-{record['partition']}"


def _identifier(record: dict[str, Any]) -> dict[str, Any]:
    """Return the identifier of the record in a partial response."""
    return {"partition": _name(record), "offset": record["offset"]}


def _fitting(records: Sequence[dict[str, Any]]) -> int:
    """Return how many records fit into one event; at least one, if there are any."""
    size = 0
    for number, record in enumerate(records):
        size += len(json.dumps(record)) + _SEPARATOR_BYTES
        if size > _MAX_RECORD_BYTES and number:
            return number
    return len(records)
