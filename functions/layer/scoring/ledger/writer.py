"""Write a decision and its counts in one transaction.

``TransactWriteItems`` puts the decision, on condition that it does not exist, and adds it to one shard of the counters.
So a decision is stored once and counted once, however often its write is retried. In every shard, ``total`` is the sum
of the levels at any moment.
"""

import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scoring import deadlines, settings, strict_json, telemetry
from scoring.assessment import HIGH_RISK_LEVELS
from scoring.aws import client
from scoring.decision import Decision, is_response
from scoring.errors import CallFailed, IdempotencyConflict, InvalidRequest
from scoring.ledger.tables import LEVEL_PREFIX, RULE_PREFIX, partition_key

# Transient causes: another transaction on the same item, or a partition at its limit.
RETRYABLE_CODES = frozenset(
    {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict", "TransactionInProgressException"}
)
# The caller is waiting for the response.
RETRY_BUDGET_SECONDS = 0.5
FIRST_BACKOFF_SECONDS = 0.005
MAX_BACKOFF_SECONDS = 0.1

_SECONDS_PER_DAY = 86_400
# Returns JSON text to store, since DynamoDB's numbers have a smaller range than JSON's. Non-ASCII characters are not
# escaped: six bytes in place of two or three would take the largest decision beyond the 400 KB of an item.
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Recorded(NamedTuple):
    """The outcome of recording a decision.

    Attributes
    ----------
    response
        Body to return: that of the first request with this key.
    replayed
        Whether an earlier request with this key made the decision.
    """

    response: Mapping[str, Any]
    replayed: bool


class LedgerWriter:
    """Writes decisions and counters; one instance per execution environment.

    Parameters
    ----------
    dynamodb
        Client of DynamoDB.
    configuration
        Names of the tables, number of shards, days to keep a decision.
    """

    def __init__(self, dynamodb: client.Client, configuration: settings.Settings) -> None:
        self._dynamodb = dynamodb
        self._settings = configuration
        self._shard = random.randrange(configuration.stats_shards)

    def record(self, decision: Decision, deadline: float) -> Recorded:
        """Store a decision and count it, exactly once. No call is started that could end after the deadline.

        Raises
        ------
        IdempotencyConflict
            The decision id was already used for another request. Nothing is counted.
        StoreUnavailable
            DynamoDB did not confirm in time. The same decision can safely be recorded again.
        """
        obstacle = "NoTimeLeft"
        for backoff in _backoffs(deadline):
            try:
                confirmation = self._dynamodb.call("TransactWriteItems", self._transaction(decision))
            except CallFailed as failure:
                reasons = _cancellation_reasons(failure)
                if reasons and reasons[0][0] == "ConditionalCheckFailed" and reasons[0][1]:
                    return _replay(decision, reasons[0][1])
                retryable = RETRYABLE_CODES & {failure.reason, *(code for code, _ in reasons)}
                if not retryable:
                    raise telemetry.log_unavailable("store", failure.reason, decision.decision_id) from failure
                obstacle = min(retryable)
                # Another environment is writing to this shard, or another request this decision: change shards.
                shards = self._settings.stats_shards
                self._shard = (self._shard + random.randrange(1, max(shards, 2))) % shards
                time.sleep(backoff)
            else:
                # DynamoDB confirms with an empty object, since the request asks for no return values.
                if confirmation == {}:
                    return Recorded(decision.response, replayed=False)
                raise telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, decision.decision_id)
        raise telemetry.log_unavailable("store", obstacle, decision.decision_id)

    def _transaction(self, decision: Decision) -> dict[str, Any]:
        return {
            # Lets DynamoDB recognize a second attempt at a transaction that it has applied.
            "ClientRequestToken": os.urandom(16).hex(),
            "TransactItems": [self._put(decision), self._count(decision)],
        }

    def _put(self, decision: Decision) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._settings.decisions_table,
                "Item": {
                    "tx_id": {"S": partition_key(decision.transaction.get("tx_id"), decision.decision_id)},
                    "decision_id": {"S": decision.decision_id},
                    "transaction": {"S": _json(decision.transaction)},
                    "answer": {"S": _json(decision.response)},
                    "request_hash": {"S": decision.request_hash},
                    "expires_at": {"N": str(int(time.time()) + self._settings.decision_days * _SECONDS_PER_DAY)},
                },
                "ConditionExpression": "attribute_not_exists(decision_id)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _count(self, decision: Decision) -> dict[str, Any]:
        level = decision.response["risk_level"]
        counters = ["total", LEVEL_PREFIX + level]
        if level in HIGH_RISK_LEVELS:
            counters.append("high")
        counters.extend(RULE_PREFIX + label for label in decision.response["triggered_rules"])
        return {
            "Update": {
                "TableName": self._settings.stats_table,
                "Key": {"shard": {"N": str(self._shard)}},
                "UpdateExpression": "ADD " + ", ".join(f"#{index} :one" for index in range(len(counters))),
                "ExpressionAttributeNames": {f"#{index}": name for index, name in enumerate(counters)},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }


def connect() -> LedgerWriter:
    """Connect to the tables; an invalid environment variable raises SettingsError."""
    dynamodb = client.dynamodb()
    dynamodb.connect()
    return LedgerWriter(dynamodb, settings.read())


def _backoffs(deadline: float) -> Iterator[float]:
    """Yield the back-off in seconds after each attempt, while the retry budget and the deadline allow another one.

    Back-offs double and are random, so that competing writers spread out.
    """
    end = time.monotonic() + RETRY_BUDGET_SECONDS
    longest = FIRST_BACKOFF_SECONDS
    while time.monotonic() < end and deadlines.allows(deadline, client.CALL_SECONDS):
        yield random.uniform(0, longest)
        longest = min(2 * longest, MAX_BACKOFF_SECONDS)


def _cancellation_reasons(failure: CallFailed) -> list[tuple[str, Any]]:
    """Return code and stored item of each action of a cancelled transaction; empty if absent or malformed."""
    reasons = failure.response.get("CancellationReasons")
    if not isinstance(reasons, list) or not all(isinstance(reason, dict) for reason in reasons):
        return []
    return [(str(reason.get("Code")), reason.get("Item")) for reason in reasons]


def _replay(decision: Decision, item: Any) -> Recorded:
    """Return the stored response to a decision that exists already.

    Raises
    ------
    IdempotencyConflict
        It was stored for another request.
    StoreUnavailable
        The item is not a stored decision with this id, so the response did not come from DynamoDB.
    """
    try:
        request_hash, stored = item["request_hash"]["S"], strict_json.parse(item["answer"]["S"])
    except (AttributeError, InvalidRequest, KeyError, TypeError):
        request_hash = stored = None
    if not (isinstance(request_hash, str) and is_response(stored) and stored["decision_id"] == decision.decision_id):
        raise telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, decision.decision_id)
    if request_hash != decision.request_hash:
        raise IdempotencyConflict(
            f"Header 'Idempotency-Key': {decision.decision_id!r} was already used with another body"
        )
    # Equal responses mean that DynamoDB applied this very write and its confirmation was lost: no replay.
    return Recorded(stored, replayed=stored != decision.response)
