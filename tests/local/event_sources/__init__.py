"""Lambda's event source mappings: pollers that invoke functions with batches of messages or records.

=====================  ==================================================================
:mod:`.queues`         SQS queues
:mod:`.table_streams`  streams of DynamoDB tables
:mod:`.kafka`          Kafka topics, for ``make stream`` only
:mod:`.filters`        filter criteria: which records of a stream reach the function
:mod:`.results`        partial responses: which items of a batch have failed
=====================  ==================================================================
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from tests.local import emulator, template
from tests.local.event_sources import queues, table_streams

# Invokes a function, given by name, with an event, and returns its result; both are JSON text.
Invoke = Callable[[str, str], str]

_RETRY_SECONDS = 1


@contextmanager
def running(endpoint: str, invoke: Invoke) -> Iterator[None]:
    """Poll the queues and table streams of the template's mappings in the background.

    Parameters
    ----------
    endpoint
        The emulator's.
    invoke
        That of :class:`.environments.Environments`.
    """
    stop = threading.Event()
    clients = {service: emulator.client(service, endpoint) for service in ("sqs", "dynamodb", "dynamodbstreams")}
    pollers: list[Callable[[], None]] = []
    for mapping in template.stack().properties_of("AWS::Lambda::EventSourceMapping").values():
        source = mapping.get("EventSourceArn", "")
        if source.startswith("arn:aws:sqs:"):
            pollers.append(queues.Poller(clients["sqs"], invoke, mapping).poll)
        elif source.startswith("arn:aws:dynamodb:"):
            pollers.append(table_streams.Poller(**clients, invoke=invoke, mapping=mapping, stop=stop).poll)
    for poll in pollers:
        threading.Thread(target=_repeat, args=(poll, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _repeat(poll: Callable[[], None], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            poll()
        except (BotoCoreError, ClientError):
            # The emulator has ended or is ending, which is reported elsewhere.
            stop.wait(_RETRY_SECONDS)
