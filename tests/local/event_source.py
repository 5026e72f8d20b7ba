"""What Lambda's event source mappings do: invoke a function with the messages of a queue, delete what it has done.

A message that the function reports as failed, or whose invocation failed, is not deleted: it comes back when its
visibility timeout is over, and after ``maxReceiveCount`` times the queue moves it to its dead-letter queue.
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
    """Poll the queues of the template's event source mappings in the background.

    Parameters
    ----------
    sqs
        A boto3 client.
    invoke
        ``invoke(function, event)`` as of :class:`.environments.Environments`.
    """
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
            # The emulator is gone, by intent or on its way out; the functions tell of it.
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
        Seconds to wait for a message.
    times
        How often the batch is delivered before it is deleted; SQS promises at least once.
    again_after
        Seconds after which what failed is visible again; None leaves it to the visibility timeout of the queue.
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
        answer = json.loads(invoke(mapping["FunctionName"], event))
    done = _done(answer, messages)
    if done:
        sqs.delete_message_batch(QueueUrl=queue, Entries=_entries(done))
    failed = [message for message in messages if message not in done]
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


def _done(answer: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As Lambda reads the answer: an error, or an id that was not in the batch, means that all have failed."""
    if not answer:
        return messages
    if "errorType" in answer:
        return []
    failed = {failure["itemIdentifier"] for failure in answer.get("batchItemFailures") or []}
    if failed - {message["MessageId"] for message in messages}:
        return []
    return [message for message in messages if message["MessageId"] not in failed]
