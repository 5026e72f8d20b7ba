"""Write decisions and their counts in transactions.

A ``TransactWriteItems`` puts up to 99 decisions, each on condition that it does not exist, and adds them to one shard
of the counters. So a decision is stored once and counted once, however often its write is retried. In every shard,
``total`` is the sum of the levels at any moment.

If a decision exists already, DynamoDB cancels the transaction and returns the stored item. The others are then written
without it.

A circuit breaker limits the damage when DynamoDB does not respond. A write then takes two seconds, some hundred times
as long as usual, and scoring would need a hundred times the execution environments. So a slow failure opens the
circuit: during a cooldown, writes fail at once.
"""

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scoring import chunks, deadlines, settings, strict_json, telemetry
from scoring.assessment import HIGH_RISK_LEVELS
from scoring.aws import client
from scoring.decision import Decision, is_response
from scoring.errors import CallFailed, IdempotencyConflict, InvalidRequest, StoreUnavailable
from scoring.ledger.tables import LEVEL_PREFIX, RULE_PREFIX, key

# Limits of a transaction: 100 items of 4 MB together, the shard among them. The bytes are those of the request, which
# are at least those in the table: six for a character that JSON escapes.
MAX_DECISIONS = 99
MAX_BYTES = 3_900_000
# Transient causes: another transaction on the same item, or a partition at its limit.
RETRYABLE_CODES = frozenset(
    {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict", "TransactionInProgressException"}
)
# DynamoDB refuses an item, whatever else the transaction contains.
REFUSAL_CODES = frozenset({"ItemCollectionSizeLimitExceeded", "ValidationError", "ValidationException"})
# The caller is waiting for the response.
RETRY_BUDGET_SECONDS = 0.5
FIRST_BACKOFF_SECONDS = 0.005
MAX_BACKOFF_SECONDS = 0.1
# After so many conflicts, a transaction is split in two.
MAX_CONFLICTS = 2
# A failure slower than this opens the circuit.
SLOW_FAILURE_SECONDS = 1
COOLDOWN_SECONDS = 2

# The action of an item without its two long values. An id of 128 characters takes up to 1,536 bytes, escaped.
_MAX_OTHER_BYTES = 2_500
# A cancelled transaction returns the stored items: at most 4 MB, which JSON escapes.
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_SECONDS_PER_DAY = 86_400
# Returns JSON text to store, since DynamoDB's numbers have a smaller range than JSON's. Non-ASCII characters are not
# escaped: six bytes in place of two or three would take the largest decision beyond the 400 KB of an item.
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Recorded(NamedTuple):
    """A decision that is recorded.

    Attributes
    ----------
    response
        Body to return: that of the first request with this key.
    replayed
        Whether an earlier request with this key made the decision.
    """

    response: Mapping[str, Any]
    replayed: bool


# Result of recording a decision. Errors are values, since one call records many decisions.
Outcome = Recorded | IdempotencyConflict | StoreUnavailable


class _Write(NamedTuple):
    """A decision, its key, and the item to put."""

    decision: Decision
    key: tuple[str, str]
    item: dict[str, dict[str, str]]


class _Stored(NamedTuple):
    """What the table has under a key: the response to the first request, and that request's hash."""

    response: Mapping[str, Any]
    request_hash: str


# The result for each key so far.
_Results = dict[tuple[str, str], _Stored | StoreUnavailable]


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
        self._open_until = 0.0

    def record(self, decisions: Sequence[Decision], deadline: float) -> list[Outcome]:
        """Store decisions and count them, each exactly once. No call is started that could end after the deadline.

        Decisions with equal keys are one decision, the first. They are written in order: if DynamoDB is unavailable,
        none of those after the first failure is written.

        Returns
        -------
        list
            The outcome of each decision, in order: :class:`Recorded`; IdempotencyConflict if its id was already used
            for another request, which counts nothing; or StoreUnavailable if DynamoDB did not confirm in time. The
            same decision can then safely be recorded again.
        """
        keys = [key(decision) for decision in decisions]
        writes: dict[tuple[str, str], _Write] = {}
        for one, decision in zip(keys, decisions, strict=True):
            if one not in writes:
                writes[one] = self._write_of(decision, one)
        results: _Results = {}
        unavailable: StoreUnavailable | None = None
        for chunk in chunks.split(writes.values(), _size, MAX_DECISIONS, MAX_BYTES):
            if unavailable is None:
                unavailable = self._try(chunk, results, deadline)
            if unavailable is not None:
                for write in chunk:
                    results.setdefault(write.key, unavailable)
        outcomes: list[Outcome] = []
        for one, decision in zip(keys, decisions, strict=True):
            result = results[one]
            outcomes.append(result if isinstance(result, StoreUnavailable) else outcome_of(decision, *result))
        return outcomes

    def _try(self, chunk: list[_Write], results: _Results, deadline: float) -> StoreUnavailable | None:
        """Write a chunk unless the circuit is open; return the error if DynamoDB is unavailable."""
        start = time.monotonic()
        if start < self._open_until:
            return telemetry.log_unavailable("store", "CircuitOpen", chunk[0].decision.decision_id)
        try:
            self._write(chunk, results, deadline)
        except StoreUnavailable as error:
            if time.monotonic() - start > SLOW_FAILURE_SECONDS:
                self._open_until = time.monotonic() + COOLDOWN_SECONDS
            return error
        return None

    def _write(self, group: list[_Write], results: _Results, deadline: float) -> None:
        """Write a group in one transaction, or in several if it is cancelled; add the result of each key.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not confirm. Keys without a result may have been written.
        """
        obstacle = "NoTimeLeft"
        conflicts = 0
        for backoff in _backoffs(deadline):
            failure = self._attempt(group, results)
            if failure is None:
                return
            new = [write for write in group if write.key not in results]
            if len(new) < len(group):
                if new:
                    self._write(new, results, deadline)
                return
            codes = {failure.reason, *(code for code, _ in _cancellation_reasons(failure))}
            retryable = RETRYABLE_CODES & codes
            if not retryable:
                self._isolate(group, failure, codes, results, deadline)
                return
            obstacle = min(retryable)
            self._change_shards()
            time.sleep(backoff)
            conflicts += 1
            if conflicts == MAX_CONFLICTS and len(group) > 1:
                break
        if not conflicts or len(group) == 1:
            raise telemetry.log_unavailable("store", obstacle, group[0].decision.decision_id)
        self._write_halves(group, results, deadline)

    def _isolate(
        self, group: list[_Write], failure: CallFailed, codes: set[str], results: _Results, deadline: float
    ) -> None:
        """Write the others of a group if DynamoDB refuses one of its decisions; else raise StoreUnavailable."""
        if len(group) > 1 and REFUSAL_CODES & codes:
            self._write_halves(group, results, deadline)
            return
        error = telemetry.log_unavailable("store", failure.reason, group[0].decision.decision_id)
        if not REFUSAL_CODES & codes:
            raise error from failure
        results[group[0].key] = error

    def _attempt(self, group: list[_Write], results: _Results) -> CallFailed | None:
        """Write a group in one transaction; add the results of new and, if it is cancelled, of existing decisions.

        Returns the failure if the transaction was not applied.
        """
        try:
            confirmation = self._dynamodb.call("TransactWriteItems", self._transaction(group))
        except CallFailed as failure:
            # The reasons are in the order of the actions, so the shard's is the last and has no decision.
            for write, (code, item) in zip(group, _cancellation_reasons(failure), strict=False):
                if code == "ConditionalCheckFailed" and item:
                    results[write.key] = _stored(write.decision, item)
            return failure
        # DynamoDB confirms with an empty object, since the request asks for no return values.
        if confirmation != {}:
            raise telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, group[0].decision.decision_id)
        for write in group:
            results[write.key] = _Stored(write.decision.response, write.decision.request_hash)
        return None

    def _write_halves(self, group: list[_Write], results: _Results, deadline: float) -> None:
        """Write a group in two transactions, to isolate what conflicts or is refused."""
        middle = len(group) // 2
        self._write(group[:middle], results, deadline)
        self._write(group[middle:], results, deadline)

    def _change_shards(self) -> None:
        """Move to another shard, since another environment may be writing to this one."""
        shards = self._settings.stats_shards
        self._shard = (self._shard + random.randrange(1, max(shards, 2))) % shards

    def _write_of(self, decision: Decision, decision_key: tuple[str, str]) -> _Write:
        partition, decision_id = decision_key
        response = decision.response
        item = {
            "tx_id": {"S": partition},
            "decision_id": {"S": decision_id},
            "transaction": {"S": _json(decision.transaction)},
            "answer": {"S": _json(response)},
            "request_hash": {"S": decision.request_hash},
            # For the filter of the alerts: a stream has no view into the JSON of the response.
            "risk_level": {"S": response["risk_level"]},
            "score": {"N": str(response["score"])},
            "expires_at": {"N": str(int(time.time()) + self._settings.decision_days * _SECONDS_PER_DAY)},
        }
        return _Write(decision, decision_key, item)

    def _transaction(self, group: list[_Write]) -> dict[str, Any]:
        puts = [
            {
                "Put": {
                    "TableName": self._settings.decisions_table,
                    "Item": write.item,
                    "ConditionExpression": "attribute_not_exists(decision_id)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
            }
            for write in group
        ]
        return {
            # Lets DynamoDB recognize a second attempt at a transaction that it has applied.
            "ClientRequestToken": os.urandom(16).hex(),
            "TransactItems": [*puts, self._count(group)],
        }

    def _count(self, group: list[_Write]) -> dict[str, Any]:
        counts: dict[str, int] = {}
        for write in group:
            response = write.decision.response
            level = response["risk_level"]
            counters = ["total", LEVEL_PREFIX + level]
            if level in HIGH_RISK_LEVELS:
                counters.append("high")
            counters.extend([RULE_PREFIX + label for label in response["triggered_rules"]])
            for counter in counters:
                counts[counter] = counts.get(counter, 0) + 1
        names: dict[str, str] = {}
        added = []
        for index, (counter, count) in enumerate(counts.items()):
            name = f"#{index}"
            names[name] = counter
            added.append(f"{name} :{count}")
        return {
            "Update": {
                "TableName": self._settings.stats_table,
                "Key": {"shard": {"N": str(self._shard)}},
                "UpdateExpression": "ADD " + ", ".join(added),
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": {f":{count}": {"N": str(count)} for count in set(counts.values())},
            }
        }


def connect() -> LedgerWriter:
    """Connect to the tables; an invalid environment variable raises SettingsError."""
    dynamodb = client.dynamodb(_MAX_RESPONSE_BYTES)
    dynamodb.connect()
    return LedgerWriter(dynamodb, settings.read())


def outcome_of(decision: Decision, response: Mapping[str, Any], request_hash: str) -> Recorded | IdempotencyConflict:
    """Return the outcome of a decision, given the response and the request's hash that are stored under its key."""
    if request_hash != decision.request_hash:
        return IdempotencyConflict(
            f"Header 'Idempotency-Key': {decision.decision_id!r} was already used with another body"
        )
    # Equal responses mean that this very write was applied, even if its confirmation was lost: no replay.
    return Recorded(response, replayed=response is not decision.response and response != decision.response)


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


def _stored(decision: Decision, item: Any) -> _Stored | StoreUnavailable:
    """Return what an existing item contains.

    It is an error if the item is not a stored decision with this id: the response did not come from DynamoDB.
    """
    try:
        request_hash, response = item["request_hash"]["S"], strict_json.parse(item["answer"]["S"])
    except (AttributeError, InvalidRequest, KeyError, TypeError):
        request_hash = response = None
    if isinstance(request_hash, str) and is_response(response) and response["decision_id"] == decision.decision_id:
        return _Stored(response, request_hash)
    return telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, decision.decision_id)


def _size(write: _Write) -> int:
    """Return the size of an item in the request, rounded up, which is at least its size in the table."""
    item = write.item
    texts = item["transaction"]["S"], item["answer"]["S"]
    return len(strict_json.encode(texts)) + _MAX_OTHER_BYTES
