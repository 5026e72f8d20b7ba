"""The other end of the outbox: record what ``POST /score`` could not, once, however often it is delivered."""

import time
from typing import Any

from aws_lambda_powertools.logging import Logger

from scoring import aws, ledger, outbox, telemetry
from scoring.errors import ScoringError

logger = Logger()
LEDGER = ledger.connect()


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    deadline = aws.deadline(context)
    failed = [message for message in event["Records"] if not _record(message, deadline)]
    if failed:
        telemetry.outbox_waits(time.time() - min(int(one["attributes"]["SentTimestamp"]) for one in failed) / 1000)
    return {"batchItemFailures": [{"itemIdentifier": message["messageId"]} for message in failed]}


def _record(message: dict[str, Any], deadline: float) -> bool:
    try:
        recorded = LEDGER.record(outbox.decode(message["body"]), deadline)
    except Exception as error:
        expected = isinstance(error, ScoringError)
        logger.error(  # noqa: TRY400  it has a trace where it was not expected
            "outbox message not recorded",
            extra={"message_id": message["messageId"], "reason": str(error) if expected else type(error).__name__},
            exc_info=not expected,
        )
        return False
    logger.info(
        "recorded from the outbox",
        extra={"decision_id": recorded.answer["decision_id"], "replayed": recorded.replayed},
    )
    return True
