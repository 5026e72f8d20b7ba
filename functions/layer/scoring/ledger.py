"""The ledger: decisions and their counts in DynamoDB, written together or not at all.

Two tables. A decision is one item under ``(tx_id, decision_id)``. The counters are spread over a fixed number of
shards, each one item that holds ``total``, ``high``, a number per risk level and a number per rule, so that in every
shard ``total`` is the sum of the levels at any moment. One ``TransactWriteItems`` puts the decision on condition that
it does not exist and adds it to one shard; whatever is retried, lost or sent twice, a decision is there once and
counted once.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from scoring import aws, settings
from scoring.decision import Decision
from scoring.errors import IdempotencyConflict
from scoring.rules import HIGH_RISK_LEVELS, RISK_LEVELS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

MAX_FOUND = 100

# What stands in the way of a transaction for a moment only: another one on the same item, or a partition at its limit.
_PASSING = frozenset(
    {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict", "TransactionInProgressException"}
)
# Seconds for which a decision tries to get past them; whoever scored it is waiting.
_PATIENCE = 0.5
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1
_BATCH_GET_LIMIT = 100
_SECONDS_A_DAY = 86_400
_LEVEL_PREFIX = "level#"
_RULE_PREFIX = "rule#"


@dataclass(frozen=True, slots=True)
class Recorded:
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


@dataclass(frozen=True, slots=True)
class Totals:
    """The counters, added up over all shards.

    Attributes
    ----------
    total
        Decisions ever recorded.
    high
        Those of level HIGH or CRITICAL.
    by_risk_level
        Every level of :data:`scoring.rules.RISK_LEVELS`; the sum is ``total``.
    by_rule
        Hits of each rule that ever hit, by its label.
    """

    total: int
    high: int
    by_risk_level: dict[str, int]
    by_rule: dict[str, int]


class Ledger:
    """Reads and writes decisions and counters; one instance for the life of an execution environment.

    Parameters
    ----------
    client
        A ``boto3.client("dynamodb")``.
    configuration
        Names of the tables, number of shards, days to keep a decision.
    """

    def __init__(self, client: "DynamoDBClient", configuration: settings.Settings) -> None:
        self._client = client
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
                self._client.transact_write_items(TransactItems=[self._put(decision, answer), self._count(decision)])
            except ClientError as error:
                reasons: list[Any] = error.response.get("CancellationReasons", [])
                if stored := _existing(reasons):
                    return _replay(decision, answer, stored)
                passing = _PASSING & {aws.reason(error), *(reason.get("Code") for reason in reasons)}
                if not passing:
                    raise aws.unavailable("store", aws.reason(error), decision.decision_id) from error
                obstacle = min(passing)
                # Another environment writes to this shard, or another request holds this decision: step aside.
                shards = self._settings.stats_shards
                self._shard = (self._shard + random.randrange(1, max(shards, 2))) % shards
                time.sleep(pause)
            except BotoCoreError as error:
                raise aws.unavailable("store", aws.reason(error), decision.decision_id) from error
            else:
                return Recorded(answer, replayed=False)
        raise aws.unavailable("store", obstacle, decision.decision_id)

    def totals(self, deadline: float) -> Totals:
        """Add up all shards, each read consistently.

        Parameters
        ----------
        deadline
            As in :meth:`record`.

        Raises
        ------
        StoreUnavailable
            A shard could not be read; zeros are never made up.
        """
        numbers: dict[str, int] = {}
        try:
            for item in self._shards(deadline):
                for name, value in item.items():
                    if name != "shard":
                        numbers[name] = numbers.get(name, 0) + int(value["N"])
        except (ClientError, BotoCoreError) as error:
            raise aws.unavailable("store", aws.reason(error)) from error
        return Totals(
            total=numbers.get("total", 0),
            high=numbers.get("high", 0),
            by_risk_level={level: numbers.get(_LEVEL_PREFIX + level, 0) for level in RISK_LEVELS},
            by_rule={
                name.removeprefix(_RULE_PREFIX): number
                for name, number in sorted(numbers.items())
                if name.startswith(_RULE_PREFIX)
            },
        )

    def find(self, tx_id: str, deadline: float) -> list[dict[str, Any]]:
        """Answers that were given for a transaction, newest first, at most :data:`MAX_FOUND`.

        Parameters
        ----------
        tx_id
            Of the transaction, or the decision id where the transaction had none.
        deadline
            As in :meth:`record`.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not answer in time, or has more decisions of this transaction than can be read in it.
        """
        answers: list[dict[str, Any]] = []
        pages = self._client.get_paginator("query").paginate(
            TableName=self._settings.decisions_table,
            KeyConditionExpression="tx_id = :tx_id",
            ExpressionAttributeValues={":tx_id": {"S": tx_id}},
            ProjectionExpression="answer",
            ConsistentRead=True,
        )
        try:
            # The sort key is no time, so the newest are known only when all have been read.
            for page in pages:
                answers.extend(json.loads(item["answer"]["S"]) for item in page["Items"])
                if not aws.is_time_for_a_call(deadline):
                    raise aws.unavailable("store", "TooManyDecisions")
        except (ClientError, BotoCoreError) as error:
            raise aws.unavailable("store", aws.reason(error)) from error
        answers.sort(key=lambda answer: (answer["evaluated_at"], answer["decision_id"]), reverse=True)
        return answers[:MAX_FOUND]

    def _put(self, decision: Decision, answer: dict[str, Any]) -> "TransactWriteItemTypeDef":
        return {
            "Put": {
                "TableName": self._settings.decisions_table,
                "Item": {
                    "tx_id": {"S": decision.key},
                    "decision_id": {"S": decision.decision_id},
                    # As JSON text, since DynamoDB's numbers hold less than JSON's.
                    "transaction": {"S": json.dumps(decision.transaction.as_dict(), separators=(",", ":"))},
                    "answer": {"S": json.dumps(answer, separators=(",", ":"))},
                    "request_hash": {"S": decision.request_hash},
                    "expires_at": {"N": str(int(time.time()) + self._settings.decision_days * _SECONDS_A_DAY)},
                },
                "ConditionExpression": "attribute_not_exists(decision_id)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _count(self, decision: Decision) -> "TransactWriteItemTypeDef":
        level = decision.assessment.risk_level
        counters = ["total", _LEVEL_PREFIX + level]
        if level in HIGH_RISK_LEVELS:
            counters.append("high")
        counters.extend(_RULE_PREFIX + label for label in decision.assessment.triggered_rules)
        return {
            "Update": {
                "TableName": self._settings.stats_table,
                "Key": {"shard": {"N": str(self._shard)}},
                "UpdateExpression": "ADD " + ", ".join(f"#{index} :one" for index in range(len(counters))),
                "ExpressionAttributeNames": {f"#{index}": name for index, name in enumerate(counters)},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }

    def _shards(self, deadline: float) -> Iterator[dict[str, "AttributeValueTypeDef"]]:
        table = self._settings.stats_table
        keys = [{"shard": {"N": str(shard)}} for shard in range(self._settings.stats_shards)]
        for start in range(0, len(keys), _BATCH_GET_LIMIT):
            wanted: Any = {table: {"Keys": keys[start : start + _BATCH_GET_LIMIT], "ConsistentRead": True}}
            while wanted:
                if not aws.is_time_for_a_call(deadline):
                    raise aws.unavailable("store", "TotalsNotInTime")
                page = self._client.batch_get_item(RequestItems=wanted)
                yield from page["Responses"].get(table, [])
                wanted = page["UnprocessedKeys"]
                if wanted:
                    time.sleep(random.uniform(0, _LONGEST_PAUSE))


def connect() -> Ledger:
    """Open the ledger that the environment variables name.

    Raises
    ------
    SettingsError
        A variable is missing or wrong.
    """
    return Ledger(aws.client("dynamodb"), settings.read())


def _pauses(deadline: float) -> Iterator[float]:
    """Seconds to wait after each attempt, as long as there is patience and time for another.

    They grow, to ease off, and are random, so that rivals do not meet again.
    """
    end = time.monotonic() + _PATIENCE
    longest = _FIRST_PAUSE
    while time.monotonic() < end and aws.is_time_for_a_call(deadline):
        yield random.uniform(0, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def _existing(reasons: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The stored decision, where the condition of the put failed."""
    if reasons and reasons[0].get("Code") == "ConditionalCheckFailed":
        item: dict[str, Any] | None = reasons[0].get("Item")
        return item
    return None


def _replay(decision: Decision, answer: dict[str, Any], stored: dict[str, Any]) -> Recorded:
    if stored["request_hash"]["S"] != decision.request_hash:
        raise IdempotencyConflict(
            f"Header 'Idempotency-Key': {decision.decision_id!r} was already used with another body"
        )
    first = json.loads(stored["answer"]["S"])
    # The stored answer is this very one where DynamoDB had applied a write whose reply was lost: no replay then.
    return Recorded(first, replayed=first != answer)
