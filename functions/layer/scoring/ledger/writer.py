"""Write decisions, their counts and the profiles of their histories in transactions.

A ``TransactWriteItems`` puts up to 99 decisions, each on condition that it does not exist, and adds them to one shard
of the counters. So a decision is stored once and counted once, however often its write is retried. In every shard,
``total`` is the sum of the levels at any moment.

If a decision exists already, DynamoDB cancels the transaction and returns the stored item. The others are then written
without it.

A decision that depends on profiles or lists is made here: they are read, and the transaction also replaces the
profiles, on condition that they have not changed. If one has, the decision is made again.

A circuit breaker limits the damage when DynamoDB does not respond. A write then takes two seconds, some hundred times
as long as usual, and scoring would need a hundred times the execution environments. So a slow failure opens the
circuit: during a cooldown, writes fail at once.
"""

import json
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring import deadlines, settings, strict_json, telemetry
from scoring.assessment import HIGH_RISK_LEVELS
from scoring.aws import client
from scoring.decision import Decision, is_response
from scoring.errors import CallFailed, IdempotencyConflict, InvalidProfile, InvalidRequest, StoreUnavailable
from scoring.ledger.tables import LEVEL_PREFIX, RULE_PREFIX, key

if TYPE_CHECKING:
    from scoring.history.profiles import Key
    from scoring.lookups import Entry, Known

