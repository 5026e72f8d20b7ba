"""Record the decisions in the outbox, each exactly once, however often its message is delivered."""

import time
from typing import Any

from aws_lambda_powertools.logging import Logger

from scoring import deadlines, telemetry
from scoring.errors import ScoringError
from scoring.ledger import outbox, writer

logger = Logger()
LEDGER = writer.connect()


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    deadline = deadlines.of(context)
    failed = [message for message in event["Records"] if not _record(message, deadline)]
    if failed:
        oldest_ms = min(int(message["attributes"]["SentTimestamp"]) for message in failed)
        telemetry.emit_outbox_age(time.time() - oldest_ms / 1000)
    return {"batchItemFailures": [{"itemIdentifier": message["messageId"]} for message in failed]}


def _record(message: dict[str, Any], deadline: float) -> bool:
    try:
        recorded = LEDGER.record(outbox.decode(message["body"]), deadline)
    except Exception as error:
        expected = isinstance(error, ScoringError)
        logger.error(  # noqa: TRY400  with a traceback only if the error is unexpected
            "outbox message not recorded",
            extra={"message_id": message["messageId"], "reason": str(error) if expected else type(error).__name__},
            exc_info=not expected,
        )
        return False
    logger.info(
        "recorded from the outbox",
        extra={"decision_id": recorded.response["decision_id"], "replayed": recorded.replayed},
    )
    return True
