"""Score the transactions in Kafka records, and record each decision exactly once.

A record that can never be scored is sent to the dead-letter queue and does not hold up others. If a decision cannot be
recorded, Lambda delivers its partition again from this record on or, without partial responses, the whole batch.
"""

from typing import Any

from aws_lambda_powertools.logging import Logger

from scoring import deadlines, scorers, settings, stream, telemetry
from scoring.aws import client
from scoring.aws.queue import Queue
from scoring.decision import Decision
from scoring.errors import HttpError, NotRecorded, StoreUnavailable
from scoring.ledger import writer
from scoring.ledger.writer import Recorded
from scoring.stream import Record

logger = Logger()
PARTIAL_RESPONSES = settings.partial_responses()
SCORER = scorers.load()
LEDGER = writer.connect()
DEAD_LETTERS = Queue(client.sqs(), settings.dead_letters_url())


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    deadline = deadlines.of(context)
    records = stream.read(event)
    scorer = SCORER.for_batch()
    decided = [stream.decide(record, scorer) for record in records]
    decisions = [one for one in decided if isinstance(one, Decision)]
    # Leaves time for the dead letters.
    outcomes = iter(LEDGER.record(decisions, deadline - client.CALL_SECONDS))
    results = [next(outcomes) if isinstance(one, Decision) else one for one in decided]

    failed = [record for record, result in zip(records, results, strict=True) if isinstance(result, StoreUnavailable)]
    refused = [
        (record, result)
        for record, result in zip(records, results, strict=True)
        if isinstance(result, HttpError) and not isinstance(result, StoreUnavailable)
    ]
    if failed:
        # Lambda delivers the others again; sending them now would repeat them.
        again = stream.from_first_failures(records, failed) if PARTIAL_RESPONSES else records
        refused = [(record, error) for record, error in refused if record not in again]
    unsent = _send_dead_letters(refused, deadline)
    failed += unsent
    telemetry.emit_stream(
        [result for result in results if isinstance(result, Recorded)],
        [error for record, error in refused if record not in unsent],
        records=len(records),
        failures=len(failed),
    )
    if failed and not PARTIAL_RESPONSES:
        raise NotRecorded(f"{len(failed)} of {len(records)} records were not recorded; all are delivered again")
    return stream.response(stream.from_first_failures(records, failed))


def _send_dead_letters(refused: list[tuple[Record, HttpError]], deadline: float) -> list[Record]:
    """Send records to the dead-letter queue; return those that it did not confirm."""
    reasons = DEAD_LETTERS.send([stream.dead_letter(record, error) for record, error in refused], deadline)
    unsent = []
    for (record, error), reason in zip(refused, reasons, strict=True):
        # The text of the error is not logged, since it can quote the record.
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        if reason is None:
            logger.warning("record sent to the dead-letter queue", extra={**place, "error": type(error).__name__})
        else:
            logger.error("dead letter not sent", extra={**place, "reason": reason})
            unsent.append(record)
    return unsent
