"""Lambda's event source mappings: invoke a function with messages of a queue, and delete those that succeeded.

A failed message becomes visible again after its visibility timeout. After ``maxReceiveCount`` attempts, the queue moves
it to its dead-letter queue.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.local import account, template

Invoke = Callable[[str, str], str]

_WAIT_SECONDS = 1


@contextmanager
def running(sqs: Any, invoke: Invoke) -> Iterator[None]:
    """Poll the queues of the template in the background; ``invoke`` is that of :class:`.environments.Environments`."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_poll, args=(sqs, invoke, mapping, stop), daemon=True)
        for mapping in template.stack().properties_of("AWS::Lambda::EventSourceMapping").values()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()


def _poll(sqs: Any, invoke: Invoke, mapping: dict[str, Any], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            deliver(sqs, invoke, mapping, wait=_WAIT_SECONDS)
        except (BotoCoreError, ClientError):
            # The emulator has ended or is ending, which is reported elsewhere.
            stop.wait(_WAIT_SECONDS)


def deliver(
    sqs: Any, invoke: Invoke, mapping: dict[str, Any], *, wait: int, times: int = 1, again_after: int | None = None
) -> None:
    """Deliver one batch.

    Parameters
    ----------
    sqs, invoke
        As in :func:`running`.
    mapping
        Properties of an event source mapping.
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
        result = json.loads(invoke(mapping["FunctionName"], event))
    succeeded = _succeeded(result, messages)
    if succeeded:
        sqs.delete_message_batch(QueueUrl=queue, Entries=_entries(succeeded))
    failed = [message for message in messages if message not in succeeded]
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


def _succeeded(result: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that succeeded. As on Lambda, an error or an unknown id in the result fails the batch."""
    if not result:
        return messages
    if "errorType" in result:
        return []
    failed = {failure["itemIdentifier"] for failure in result.get("batchItemFailures") or []}
    if failed - {message["MessageId"] for message in messages}:
        return []
    return [message for message in messages if message["MessageId"] not in failed]
