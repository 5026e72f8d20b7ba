"""``POST /score`` on Powertools for AWS Lambda: its resolver with validation by pydantic, its logger and metrics."""

from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from lab_records import decide, transact_items
from transaction_body import TransactionBody

dynamodb = boto3.client("dynamodb")
app = APIGatewayHttpResolver(enable_validation=True)
logger = Logger(service="score")
metrics = Metrics(namespace="Baselines", service="score")


@app.post("/score")
def score(transaction: TransactionBody) -> dict[str, Any]:
    event = app.current_event
    fields = transaction.model_dump(exclude_unset=True)
    response = decide(fields, event.headers.get("idempotency-key") or event.request_context.request_id)
    dynamodb.transact_write_items(TransactItems=transact_items(fields, response))
    metrics.add_metric(name="Decisions", unit=MetricUnit.Count, value=1)
    logger.info("decision", extra={"risk_level": response["risk_level"], "score": response["score"]})
    return response


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP)
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
