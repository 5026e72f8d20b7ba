"""The ledger: decisions and their counts in DynamoDB, written together or not at all.

Two tables. A decision is one item under ``(tx_id, decision_id)``; :attr:`Decision.key <scoring.decision.Decision.key>`
says what stands in for a missing ``tx_id``. The counters are spread over a fixed number of shards, each one item that
holds ``total``, ``high``, a number per risk level and a number per rule, so that in every shard ``total`` is the sum of
the levels at any moment. One ``TransactWriteItems`` puts the decision on condition that it does not exist and adds it
to one shard; whatever is retried, lost or sent twice, a decision is there once and counted once. What stands in the
tables is read back by :mod:`scoring.reports`.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from scoring import aws, settings
from scoring.decision import Decision
from scoring.errors import CallFailed, IdempotencyConflict, InvalidRequest
from scoring.rules import HIGH_RISK_LEVELS
from scoring.transaction import parse_json

# Names of the counters in a shard
LEVEL_PREFIX = "level#"
RULE_PREFIX = "rule#"

# What stands in the way of a transaction for a moment only: another one on the same item, or a partition at its limit.
_PASSING = frozenset(
    {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict", "TransactionInProgressException"}
)
# Seconds for which a decision tries to get past them; whoever scored it is waiting.
_PATIENCE = 0.5
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1
_SECONDS_A_DAY = 86_400

# The fields that every version has stored of an answer.
_ANSWER_FIELDS = frozenset(
    {"score", "risk_level", "triggered_rules", "tx_id", "decision_id", "version", "evaluated_at"}
)


class Recorded(NamedTuple):
    """A decision as it stands in the ledger.

    Attributes
    ----------
    answer
        Body of the answer to ``POST /score``, as it was given the first time.
    replayed
        True where an earlier request with the same key had decided already.
    """

    answer: dict[str, Any]
    replayed: bool


class Ledger:
    """Writes decisions and counters; one instance for the life of an execution environment.

    Parameters
    ----------
    dynamodb
        The service.
    configuration
        Names of the tables, number of shards, days to keep a decision.
    """

    def __init__(self, dynamodb: aws.Service, configuration: settings.Settings) -> None:
        self._dynamodb = dynamodb
        self._settings = configuration
        self._shard = random.randrange(configuration.stats_shards)

    def record(self, decision: Decision, deadline: float) -> Recorded:
        """Store a decision and count it, exactly once.

        Parameters
        ----------
        decision
            To be recorded.
        deadline
            On the clock of :func:`time.monotonic`; nothing is begun that could end later.

        Returns
        -------
        Recorded
            The answer to give: this decision's own, or the stored one where the decision existed already.

        Raises
        ------
        IdempotencyConflict
            The decision id stands for another request already; nothing was counted.
        StoreUnavailable
            DynamoDB did not confirm in time. Sending the same decision again is safe.
        """
        answer = decision.answer()
        obstacle = "NoTimeLeft"
        for pause in _pauses(deadline):
            try:
                response = self._dynamodb.call("TransactWriteItems", self._transaction(decision, answer))
            except CallFailed as failure:
                reasons = _cancellation_reasons(failure)
                if stored := _existing(reasons):
                    return _replay(decision, answer, stored)
                passing = _PASSING & {failure.reason, *(code for code, _ in reasons)}
                if not passing:
                    raise aws.unavailable("store", failure.reason, decision.decision_id) from failure
                obstacle = min(passing)
                # Another environment writes to this shard, or another request holds this decision: step aside.
                shards = self._settings.stats_shards
                self._shard = (self._shard + random.randrange(1, max(shards, 2))) % shards
                time.sleep(pause)
            else:
                # The response has members only for what a request asks for, and this one asks for nothing.
                if response == {}:
                    return Recorded(answer, replayed=False)
                raise aws.unavailable("store", aws.UNEXPECTED, decision.decision_id)
        raise aws.unavailable("store", obstacle, decision.decision_id)

    def _transaction(self, decision: Decision, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            # By which DynamoDB knows a second attempt at a transaction that it has made already.
            "ClientRequestToken": os.urandom(16).hex(),
            "TransactItems": [self._put(decision, answer), self._count(decision)],
        }

    def _put(self, decision: Decision, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._settings.decisions_table,
                "Item": {
                    "tx_id": {"S": decision.key},
                    "decision_id": {"S": decision.decision_id},
                    "transaction": {"S": _json(decision.transaction.as_dict())},
                    "answer": {"S": _json(answer)},
                    "request_hash": {"S": decision.request_hash},
                    "expires_at": {"N": str(int(time.time()) + self._settings.decision_days * _SECONDS_A_DAY)},
                },
                "ConditionExpression": "attribute_not_exists(decision_id)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _count(self, decision: Decision) -> dict[str, Any]:
        level = decision.assessment.risk_level
        counters = ["total", LEVEL_PREFIX + level]
        if level in HIGH_RISK_LEVELS:
            counters.append("high")
        counters.extend(RULE_PREFIX + label for label in decision.assessment.triggered_rules)
        return {
            "Update": {
                "TableName": self._settings.stats_table,
                "Key": {"shard": {"N": str(self._shard)}},
                "UpdateExpression": "ADD " + ", ".join(f"#{index} :one" for index in range(len(counters))),
                "ExpressionAttributeNames": {f"#{index}": name for index, name in enumerate(counters)},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }


def connect() -> Ledger:
    """Open the ledger that the environment variables name, and the connection to it.

    Raises
    ------
    SettingsError
        A variable is missing or wrong.
    """
    dynamodb = aws.dynamodb()
    dynamodb.connect()
    return Ledger(dynamodb, settings.read())


def _pauses(deadline: float) -> Iterator[float]:
    """Seconds to wait after each attempt, as long as there is patience and time for another.

    They grow, to ease off, and are random, so that rivals do not meet again.
    """
    end = time.monotonic() + _PATIENCE
    longest = _FIRST_PAUSE
    while time.monotonic() < end and aws.is_time_for_a_call(deadline):
        yield random.uniform(0, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def _json(value: Any) -> str:
    """Return JSON text to store: text, since DynamoDB's numbers hold less than JSON's.

    Escapes no more than JSON asks for. As ASCII, the largest decision would exceed the 400 KB of an item: six bytes for
    each of two or three.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _cancellation_reasons(failure: CallFailed) -> list[tuple[str, Any]]:
    """Return code and stored item of each action of a cancelled transaction; an empty list if they are malformed."""
    reasons = failure.answer.get("CancellationReasons")
    if not isinstance(reasons, list) or not all(isinstance(reason, dict) for reason in reasons):
        return []
    return [(str(reason.get("Code")), reason.get("Item")) for reason in reasons]


