"""``POST /score`` on boto3 alone."""

import base64
import json
from typing import Any

import boto3

from lab_records import decide, transact_items

dynamodb = boto3.client("dynamodb")


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode()
    try:
        transaction = json.loads(body)
    except ValueError:
        return _response(400, {"error": "The body is not valid JSON"})
    if not isinstance(transaction, dict) or "amount" not in transaction:
        return _response(400, {"error": "Missing required field 'amount'"})
    if isinstance(transaction["amount"], bool) or not isinstance(transaction["amount"], int | float):
        return _response(400, {"error": "Field 'amount' must be a number"})
    response = decide(transaction, event["headers"].get("idempotency-key") or event["requestContext"]["requestId"])
    dynamodb.transact_write_items(TransactItems=transact_items(transaction, response))
    return _response(200, response)


def _response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}