# Limits of a transaction: 100 items of 4 MB together, the shard among them. The bytes are those of the request, which
# are at least those in the table: six for a character that JSON escapes. Profiles are also items.
MAX_DECISIONS = 99
MAX_BYTES = 3_900_000
# Keys that DynamoDB reads in one call.
MAX_LOOKUPS = 100
# Transient causes: another transaction on the same item, or a partition at its limit.
RETRYABLE_CODES = frozenset(
    {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict", "TransactionInProgressException"}
)
# DynamoDB refuses an item, whatever else the transaction contains.
REFUSAL_CODES = frozenset({"ItemCollectionSizeLimitExceeded", "ValidationError", "ValidationException"})
# The caller is waiting for the response.
RETRY_BUDGET_SECONDS = 0.5
# Decisions about one customer wait for each other, since each has to see those before it.
PROFILE_RETRY_SECONDS = 3
FIRST_BACKOFF_SECONDS = 0.005
MAX_BACKOFF_SECONDS = 0.1
# After so many conflicts, a transaction is split in two.
MAX_CONFLICTS = 2
# A failure slower than this opens the circuit.
SLOW_FAILURE_SECONDS = 1
COOLDOWN_SECONDS = 2

# The action of an item without its two long values. An id of 128 characters takes up to 1,536 bytes, escaped.
_MAX_OTHER_BYTES = 2_500
# The action of a profile, and what its history adds to the decision
_MAX_PROFILE_BYTES = 4_000
# The response of a decision that is still to be made. If many are larger, DynamoDB refuses the transaction, and it is
# split.
_MAX_RESPONSE_TEXT_BYTES = 8_000
# A cancelled transaction returns the stored items: at most 4 MB, which JSON escapes.
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
# 48 random bits, so that a profile with the longest names takes at most a kilobyte
_REVISION_LENGTH = 12
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


# What the table has under a key: the response to the first request, and that request's hash.
_Stored = tuple[Mapping[str, Any], str]
# The profiles that include the decisions of a transaction, each with the revision that was read, if there was one.
_Profiles = dict["Key", tuple[bytes, str | None]]
# The result for each key so far.
_Results = dict[tuple[str, str], _Stored | StoreUnavailable]


class LedgerWriter:
    """Writes decisions, counters and profiles; one instance per execution environment.

    Parameters
    ----------
    dynamodb
        Client of DynamoDB.
    configuration
        Names of the tables, number of shards, days to keep decisions and profiles.
    """

    def __init__(self, dynamodb: client.Client, configuration: settings.Settings) -> None:
        self._dynamodb = dynamodb
        self._settings = configuration
        self._shard = random.randrange(configuration.stats_shards)
        self._open_until = 0.0

    def record(self, decisions: Sequence[Decision], deadline: float) -> list[Outcome]:
        """Store decisions and count them, each exactly once. No call is started that could end after the deadline.

        Decisions with lookups are made here, by what is read, in order: each sees those before it. Decisions with equal
        keys are one decision, the first. If DynamoDB is unavailable, none of those after the first failure is written.

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
                # A decision with lookups is still to be made, so it has no item yet.
                writes[one] = _Write(decision, one, {} if decision.lookups else self._item(decision, one))
        results: _Results = {}
        unavailable: StoreUnavailable | None = None
        for chunk in _chunks([*writes.values()]):
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
        if time.monotonic() < self._open_until:
            return telemetry.log_unavailable("store", "CircuitOpen", chunk[0].decision.decision_id)
        try:
            self._write(chunk, results, deadline)
        except StoreUnavailable as error:
            return error
        return None

    def _write(self, group: list[_Write], results: _Results, deadline: float) -> None:
        """Write a group in one transaction, or in several if it is cancelled; add the result of each key.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not confirm. Keys without a result may have been written.
        """
        looks_up = any(write.decision.observations or write.decision.lookups for write in group)
        budget = PROFILE_RETRY_SECONDS if looks_up else RETRY_BUDGET_SECONDS
        obstacle = "NoTimeLeft"
        conflicts = 0
        found: Known | None = None
        for backoff in _backoffs(deadline, budget):
            writes: list[_Write] = group
            profiles: _Profiles = {}
            if looks_up:
                found = found or self._read(group, deadline)
                writes, profiles = self._decide(group, found)
            failure = self._attempt(writes, profiles, results, deadline)
            if failure is None:
                return
            new = [write for write in group if write.key not in results]
            if len(new) < len(group):
                if new:
                    self._write(new, results, deadline)
                return
            changed = _changed(failure, len(writes), profiles)
            codes = {failure.reason, *(code for code, _ in _cancellation_reasons(failure))}
            retryable = RETRYABLE_CODES & codes
            if not (retryable or changed):
                self._isolate(group, failure, codes, results, deadline)
                return
            obstacle = "ProfileChanged" if changed else min(retryable)
            conflicts += 1
            if found and changed and conflicts == 1:
                # DynamoDB has returned the new profiles.
                found = self._updated(found, changed)
                continue
            self._change_shards()
            time.sleep(backoff)
            found = None
            if conflicts == MAX_CONFLICTS and len(group) > 1:
                break
        if not conflicts or len(group) == 1:
            raise telemetry.log_unavailable("store", obstacle, group[0].decision.decision_id)
        self._write_halves(group, results, deadline)

    def _read(self, group: list[_Write], deadline: float) -> "Known":
        """Read the profiles and list entries of a group; raise StoreUnavailable if that fails."""
        # Imported here, since decisions without lookups do not pay for it.
        from scoring.ledger.known import read  # noqa: PLC0415

        decision_id = group[0].decision.decision_id
        try:
            return read(
                lambda parameters: self._call("BatchGetItem", parameters, deadline, decision_id),
                self._settings,
                [write.decision for write in group],
            )
        except CallFailed as failure:
            raise telemetry.log_unavailable("store", failure.reason, decision_id) from failure
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, decision_id) from error

    def _updated(self, found: "Known", changed: "dict[Key, Any]") -> "Known | None":
        """Return what was found with the profiles that DynamoDB has returned; None to read all of them again."""
        from scoring.ledger.known import updated  # noqa: PLC0415  as above

        try:
            return updated(found, changed)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def _decide(self, group: list[_Write], found: "Known") -> tuple[list[_Write], _Profiles]:
        """Decide by what was found; a damaged profile stays as it is, and decisions are made without it."""
        working = found.copy()
        writes = []
        for pending, decision_key, item in group:
            if pending.lookups:
                decision = pending.lookups.decide(working)
                writes.append(_Write(decision, decision_key, self._item(decision, decision_key)))
            else:
                decision = _observed(pending, working)
                writes.append(_Write(decision, decision_key, item))
            if pending.observations and not decision.observations:
                telemetry.log_unavailable("profile", "InvalidProfile", decision.decision_id)
        observed = [one.key for write in writes for one in write.decision.observations]
        return writes, {one: (working.profiles[one], found.revisions.get(one)) for one in observed}

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

    def _attempt(
        self, group: list[_Write], profiles: _Profiles, results: _Results, deadline: float
    ) -> CallFailed | None:
        """Write a group in one transaction; add the results of new and, if it is cancelled, of existing decisions.

        Returns the failure if the transaction was not applied.
        """
        decision_id = group[0].decision.decision_id
        try:
            confirmation = self._call("TransactWriteItems", self._transaction(group, profiles), deadline, decision_id)
        except CallFailed as failure:
            # The reasons are in the order of the actions: decisions come first.
            for write, (code, item) in zip(group, _cancellation_reasons(failure), strict=False):
                if code == "ConditionalCheckFailed" and item:
                    results[write.key] = _stored(write.decision, item)
            return failure
        # DynamoDB confirms with an empty object, since the request asks for no return values.
        if confirmation != {}:
            raise telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, decision_id)
        for write in group:
            results[write.key] = write.decision.response, write.decision.request_hash
        return None

    def _call(self, operation: str, parameters: dict[str, Any], deadline: float, decision_id: str) -> dict[str, Any]:
        """Call DynamoDB; open the circuit if the call fails slowly.

        Raises
        ------
        CallFailed
            The call failed.
        StoreUnavailable
            It could end after the deadline.
        """
        start = time.monotonic()
        if not deadlines.allows(deadline, client.CALL_SECONDS):
            raise telemetry.log_unavailable("store", "NoTimeLeft", decision_id)
        try:
            return self._dynamodb.call(operation, parameters)
        except CallFailed as failure:
            # A cancelled transaction is a decision of DynamoDB, not a failure to respond.
            if time.monotonic() - start > SLOW_FAILURE_SECONDS and not _cancellation_reasons(failure):
                self._open_until = time.monotonic() + COOLDOWN_SECONDS
            raise

    def _write_halves(self, group: list[_Write], results: _Results, deadline: float) -> None:
        """Write a group in two transactions, to isolate what conflicts or is refused."""
        middle = len(group) // 2
        self._write(group[:middle], results, deadline)
        self._write(group[middle:], results, deadline)

    def _change_shards(self) -> None:
        """Move to another shard, since another environment may be writing to this one."""
        shards = self._settings.stats_shards
        self._shard = (self._shard + random.randrange(1, max(shards, 2))) % shards

    def _item(self, decision: Decision, decision_key: tuple[str, str]) -> dict[str, dict[str, str]]:
        partition, decision_id = decision_key
        response = decision.response
        return {
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

    def _transaction(self, group: list[_Write], profiles: _Profiles) -> dict[str, Any]:
        actions = [
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
        # Lets DynamoDB recognize a second attempt at a transaction that it has applied.
        token = os.urandom(16).hex()
        if profiles:
            from scoring.ledger.known import put  # noqa: PLC0415  as above

            revision = token[:_REVISION_LENGTH]
            actions += [put(self._settings, one, *versions, revision) for one, versions in profiles.items()]
        return {
            "ClientRequestToken": token,
            "TransactItems": [*actions, self._count(group)],
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
    made = decision.lookups.made if decision.lookups else ()
    is_own = response is decision.response or response == decision.response or response in made
    return Recorded(response, replayed=not is_own)


def _observed(decision: Decision, known: "Known") -> Decision:
    """Add a decision that is not made again to its profiles; return it without observations if one is damaged."""
    try:
        known.observe(decision.observations)
    except InvalidProfile:
        return decision._replace(observations=())
    return decision


def _chunks(writes: list[_Write]) -> Iterable[list[_Write]]:
    """Return writes in order, in chunks that DynamoDB accepts in one transaction and looks up in one call."""
    return [writes] if len(writes) == 1 else _split(writes)


def _split(writes: Iterable[_Write]) -> Iterator[list[_Write]]:
    chunk: list[_Write] = []
    profiles: set[Key] = set()
    entries: set[Entry] = set()
    size = 0
    for write in writes:
        decision, write_size = write.decision, _size(write)
        own_profiles = {one.key for one in decision.observations}
        own_entries: AbstractSet[Entry] = decision.lookups.entries if decision.lookups else set()
        if chunk and (
            len(chunk) + len(profiles | own_profiles) >= MAX_DECISIONS
            or len(profiles | own_profiles) + len(entries | own_entries) > MAX_LOOKUPS
            or size + write_size > MAX_BYTES
        ):
            yield chunk
            chunk, profiles, entries, size = [], set(), set(), 0
        chunk.append(write)
        profiles |= own_profiles
        entries |= own_entries
        size += write_size
    if chunk:
        yield chunk


def _backoffs(deadline: float, budget: float) -> Iterator[float]:
    """Yield the back-off in seconds after each attempt, while the retry budget and the deadline allow another one.

    Back-offs double and are random, so that competing writers spread out.
    """
    end = time.monotonic() + budget
    longest = FIRST_BACKOFF_SECONDS
    while time.monotonic() < end and deadlines.allows(deadline, client.CALL_SECONDS):
        yield random.uniform(0, longest)
        longest = min(2 * longest, MAX_BACKOFF_SECONDS)


def _changed(failure: CallFailed, decisions: int, profiles: _Profiles) -> "dict[Key, Any]":
    """Return the items of the profiles that have changed since they were read, each None if it was deleted.

    In a transaction, the profiles come after the decisions.
    """
    reasons = _cancellation_reasons(failure)[decisions:]
    return {one: item for one, (code, item) in zip(profiles, reasons, strict=False) if code == "ConditionalCheckFailed"}


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
        return response, request_hash
    return telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE, decision.decision_id)


def _size(write: _Write) -> int:
    """Return the size of an item in the request, rounded up, which is at least its size in the table."""
    decision = write.decision
    if write.item:
        texts = len(strict_json.encode([write.item["transaction"]["S"], write.item["answer"]["S"]]))
    else:
        # Encoded again, a text is at most twice as long.
        texts = 2 * len(strict_json.encode(decision.transaction)) + _MAX_RESPONSE_TEXT_BYTES
    return texts + _MAX_OTHER_BYTES + _MAX_PROFILE_BYTES * len(decision.observations)