def _existing(reasons: list[tuple[str, Any]]) -> Any:
    """Return the stored decision if the condition of the put failed, else None."""
    if reasons and reasons[0][0] == "ConditionalCheckFailed":
        return reasons[0][1]
    return None


def _replay(decision: Decision, answer: dict[str, Any], stored: Any) -> Recorded:
    """Return the stored answer for a decision that exists already.

    Raises
    ------
    IdempotencyConflict
        It was made for another request.
    StoreUnavailable
        The item is not that of this decision, so the response did not come from DynamoDB.
    """
    try:
        request_hash, first = stored["request_hash"]["S"], parse_json(stored["answer"]["S"])
        genuine = (
            isinstance(request_hash, str)
            and first["decision_id"] == decision.decision_id
            and first.keys() >= _ANSWER_FIELDS
        )
    except (AttributeError, InvalidRequest, KeyError, TypeError):
        genuine = False
    if not genuine:
        raise aws.unavailable("store", aws.UNEXPECTED, decision.decision_id)
    if request_hash != decision.request_hash:
        raise IdempotencyConflict(
            f"Header 'Idempotency-Key': {decision.decision_id!r} was already used with another body"
        )
    # The stored answer is this very one where DynamoDB had applied a write whose reply was lost: no replay then.
    return Recorded(first, replayed=first != answer)
