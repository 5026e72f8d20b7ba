"""Transactions in Kafka records: read an event, decide each record, and make dead letters of those never scored.

Lambda delivers a record at least once. The id of its decision is the producer's key or the coordinates of the record,
so a record that is delivered again is the same decision.
"""

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple

from scoring import decision, http_api, strict_json
from scoring.assessment import Scorer
from scoring.decision import Decision
from scoring.errors import HttpError, InvalidRequest
from scoring.fields import KEY_FIELD

# An SQS message has at most 1 MiB. Without the value, a dead letter takes a few KiB.
MAX_DEAD_LETTER_BYTES = 1024 * 1024


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


def decide(record: Record, scorer: Scorer) -> Decision | HttpError:
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


def first_failures(failed: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the first of the failed records of each partition, as Lambda expects them in ``batchItemFailures``.

    Lambda delivers the partition again from this record on. Source: *Configuring error handling controls for Kafka
    event sources* in the Lambda Developer Guide.
    """
    return [
        {"itemIdentifier": {"partition": partition, "offset": offset}}
        for partition, offset in sorted(_first_offsets(failed).items())
    ]


def from_first_failures(records: Iterable[Record], failed: Iterable[Record]) -> list[Record]:
    """Return the records that Lambda delivers again: in each partition, those from the first failed one on."""
    offsets = _first_offsets(failed)
    return [one for one in records if one.offset >= offsets.get(_partition(one), one.offset + 1)]


def _first_offsets(failed: Iterable[Record]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for record in failed:
        partition = _partition(record)
        offsets[partition] = min(record.offset, offsets.get(partition, record.offset))
    return offsets


def _partition(record: Record) -> str:
    return f"{record.topic}-{record.partition}"


def _decision_id(record: Record) -> str:
    """Return the producer's key in the header ``idempotency_key``, the last one if it is repeated, or the coordinates.

    Raises
    ------
    InvalidRequest
        The key is not 1 to 128 visible ASCII characters, or contains a comma.
    """
    keys = [values for header in record.headers for name, values in header.items() if name == KEY_FIELD]
    if not keys:
        return f"{record.topic}-{record.partition}-{record.offset}"
    # Lambda passes on Java's signed bytes. Latin-1 keeps bytes beyond ASCII invalid.
    key = bytes(value & 0xFF for value in keys[-1] or []).decode("latin-1")
    return http_api.check_key(f"Header '{KEY_FIELD}'", key)
