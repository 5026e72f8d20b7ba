"""The stream of a DynamoDB table: invokes a function with its records, in order.

A batch that fails is delivered again, from the first record that failed. Without a report of failed items, it is split
in two if the mapping says so. After ``MaximumRetryAttempts``, its coordinates go to the failure destination. The
maximum age of records and the batching window are not emulated: every batch has what the stream offers at the moment.
"""

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.local.event_sources import filters, results

# Lambda polls each shard four times a second.
_IDLE_SECONDS = 0.25
_MAX_RECORDS = 1000
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 2.0
_DEFAULT_BATCH_SIZE = 100
_UNLIMITED = -1


class Poller:
    """Polls the stream of a table.

    Parameters
    ----------
    sqs, dynamodb, dynamodbstreams
        boto3 clients.
    invoke
        That of :class:`.environments.Environments`.
    mapping
        Properties of the event source mapping.
    stop
        Ends retries when it is set.
    """

    def __init__(
        self,
        sqs: Any,
        dynamodb: Any,
        dynamodbstreams: Any,
        invoke: Callable[[str, str], str],
        mapping: Mapping[str, Any],
        stop: threading.Event,
    ) -> None:
        self._sqs = sqs
        self._streams = dynamodbstreams
        self._invoke = invoke
        self._mapping = mapping
        self._stop = stop
        # arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL
        table = mapping["EventSourceArn"].split("/")[1]
        self._arn: str = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
        # The emulator has a single shard per stream.
        (shard,) = self._streams.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        self._shard: str = shard["ShardId"]
        self._iterator: str = self._streams.get_shard_iterator(
            StreamArn=self._arn, ShardId=self._shard, ShardIteratorType=mapping["StartingPosition"]
        )["ShardIterator"]

    def poll(self) -> None:
        """Deliver the next records of the stream; if there are none, wait a moment."""
        page = self._streams.get_records(ShardIterator=self._iterator, Limit=_MAX_RECORDS)
        records = [_record(one, self._arn) for one in page["Records"]]
        selected = filters.select(records, self._mapping)
        size = self._mapping.get("BatchSize", _DEFAULT_BATCH_SIZE)
        for start in range(0, len(selected), size):
            self._deliver(selected[start : start + size])
        self._iterator = page["NextShardIterator"]
        if not records:
            self._stop.wait(_IDLE_SECONDS)

    def _deliver(self, records: list[dict[str, Any]]) -> None:
        """Deliver records until each has succeeded or been given up."""
        batches = deque([(records, 0)])
        while batches and not self._stop.is_set():
            batch, retries = batches.popleft()
            result = self._invoke(self._mapping["FunctionName"], json.dumps({"Records": batch}))
            numbers = [_sequence_number(record) for record in batch]
            failed = results.failed(result, numbers, self._mapping)
            if not failed:
                continue
            first = min(map(numbers.index, failed))
            batch = batch[first:]
            if first == 0 and len(batch) > 1 and self._mapping.get("BisectBatchOnFunctionError"):
                half = len(batch) // 2
                batches.extendleft([(batch[half:], retries), (batch[:half], retries)])
            elif 0 <= self._mapping.get("MaximumRetryAttempts", _UNLIMITED) <= retries:
                self._give_up(batch, retries + 1)
            else:
                batches.appendleft((batch, retries + 1))
            self._stop.wait(min(_RETRY_SECONDS * 2**retries, _MAX_RETRY_SECONDS))

    def _give_up(self, batch: list[dict[str, Any]], attempts: int) -> None:
        """Send the coordinates of a batch, not its records, to the failure destination."""
        destination = self._mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        if destination is None:
            return
        message = {
            "requestContext": {
                "functionArn": self._mapping["FunctionName"],
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": attempts,
            },
            "version": "1.0",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "DDBStreamBatchInfo": {
                "shardId": self._shard,
                "startSequenceNumber": _sequence_number(batch[0]),
                "endSequenceNumber": _sequence_number(batch[-1]),
                "batchSize": len(batch),
                "streamArn": self._arn,
            },
        }
        self._sqs.send_message(QueueUrl=destination.rpartition(":")[2], MessageBody=json.dumps(message))


def _record(record: dict[str, Any], arn: str) -> dict[str, Any]:
    """Return a record of the stream as Lambda's events have it."""
    return json.loads(json.dumps({**record, "eventSourceARN": arn}, default=_encoded))  # type: ignore[no-any-return]


def _encoded(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def _sequence_number(record: dict[str, Any]) -> str:
    number: str = record["dynamodb"]["SequenceNumber"]
    return number
