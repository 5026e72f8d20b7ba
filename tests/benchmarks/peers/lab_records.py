"""What every peer answers and writes: the same answer, and the same one transaction, as ``scoring.ledger`` has them.

Of the standard library alone, so that no peer pays for this project's code.
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
_SECONDS_KEPT = int(os.environ["DECISION_DAYS"]) * 86_400


def decide(transaction: dict[str, Any], decision_id: str) -> dict[str, Any]:
    """The answer about a transaction, of the fields that the caller gave."""
    return {
        **score_transaction(transaction),
        "tx_id": transaction.get("tx_id", "unknown"),
        "decision_id": decision_id,
        "version": VERSION,
        "evaluated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def transact_items(transaction: dict[str, Any], answer: dict[str, Any]) -> list[Any]:
    """``TransactItems`` that store a decision, where it is not there yet, and count it."""
    counters = ["total", "level#" + answer["risk_level"]]
    if answer["risk_level"] in {"HIGH", "CRITICAL"}:
        counters.append("high")
    counters.extend("rule#" + label for label in answer["triggered_rules"])
    canonical = json.dumps(transaction, sort_keys=True, separators=(",", ":"))
    put = {
        "TableName": os.environ["DECISIONS_TABLE"],
        "Item": {
            "tx_id": {"S": transaction.get("tx_id", answer["decision_id"])},
            "decision_id": {"S": answer["decision_id"]},
            "transaction": {"S": json.dumps(transaction, separators=(",", ":"))},
            "answer": {"S": json.dumps(answer, separators=(",", ":"))},
            "request_hash": {"S": hashlib.sha256(canonical.encode()).hexdigest()},
            "expires_at": {"N": str(int(time.time()) + _SECONDS_KEPT)},
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
