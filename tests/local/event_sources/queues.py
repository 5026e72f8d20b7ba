"""An SQS queue: invokes a function with its messages, and deletes those that succeeded.

A failed message becomes visible again after its visibility timeout. After ``maxReceiveCount`` attempts, the queue moves
it to its dead-letter queue.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.local import account
from tests.local.event_sources import results

_WAIT_SECONDS = 1


@dataclass(frozen=True)
class Poller:
    """Polls a queue; the parameters are those of :func:`deliver`."""

    sqs: Any
    invoke: Callable[[str, str], str]
    mapping: dict[str, Any]

    def poll(self) -> None:
        """Deliver the next messages; if there are none, wait a moment."""
        deliver(self.sqs, self.invoke, self.mapping, wait=_WAIT_SECONDS)


def deliver(
    sqs: Any,
    invoke: Callable[[str, str], str],
    mapping: dict[str, Any],
    *,
    wait: int,
    times: int = 1,
    again_after: int | None = None,
) -> None:
    """Deliver one batch.

    Parameters
    ----------
    sqs
        A boto3 client.
    invoke
        That of :class:`.environments.Environments`.
    mapping
        Properties of the event source mapping.
    wait
        Seconds to wait for messages.
    times
        Number of deliveries; SQS guarantees at least one.
    again_after
        Seconds until failed messages are visible again; by default, the visibility timeout of the queue.
    """
    queue = mapping["EventSourceArn"].rpartition(":")[2]
    received = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=mapping["BatchSize"],
        WaitTimeSeconds=wait,
        AttributeNames=["All"],
    )
    messages = received.get("Messages", [])
    if not messages:
        return
    event = json.dumps({"Records": [_record(mapping["EventSourceArn"], message) for message in messages]})
    for _ in range(times):
        result = invoke(mapping["FunctionName"], event)
    failed_ids = results.failed(result, [message["MessageId"] for message in messages], mapping)
    failed = [message for message in messages if message["MessageId"] in failed_ids]
    if succeeded := [message for message in messages if message not in failed]:
        sqs.delete_message_batch(QueueUrl=queue, Entries=_entries(succeeded))
    if failed and again_after is not None:
        sqs.change_message_visibility_batch(QueueUrl=queue, Entries=_entries(failed, VisibilityTimeout=again_after))


def _entries(messages: list[dict[str, Any]], **parameters: int) -> list[dict[str, Any]]:
    return [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], **parameters}
        for number, message in enumerate(messages)
    ]


def _record(arn: str, message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": account.REGION,
    }
