"""Read the ledger: the totals of all decisions, and the decisions about one transaction."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from scoring import aws, settings
from scoring.decision import key_without_tx_id
from scoring.errors import CallFailed, InvalidRequest
from scoring.ledger import LEVEL_PREFIX, RULE_PREFIX
from scoring.rules import RISK_LEVELS
from scoring.transaction import parse_json

MAX_FOUND = 100
# Lambda returns at most 6 MB (AWS Lambda quotas), of which this leaves some for the rest of the response.
MAX_FOUND_BYTES = 5_500_000

# BatchGetItem returns at most 100 items and 16 MB (DynamoDB API Reference).
_BATCH_GET_LIMIT = 100
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
# Seconds before shards that were left unprocessed are read again; doubled each time.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

# Raised if a response does not have the shape of its operation.
_MALFORMED = (AttributeError, InvalidRequest, KeyError, TypeError, ValueError)


class Totals(NamedTuple):
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


class _Stored(NamedTuple):
    """A stored decision. Its fields sort by time, then by id."""

    evaluated_at: str
    decision_id: str
    answer: dict[str, Any]
    transaction: str


class Reports:
    """Reads decisions and counters; one instance for the life of an execution environment.

    Parameters
    ----------
    dynamodb
        The service.
    configuration
        Names of the tables, number of shards.
    """

    def __init__(self, dynamodb: aws.Service, configuration: settings.Settings) -> None:
        self._dynamodb = dynamodb
        self._settings = configuration

    def totals(self, deadline: float) -> Totals:
        """Add up all shards, each read consistently.

        Parameters
        ----------
        deadline
            On the clock of :func:`time.monotonic`; no call is begun that could end later.

        Raises
        ------
        StoreUnavailable
            A shard could not be read; missing shards never count as zero.
        """
        numbers: dict[str, int] = {}
        try:
            for item in self._shards(deadline):
                for name, value in item.items():
                    if name != "shard":
                        numbers[name] = numbers.get(name, 0) + _count(value)
        except CallFailed as failure:
            raise aws.unavailable("store", failure.reason) from failure
        except _MALFORMED as error:
            raise aws.unavailable("store", aws.UNEXPECTED) from error
        return Totals(
            total=numbers.get("total", 0),
            high=numbers.get("high", 0),
            by_risk_level={level: numbers.get(LEVEL_PREFIX + level, 0) for level in RISK_LEVELS},
            by_rule={
                name.removeprefix(RULE_PREFIX): number
                for name, number in sorted(numbers.items())
                if name.startswith(RULE_PREFIX)
            },
        )

    def find(self, tx_id: str, deadline: float) -> list[dict[str, Any]]:
        """Return the decisions about a transaction, newest first, each as it was answered and with its transaction.

        Parameters
        ----------
        tx_id
            Of the transaction. Where no transaction has this id: the id of a decision without ``tx_id``.
        deadline
            As in :meth:`totals`.

        Returns
        -------
        list
            At most :data:`MAX_FOUND` decisions, and no more than :data:`MAX_FOUND_BYTES` of them.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not respond in time, or holds more decisions of this transaction than can be read in it.
        """
        try:
            stored = self._newest(tx_id, deadline)
            found = [one for one in stored if one.answer["tx_id"] == tx_id]
            if not found:
                # Earlier versions kept a decision without tx_id in the partition of its decision id.
                found = self._newest(key_without_tx_id(tx_id), deadline) + stored
            return _fitting(found)
        except CallFailed as failure:
            raise aws.unavailable("store", failure.reason) from failure
        except _MALFORMED as error:
            raise aws.unavailable("store", aws.UNEXPECTED) from error

    def _newest(self, key: str, deadline: float) -> list[_Stored]:
        """Return the newest decisions of a partition. All of it is read, because the sort key is not a time."""
        newest: list[_Stored] = []
        for items in self._pages(key, deadline):
            newest.extend(_stored(item) for item in items)
            newest.sort(key=lambda one: one[:2], reverse=True)
            del newest[MAX_FOUND:]
        return newest

    def _pages(self, key: str, deadline: float) -> Iterator[list[dict[str, Any]]]:
        request: dict[str, Any] = {
            "TableName": self._settings.decisions_table,
            "KeyConditionExpression": "tx_id = :key",
            "ExpressionAttributeValues": {":key": {"S": key}},
            # A reserved word needs a placeholder.
            "ProjectionExpression": "answer, #transaction",
            "ExpressionAttributeNames": {"#transaction": "transaction"},
            "ConsistentRead": True,
        }
        while True:
            page = self._call("Query", request, deadline)
            yield _list(page["Items"])
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _shards(self, deadline: float) -> Iterator[dict[str, Any]]:
        table = self._settings.stats_table
        keys = [{"shard": {"N": str(shard)}} for shard in range(self._settings.stats_shards)]
        for start in range(0, len(keys), _BATCH_GET_LIMIT):
            longest = _FIRST_PAUSE
            wanted: Any = {table: {"Keys": keys[start : start + _BATCH_GET_LIMIT], "ConsistentRead": True}}
            while wanted:
                page = self._call("BatchGetItem", {"RequestItems": wanted}, deadline)
                wanted, responses = page["UnprocessedKeys"], page["Responses"]
                # The list is there even if no shard has been written to, and may be missing only if none was read.
                yield from _list(responses.get(table, []) if wanted else responses[table])
                if wanted:
                    time.sleep(random.uniform(0, longest))
                    longest = min(2 * longest, _LONGEST_PAUSE)

    def _call(self, operation: str, parameters: dict[str, Any], deadline: float) -> dict[str, Any]:
        if not aws.is_time_for_a_call(deadline):
            raise aws.unavailable("store", "NoTimeLeft")
        response: dict[str, Any] = self._dynamodb.call(operation, parameters)
        return response


def connect() -> Reports:
    """Open the ledger that the environment variables name for reading, and the connection to it.

    Raises
    ------
    SettingsError
        A variable is missing or wrong.
    """
    dynamodb = aws.dynamodb(_MAX_RESPONSE_BYTES)
    dynamodb.connect()
    return Reports(dynamodb, settings.read())


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _count(value: Any) -> int:
    digits = value["N"]
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError
    return int(digits)


def _stored(item: dict[str, Any]) -> _Stored:
    answer = parse_json(item["answer"]["S"])
    return _Stored(answer["evaluated_at"], answer["decision_id"], answer, item["transaction"]["S"])


def _fitting(stored: list[_Stored]) -> list[dict[str, Any]]:
    """Return the decisions in full, as many of the newest as a response may hold."""
    found: list[dict[str, Any]] = []
    size = 0
    for one in stored[:MAX_FOUND]:
        decision = one.answer | {"transaction": parse_json(one.transaction)}
        # Twice, since the response is JSON with the body as a string in it.
        size += len(json.dumps(json.dumps(decision)))
        if size > MAX_FOUND_BYTES:
            break
        found.append(decision)
    return found
