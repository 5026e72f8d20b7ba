"""Record the decisions in the outbox, each exactly once, however often its message is delivered."""

import time
from typing import Any

from aws_lambda_powertools.logging import Logger

from scoring import deadlines, telemetry
from scoring.decision import Decision
from scoring.errors import InvalidMessage
from scoring.ledger import outbox, writer
from scoring.ledger.writer import Recorded

logger = Logger()
LEDGER = writer.connect()


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    messages = event["Records"]
    decoded = [_decode(message["body"]) for message in messages]
    decisions = [one for one in decoded if isinstance(one, Decision)]
    outcomes = iter(LEDGER.record(decisions, deadlines.of(context)))
    results = [next(outcomes) if isinstance(one, Decision) else one for one in decoded]
    failed = []
    for message, result in zip(messages, results, strict=True):
        if isinstance(result, Recorded):
            extra = {"decision_id": result.response["decision_id"], "replayed": result.replayed}
            logger.info("recorded from the outbox", extra=extra)
        else:
            extra = {"message_id": message["messageId"], "reason": str(result)}
            logger.error("outbox message not recorded", extra=extra)
            failed.append(message)
    if failed:
        oldest_ms = min(int(message["attributes"]["SentTimestamp"]) for message in failed)
        telemetry.emit_outbox_age(time.time() - oldest_ms / 1000)
    return {"batchItemFailures": [{"itemIdentifier": message["messageId"]} for message in failed]}


def _decode(body: str) -> Decision | InvalidMessage:
    try:
        return outbox.decode(body)
    except InvalidMessage as error:
        return error
