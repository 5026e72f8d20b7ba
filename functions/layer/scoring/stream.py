"""Transactions in Kafka records: read an event, decide each record, and make dead letters of those never scored.

Lambda delivers a record at least once. The id of its decision is the producer's key or the coordinates of the record,
so a record that is delivered again is the same decision.
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring import decision, http_api, strict_json
from scoring.decision import Decision
from scoring.errors import HttpError, InvalidRequest
from scoring.fields import KEY_FIELD

if TYPE_CHECKING:
    from scoring.scorer import Scorer

# An SQS message has at most 1 MiB. Without the value, a dead letter takes a few KiB.
MAX_DEAD_LETTER_BYTES = 1024 * 1024
# With the longest partition and offset, "-2147483647-9223372036854775807", an id has 128 characters, as a key may have.
MAX_TOPIC_LENGTH = 97


class Record(NamedTuple):
    """A Kafka record.

    Attributes
    ----------
    topic, partition, offset
        Its coordinates.
    value
        In base64; None if the record has no value.
    headers
        Each maps one name to a list of bytes, signed or unsigned, or None.
    """

    topic: str
    partition: int
    offset: int
    value: str | None
    headers: list[dict[str, list[int] | None]]


def read(event: dict[str, Any]) -> list[Record]:
    """Return the records in an event of MSK or self-managed Kafka, in the order of each partition."""
    return [
        Record(one["topic"], one["partition"], one["offset"], one.get("value"), one.get("headers") or [])
        for records in event["records"].values()
        for one in records
    ]


def decide(record: Record, scorer: "Scorer") -> Decision | HttpError:
    """Assess the transaction in a record; return the decision, or the error if it can never be scored."""
    try:
        if record.value is None:
            raise InvalidRequest("The record has no value")
        document = http_api.document(base64.b64decode(record.value))
        return decision.decide(document, _decision_id(record), scorer)
    except HttpError as error:
        return error


def dead_letter(record: Record, error: HttpError) -> str:
    """Return an SQS message, in ASCII, about a record that can never be scored.

    ``value`` is the record's value in base64, or null if the record has none or SQS would refuse the message.
    """
    letter = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "reason": str(error),
        "value": record.value,
    }
    message = strict_json.encode(letter)
    return message if len(message) < MAX_DEAD_LETTER_BYTES else strict_json.encode({**letter, "value": None})


def from_first_failures(records: Iterable[Record], failed: Iterable[Record]) -> list[Record]:
    """Return, of each partition with a failed record, that record and all after it."""
    offsets: dict[tuple[str, int], int] = {}
    for one in failed:
        partition = one.topic, one.partition
        offsets[partition] = min(one.offset, offsets.get(partition, one.offset))
    return [one for one in records if one.offset >= offsets.get((one.topic, one.partition), one.offset + 1)]


def response(failed: Iterable[Record]) -> dict[str, Any]:
    """Return a response that makes Lambda deliver records again.

    Source: *Configuring error handling controls for Kafka event sources* in the Lambda Developer Guide. It does not say
    whether Lambda delivers only these records again, or each partition from the first one on. So pass all of
    :func:`from_first_failures`: then both keep the order and skip nothing.
    """
    return {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": f"{one.topic}-{one.partition}", "offset": one.offset}} for one in failed
        ]
    }


def _short(topic: str) -> str:
    """Return a topic's name or, if its ids could exceed 128 characters, a hash of it."""
    return topic if len(topic) <= MAX_TOPIC_LENGTH else hashlib.sha256(topic.encode()).hexdigest()[:32]


def _decision_id(record: Record) -> str:
    """Return the producer's key in the header ``idempotency_key``, the last one if it is repeated, or the coordinates.

    Raises
    ------
    InvalidRequest
        The key is not 1 to 128 visible ASCII characters, or contains a comma.
    """
    keys = [values for header in record.headers for name, values in header.items() if name == KEY_FIELD]
    if not keys:
        return f"{_short(record.topic)}-{record.partition}-{record.offset}"
    # Lambda passes on Java's signed bytes. Latin-1 keeps bytes beyond ASCII invalid.
    key = bytes(value & 0xFF for value in keys[-1] or []).decode("latin-1")
    return http_api.check_key(f"Header '{KEY_FIELD}'", key)
