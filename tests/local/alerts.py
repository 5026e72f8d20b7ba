"""Receives alerts: a queue that is subscribed to the topic of alerts, as a receiver's own would be."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.local import emulator, template

_QUEUE = "ReceivedAlerts"
_WAIT_SECONDS = 1
_MAX_MESSAGES = 10

Alert = dict[str, Any]


@contextmanager
def receiving(endpoint: str, receive: Callable[[Alert], None]) -> Iterator[None]:
    """Call ``receive`` with every alert, from another thread, as soon as it is published.

    Parameters
    ----------
    endpoint
        The emulator's.
    receive
        Gets the document in the message.
    """
    sqs, sns = (emulator.client(service, endpoint) for service in ("sqs", "sns"))
    queue = sqs.create_queue(QueueName=_QUEUE)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = template.stack().resources["AlertTopic"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                _receive(sqs, queue, receive)
            except (BotoCoreError, ClientError):
                # The emulator has ended or is ending, which is reported elsewhere.
                stop.wait(_WAIT_SECONDS)

    threading.Thread(target=work, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _receive(sqs: Any, queue: str, receive: Callable[[Alert], None]) -> None:
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=_MAX_MESSAGES, WaitTimeSeconds=_WAIT_SECONDS)
    for message in received.get("Messages", []):
        receive(json.loads(message["Body"]))
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
