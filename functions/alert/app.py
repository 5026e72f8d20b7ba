"""Publish an alert for each new decision in the stream of the decisions table.

The event source mapping passes on only new decisions with a risk level to alert. Lambda delivers the records from the
first failure on again, so an alert can be published more than once, always with the same ``alert_id``.

An item that is not a decision is logged and counted, but not reported as a failure: no attempt would succeed, and it
would block its shard for hours. The item stays in the table.
"""

from collections.abc import Callable
from typing import Any

import boto3
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBStreamEvent, StreamRecord
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scoring import alerts, deadlines, settings, telemetry
from scoring.alerts import Alert
from scoring.errors import CallFailed, InvalidImage

CONNECT_SECONDS = 1
READ_SECONDS = 2
ATTEMPTS = 2
# botocore waits up to a second before the second attempt, and five more if SNS asks for it.
CALL_SECONDS = ATTEMPTS * (CONNECT_SECONDS + READ_SECONDS) + 6

logger = Logger()
TOPIC = settings.alert_topic()
SNS = boto3.client(
    "sns",
    config=Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    ),
)


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    deadline = deadlines.of(context)
    records = [StreamRecord(record["dynamodb"]) for record in DynamoDBStreamEvent(event).records]
    made = [(record["SequenceNumber"], alert) for record in records if (alert := _alert(record))]
    sequence_numbers = {alert.alert_id: number for number, alert in reversed(made)}
    published, failed = 0, list[Alert]()
    for batch in alerts.batches(alert for _, alert in made):
        failed = _publish(batch, deadline)
        published += len(batch) - len(failed)
        if failed:
            # Lambda delivers the later ones again, too: publishing them now would only repeat them.
            break
    telemetry.emit_alerts(published=published, failed=len(records) - published)
    if not failed:
        return {"batchItemFailures": []}
    lowest = min((sequence_numbers[alert.alert_id] for alert in failed), key=int)
    return {"batchItemFailures": [{"itemIdentifier": lowest}]}


def _alert(record: StreamRecord) -> Alert | None:
    image = record.new_image
    try:
        return alerts.make(image)
    except InvalidImage as error:
        logger.error(  # noqa: TRY400  a traceback would quote the item
            "item is not a decision",
            extra={"decision_id": image.get("decision_id"), "reason": str(error)},
        )
        return None


def _publish(batch: list[Alert], deadline: float) -> list[Alert]:
    """Publish a batch, then each alert that SNS did not accept, until one fails; return those not published."""
    entries = [{"Id": str(number), **_message(alert)} for number, alert in enumerate(batch)]
    try:
        response = _call(SNS.publish_batch, deadline, PublishBatchRequestEntries=entries)
    except CallFailed as failure:
        logger.warning("batch of alerts not published", extra={"alerts": len(batch), "reason": failure.reason})
        response = {}
    accepted = {entry["Id"] for entry in response.get("Successful", [])}
    remaining = []
    for number, alert in enumerate(batch):
        if str(number) in accepted:
            _log_published(alert)
        else:
            remaining.append(alert)
    for number, alert in enumerate(remaining):
        try:
            _call(SNS.publish, deadline, **_message(alert))
        except CallFailed as failure:
            logger.error(  # noqa: TRY400  the reason suffices
                "alert not published",
                extra={"alert_id": alert.alert_id, "decision_id": alert.decision_id, "reason": failure.reason},
            )
            return remaining[number:]
        _log_published(alert)
    return []


def _message(alert: Alert) -> dict[str, Any]:
    return {"Message": alert.message, "MessageAttributes": alert.attributes}


def _log_published(alert: Alert) -> None:
    logger.info("alert published", extra={"alert_id": alert.alert_id, "decision_id": alert.decision_id})


def _call(operation: Callable[..., Any], deadline: float, **parameters: Any) -> dict[str, Any]:
    """Call SNS about the topic, unless the call could end after the deadline.

    Raises
    ------
    CallFailed
        SNS refused the call or did not respond in time.
    """
    if not deadlines.allows(deadline, CALL_SECONDS):
        raise CallFailed("NoTimeLeft")
    try:
        response: dict[str, Any] = operation(TopicArn=TOPIC, **parameters)
    except ClientError as error:
        raise CallFailed(error.response["Error"]["Code"]) from error
    except BotoCoreError as error:
        raise CallFailed(type(error).__name__) from error
    return response
