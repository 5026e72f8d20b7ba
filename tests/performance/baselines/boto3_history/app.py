"""``POST /score`` with the history of a customer, on boto3 alone.

Reads and writes what this service does: the profile in one BatchGetItem; decision, profile and counters in one
transaction, on condition that the profile has not changed. The profile is packed, as otherwise it would exceed 1 KB.
"""

import base64
import hashlib
import json
import os
import struct
import time
from typing import Any

import boto3

from lab_records import decide, transact_items

dynamodb = boto3.client("dynamodb")

_TABLE = os.environ["PROFILES_TABLE"]
_RETENTION_SECONDS = int(os.environ["PROFILE_DAYS"]) * 86_400
_ATTEMPTS = 10
_MAX_ENTRIES = 64
_HOUR, _DAY, _WEEK = 3_600, 86_400, 604_800
# Number of all transactions and sum of their amounts
_HEAD = struct.Struct(">Qd")
# Time, amount, hash of the store
_ENTRY = struct.Struct(">If4s")
_Entry = tuple[int, float, bytes]
_NO_STORE = bytes(4)


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode()
    try:
        transaction = json.loads(body)
    except ValueError:
        return _response(400, {"error": "The body is not valid JSON"})
    if not isinstance(transaction, dict) or not {"amount", "customer_id"} <= transaction.keys():
        return _response(400, {"error": "Missing required field"})
    if isinstance(transaction["amount"], bool) or not isinstance(transaction["amount"], int | float):
        return _response(400, {"error": "Field 'amount' must be a number"})
    decision_id = event["headers"].get("idempotency-key") or event["requestContext"]["requestId"]
    subject = "customer_id#" + hashlib.sha256(transaction["customer_id"].encode()).hexdigest()[:32]
    key = {"subject": {"S": subject}, "distinct": {"S": "store"}}
    for _ in range(_ATTEMPTS):
        before = _read(key)
        features, after = _update(before, transaction)
        response = decide(transaction, decision_id) | {"history": {"customer": features}}
        decision, count = transact_items(transaction, response)
        try:
            dynamodb.transact_write_items(TransactItems=[decision, _put(key, before, after), count])
        except dynamodb.exceptions.TransactionCanceledException:
            continue
        return _response(200, response)
    return _response(503, {"error": "Try again"})


def _response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}


def _read(key: dict[str, Any]) -> bytes | None:
    request: dict[str, Any] = {_TABLE: {"Keys": [key], "ConsistentRead": True}}
    items = dynamodb.batch_get_item(RequestItems=request)["Responses"][_TABLE]
    return items[0]["profile"]["B"] if items else None


def _put(key: dict[str, Any], before: bytes | None, after: bytes) -> Any:
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(subject)"}
    if before is not None:
        condition = {
            "ConditionExpression": "profile = :before",
            "ExpressionAttributeValues": {":before": {"B": before}},
        }
    expires_at = {"N": str(int(time.time()) + _RETENTION_SECONDS)}
    item = key | {"profile": {"B": after}, "expires_at": expires_at}
    return {"Put": {"TableName": _TABLE, "Item": item, **condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}


def _update(profile: bytes | None, transaction: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the history of a transaction, and the profile with it."""
    number, total = _HEAD.unpack_from(profile) if profile else (0, 0.0)
    entries = list(_ENTRY.iter_unpack(profile[_HEAD.size :])) if profile else []
    now, amount, store = int(time.time()), float(transaction["amount"]), transaction.get("store")
    mark = _NO_STORE if store is None else hashlib.sha256(store.encode()).digest()[:4]
    features = _features([entry for entry in entries if entry[0] <= now], now, None if store is None else mark)
    features["amount_ratio"] = amount / (total / number) if total else None
    entries = sorted([*entries, (now, amount, mark)], key=lambda entry: entry[0])[-_MAX_ENTRIES:]
    return features, _HEAD.pack(number + 1, total + amount) + b"".join([_ENTRY.pack(*entry) for entry in entries])


def _features(entries: list[_Entry], now: int, mark: bytes | None) -> dict[str, Any]:
    day = [entry for entry in entries if now - entry[0] < _DAY]
    stores = {entry[2] for entry in day} - {_NO_STORE}
    return {
        "count_1h": sum(now - entry[0] < _HOUR for entry in entries),
        "count_24h": len(day),
        "count_7d": sum(now - entry[0] < _WEEK for entry in entries),
        "sum_24h": round(sum(entry[1] for entry in day), 2),
        "max_24h": round(max((entry[1] for entry in day), default=0.0), 2),
        "seconds_since_last": now - entries[-1][0] if entries else None,
        "distinct_24h": len(stores),
        "is_new": None if mark is None else mark not in stores,
    }
