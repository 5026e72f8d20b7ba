"""Build the response and the DynamoDB transaction of a decision, equal to this service's, for every baseline.

Uses the standard library only, so that no baseline pays for this project's code.
"""

import hashlib
import json
import os
import random
import time
from datetime import UTC, datetime
from typing import Any

from lab_rules import VERSION, score_transaction

_SHARD = random.randrange(int(os.environ["STATS_SHARDS"]))
_RETENTION_SECONDS = int(os.environ["DECISION_DAYS"]) * 86_400


def decide(transaction: dict[str, Any], decision_id: str) -> dict[str, Any]:
    """Score the fields of a transaction and return the response."""
    return {
        **score_transaction(transaction),
        "tx_id": transaction.get("tx_id", "unknown"),
        "decision_id": decision_id,
        "version": VERSION,
        "evaluated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def transact_items(transaction: dict[str, Any], response: dict[str, Any]) -> list[Any]:
    """Return ``TransactItems`` that store a new decision and count it."""
    counters = ["total", "level#" + response["risk_level"]]
    if response["risk_level"] in {"HIGH", "CRITICAL"}:
        counters.append("high")
    counters.extend("rule#" + label for label in response["triggered_rules"])
    canonical = json.dumps(transaction, sort_keys=True, separators=(",", ":"))
    put = {
        "TableName": os.environ["DECISIONS_TABLE"],
        "Item": {
            "tx_id": {"S": transaction.get("tx_id", response["decision_id"])},
            "decision_id": {"S": response["decision_id"]},
            "transaction": {"S": json.dumps(transaction, separators=(",", ":"))},
            "answer": {"S": json.dumps(response, separators=(",", ":"))},
            "request_hash": {"S": hashlib.sha256(canonical.encode()).hexdigest()},
            "expires_at": {"N": str(int(time.time()) + _RETENTION_SECONDS)},
        },
        "ConditionExpression": "attribute_not_exists(decision_id)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    update = {
        "TableName": os.environ["STATS_TABLE"],
        "Key": {"shard": {"N": str(_SHARD)}},
        "UpdateExpression": "ADD " + ", ".join(f"#{index} :one" for index in range(len(counters))),
        "ExpressionAttributeNames": {f"#{index}": name for index, name in enumerate(counters)},
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    return [{"Put": put}, {"Update": update}]
