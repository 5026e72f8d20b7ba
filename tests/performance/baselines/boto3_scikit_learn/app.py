"""``POST /score`` on boto3, with a pickled forest of scikit-learn and the rules as a floor."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import boto3

from lab_records import decide, transact_items

dynamodb = boto3.client("dynamodb")

_LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
_DEFAULTS = {"hour": 12}
with Path(__file__).with_name("forest.pickle").open("rb") as _file:
    _MODEL: dict[str, Any] = pickle.load(_file)  # noqa: S301  runs code as it is loaded; this one is our own


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
    _add_model(response, transaction)
    dynamodb.transact_write_items(TransactItems=transact_items(transaction, response))
    return _response(200, response)


def _response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}


def _add_model(response: dict[str, Any], transaction: dict[str, Any]) -> None:
    """Add what the model says to the response of the rules; the level is the higher one of both."""
    probability = float(_MODEL["forest"].predict_proba([_row(transaction)])[0, 1])
    thresholds = _MODEL["thresholds"]
    by_model = sum(probability >= thresholds[level] for level in _LEVELS[1:])
    response["risk_level"] = _LEVELS[max(by_model, _LEVELS.index(response["risk_level"]))]
    response["fraud"] = probability >= thresholds["HIGH"]
    response["fraud_probability"] = probability
    response["version"] += f"+{_MODEL['version']}"


def _row(transaction: dict[str, Any]) -> list[float]:
    row: list[float] = []
    for name, missing, values in _MODEL["features"]:
        value = transaction.get(name, _DEFAULTS.get(name))
        if values:
            row += [float(value == one) for one in values]
        else:
            row.append(missing if value is None else value)
    return row
