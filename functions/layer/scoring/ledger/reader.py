"""Read the totals of all decisions, and the decisions about one transaction."""

import heapq
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from scoring import settings, store, strict_json
from scoring.assessment import RISK_LEVELS
from scoring.decision import StoredResponse, is_response
from scoring.errors import InvalidRequest
from scoring.ledger import batch_get
from scoring.ledger.tables import LEVEL_PREFIX, RULE_PREFIX, partition_key

MAX_FOUND = 100
# Lambda returns at most 6 MB (AWS Lambda quotas); the difference is for the rest of the response.
MAX_FOUND_BYTES = 5_500_000

# Types of the fields of a model's opinion: those that each has, and those that may be absent
_OF_OPINION = {"version": str, "risk_level": str, "fraud": bool, "fraud_probability": float}
_OPTIONAL_OF_OPINION = {"unseen": list, "contributions": list}
# Raised by reading a malformed response.
_MALFORMED = (AttributeError, InvalidRequest, KeyError, TypeError, ValueError)


class Totals(NamedTuple):
    """The sums of the counters over all shards.

    Attributes
    ----------
    total
        Number of decisions ever recorded.
    high
        Number of those with level HIGH or CRITICAL.
    by_risk_level
        Number per level of :data:`scoring.assessment.RISK_LEVELS`; the sum is ``total``.
    by_rule
        Hits per label, for every rule that ever hit.
    """

    total: int
    high: int
    by_risk_level: dict[str, int]
    by_rule: dict[str, int]


class _Stored(NamedTuple):
    """A stored decision; transaction and shadow are JSON text."""

    response: StoredResponse
    transaction: str
    shadow: str | None


class LedgerReader:
    """Reads decisions and counters; one instance per execution environment.

    Parameters
    ----------
    dynamodb
        The calls of DynamoDB.
    configuration
        Names of the tables, number of shards.
    """

    def __init__(self, dynamodb: store.Store, configuration: settings.Settings) -> None:
        self._store = dynamodb
        self._settings = configuration

    def totals(self, deadline: float) -> Totals:
        """Add up all shards, each read consistently. No call is started that could end after the deadline.

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
        except _MALFORMED as error:
            raise store.malformed() from error
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
        """Return the decisions about a transaction, newest first: responses with the ``transaction`` added.

        A model's opinion is added as ``shadow``, if there is a valid one.

        Parameters
        ----------
        tx_id
            Transaction id. If no transaction has this id: the id of a decision without ``tx_id``.
        deadline
            Time on the clock of :func:`time.monotonic`; no call is started that could end later.

        Returns
        -------
        list
            The newest ones, up to :data:`MAX_FOUND` and :data:`MAX_FOUND_BYTES`.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not respond in time, or has too many decisions about this transaction to read them in time.
        """
        try:
            stored = self._newest(tx_id, deadline)
            found = [decision for decision in stored if decision.response["tx_id"] == tx_id]
            if not found:
                # Earlier versions stored a decision without tx_id in the partition of its decision id.
                found = self._newest(partition_key(None, tx_id), deadline) + stored
            return _within_size(found)
        except _MALFORMED as error:
            raise store.malformed() from error

    def _newest(self, key: str, deadline: float) -> list[_Stored]:
        """Return the newest decisions of a partition. The sort key is not a time, so all of them are read."""
        request = {
            "TableName": self._settings.decisions_table,
            "KeyConditionExpression": "tx_id = :key",
            "ExpressionAttributeValues": {":key": {"S": key}},
            # `transaction` is a reserved word and needs a placeholder.
            "ProjectionExpression": "answer, #transaction, shadow",
            "ExpressionAttributeNames": {"#transaction": "transaction"},
        }
        stored = map(_stored, self._store.query(request, deadline))
        return heapq.nlargest(MAX_FOUND, stored, key=_evaluated_at_and_id)

    def _shards(self, deadline: float) -> Iterator[dict[str, Any]]:
        table = self._settings.stats_table
        keys = [{"shard": {"N": str(shard)}} for shard in range(self._settings.stats_shards)]
        for start in range(0, len(keys), batch_get.MAX_KEYS):
            chunk = {table: keys[start : start + batch_get.MAX_KEYS]}
            for _, item in batch_get.read(
                lambda parameters: self._store.call("BatchGetItem", parameters, deadline), chunk
            ):
                yield item


def connect() -> LedgerReader:
    """Connect to the tables; an invalid environment variable raises SettingsError."""
    return LedgerReader(store.connect(), settings.read())


def _count(value: Any) -> int:
    digits = value["N"]
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError
    return int(digits)


def _stored(item: dict[str, Any]) -> _Stored:
    response = strict_json.parse(item["answer"]["S"])
    if not is_response(response):
        raise ValueError
    return _Stored(response, item["transaction"]["S"], item.get("shadow", {}).get("S"))


def _evaluated_at_and_id(stored: _Stored) -> tuple[str, str]:
    return stored.response["evaluated_at"], stored.response["decision_id"]


def _within_size(stored: list[_Stored]) -> list[dict[str, Any]]:
    """Return decisions with their transactions, as many as fit into a response."""
    found: list[dict[str, Any]] = []
    size = 0
    for response, transaction, shadow in stored[:MAX_FOUND]:
        decision = {**response, "transaction": strict_json.parse(transaction)}
        if opinion := _opinion(shadow):
            decision["shadow"] = opinion
        # Encoded twice, since Lambda's response is JSON that contains the body as a string.
        size += len(json.dumps(json.dumps(decision)))
        if size > MAX_FOUND_BYTES:
            break
        found.append(decision)
    return found


def _opinion(text: str | None) -> dict[str, Any] | None:
    """Return a model's opinion; None if there is no valid one, which must not hide the decision."""
    try:
        opinion: Any = text and strict_json.parse(text)
    except InvalidRequest:
        return None
    valid = (
        isinstance(opinion, dict)
        and opinion.keys() - _OPTIONAL_OF_OPINION.keys() == _OF_OPINION.keys()
        and all(type(opinion[name]) is kind for name, kind in _OF_OPINION.items())
        and all(type(opinion.get(name, kind())) is kind for name, kind in _OPTIONAL_OF_OPINION.items())
        and opinion["risk_level"] in RISK_LEVELS
    )
    return opinion if valid else None
