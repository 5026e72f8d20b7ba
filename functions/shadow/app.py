"""Ask a model about each new decision in the stream of the decisions table, and store its opinion with the decision.

The rules have decided already, and nobody waits for this function. It adds an attribute to the decision and changes no
response. Lambda delivers the records from the first failure on again. That stores the same opinion again.

An item that cannot be judged is logged and counted, but not reported as a failure: no attempt would succeed, and it
would hold up its shard.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBStreamEvent, StreamRecord

from scoring import deadlines, scorers, settings, shadow, telemetry
from scoring.aws import client
from scoring.errors import CallFailed, InvalidImage
from scoring.shadow import Opinion

# Updates at once: a shard can get more decisions than updates in sequence could follow.
THREADS = 8
# The decision has been deleted, perhaps also made again.
GONE = "ConditionalCheckFailedException"
# DynamoDB never accepts this opinion: with it, the item would be too large, for example.
REFUSED = "ValidationException"

logger = Logger()
SCORER = scorers.load_forest()
TABLE = settings.read().decisions_table
CLIENTS = [client.dynamodb() for _ in range(THREADS)]

# The sequence number of a record, and the opinion about its decision
Judged = tuple[str, Opinion]


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    records = [StreamRecord(record["dynamodb"]) for record in DynamoDBStreamEvent(event).records]
    judged = [(record["SequenceNumber"], opinion) for record in records if (opinion := _judge(record))]
    reasons = _store(judged, deadlines.of(context))
    stored = [opinion for number, opinion in judged if reasons[number] is None]
    for opinion in stored:
        if opinion.before != opinion.after:
            levels = {"from": opinion.before, "to": opinion.after}
            logger.info("level would change", extra={"decision_id": opinion.key[1], **levels})
    counts = Counter(filter(None, reasons.values()))
    for reason, count in counts.items():
        log = logger.info if reason == GONE else logger.error
        log("opinions not stored", extra={"opinions": count, "reason": reason})
    telemetry.emit_shadow(
        [(opinion.before, opinion.after, opinion.fraud) for opinion in stored],
        failures=len(records) - len(stored) - counts[GONE],
    )
    failed = [number for number, reason in reasons.items() if reason not in {None, GONE, REFUSED}]
    return {"batchItemFailures": [{"itemIdentifier": min(failed, key=int)}] if failed else []}


def _judge(record: StreamRecord) -> Opinion | None:
    image = record.new_image
    try:
        return shadow.judge(image, SCORER)
    except InvalidImage as error:
        logger.error(  # noqa: TRY400  a traceback would quote the item
            "item cannot be judged",
            extra={"decision_id": image.get("decision_id"), "reason": str(error)},
        )
        return None


def _store(judged: Sequence[Judged], deadline: float) -> dict[str, str | None]:
    """Store opinions; return by sequence number the reason why one was not stored, or None."""
    parts = [judged[number::THREADS] for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(chain(*pool.map(_store_part, CLIENTS, parts, repeat(deadline))))


def _store_part(dynamodb: client.Client, judged: Sequence[Judged], deadline: float) -> list[tuple[str, str | None]]:
    """Store opinions one after another, until DynamoDB does not respond: Lambda delivers the others again."""
    reasons: list[tuple[str, str | None]] = []
    obstacle = None
    for number, opinion in judged:
        reason = obstacle or _update(dynamodb, opinion, deadline)
        reasons.append((number, reason))
        if reason not in {None, GONE, REFUSED}:
            obstacle = reason
    return reasons


def _update(dynamodb: client.Client, opinion: Opinion, deadline: float) -> str | None:
    """Store an opinion; return the reason if that failed."""
    if not deadlines.allows(deadline, client.CALL_SECONDS):
        return "NoTimeLeft"
    try:
        dynamodb.call("UpdateItem", shadow.update(TABLE, opinion))
    except CallFailed as failure:
        return failure.reason
    return None
