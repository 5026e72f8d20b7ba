"""Profiles and list entries, which a decision depends on besides the transaction.

The ledger reads them just before it writes a decision, and decides by them. If a profile changes before the write, it
decides again. So a decision about a customer sees exactly the transactions that were recorded before it.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring.decision import Decision, StoredResponse, assess
from scoring.errors import InvalidProfile
from scoring.history import FEATURES, History, profiles
from scoring.history.profiles import Features, Key, Observation
from scoring.list_check import ListCheck
from scoring.transaction import UNKNOWN_TX_ID, Transaction

if TYPE_CHECKING:
    from scoring.scorer import Scorer

# Execution environments have clocks of their own. Within this time, a decision is not made before an earlier one.
MAX_CLOCK_SKEW_SECONDS = 2
# A longer value is on no list.
MAX_ENTRY_LENGTH = 256

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """Key of a list entry: the name of the list and the value."""

    name: str
    value: str


class Known(NamedTuple):
    """Profiles and list entries that were read from the store.

    Attributes
    ----------
    profiles
        The profiles that exist. A decision replaces them by profiles that include its transaction.
    listed
        The list entries that exist and have not expired.
    revisions
        The revisions of the profiles. A profile gets a new one each time it is written.
    """

    profiles: dict[Key, bytes]
    listed: frozenset[Entry]
    revisions: Mapping[Key, str] = {}

    def copy(self) -> "Known":
        """Return the same with profiles that can be replaced independently."""
        return Known(self.profiles.copy(), self.listed, self.revisions)

    def observe(self, observations: Sequence[Observation]) -> list[Features]:
        """Add a transaction to its profiles, and return its histories.

        Raises
        ------
        InvalidProfile
            A profile is damaged. None has changed.
        """
        found = []
        updated = {}
        for one in observations:
            features, updated[one.key] = profiles.update(self.profiles.get(one.key), one)
            found.append(features)
        self.profiles.update(updated)
        return found


class Lookups:
    """The profiles and list entries that one decision depends on.

    Attributes
    ----------
    entries
        Keys of the list entries. The keys of the profiles are those of ``observations``.
    observations
        What the profiles record of the transaction; without ``timestamp``, at the time at which it was read.
    made
        The responses of all decisions that were made, since any of them may have been written.
    """

    def __init__(
        self, transaction: Transaction, decision_id: str, request_hash: str, scorer: "Scorer", now: datetime
    ) -> None:
        facts = transaction.facts
        self._transaction = transaction
        self._decision_id = decision_id
        self._request_hash = request_hash
        self._scorer = scorer
        self._now = now
        self._histories = [one for one in scorer.histories if one.by in transaction.values]
        self._checks = [(check, _entry(check, facts)) for check in scorer.lists if check.field in facts]
        self._has_time = "timestamp" in transaction.values
        self.entries = frozenset([entry for _, entry in self._checks if entry])
        self.observations = observed(self._histories, transaction, facts["timestamp"] if self._has_time else now)
        self.made: list[StoredResponse] = []
        self._last: Decision | None = None

    def decide(self, known: Known) -> Decision:
        """Decide by what is known, and add the transaction to the known profiles.

        If a profile is damaged, the decision is made without history, and no profile changes.
        """
        now, observations = datetime.now(UTC), self.observations
        histories: dict[str, Features] = {}
        try:
            if observations and not self._has_time:
                now, time = _not_before_others(now, known, observations)
                if time != observations[0].time:
                    observations = tuple([one._replace(time=time) for one in observations])
            found = known.observe(observations)
            histories = {history.name: features for history, features in zip(self._histories, found, strict=True)}
        except InvalidProfile:
            observations = ()
        listed = {check.fact: entry in known.listed for check, entry in self._checks}
        made = self._assessed(enriched(self._transaction, histories, listed), now, observations)
        if histories:
            made.response["history"] = histories
        elif self._histories:
            made.response["degraded"] = ["history"]
        self._last = made
        return made

    def fallback(self) -> Decision:
        """Return the last decision, marked if it depends on history; if there is none, one made without lookups."""
        last = self._last
        if last is None:
            self._last = last = self._assessed(self._transaction, self._now, self.observations)
            degraded = ["history"] * bool(self.observations) + ["lists"] * bool(self.entries)
            last.response["degraded"] = degraded
        elif self._histories and "degraded" not in last.response:
            self._last = last = last._replace(response={**last.response, "degraded": ["history"]})
            self.made.append(last.response)
        return last

    def _assessed(self, transaction: Transaction, now: datetime, observations: tuple[Observation, ...]) -> Decision:
        response = assess(transaction, self._decision_id, self._scorer, now)
        self.made.append(response)
        # Without these lookups, or the two would refer to each other and be garbage for the collector.
        return Decision(transaction.values, response, self._request_hash, observations)


def pending(transaction: Transaction, decision_id: str, request_hash: str, scorer: "Scorer", now: datetime) -> Decision:
    """Return a decision that the ledger makes by history and lists.

    Parameters
    ----------
    transaction
        A valid transaction.
    decision_id, scorer
        As for :func:`scoring.decision.assess`.
    request_hash
        :func:`scoring.transaction.fingerprint` of the request.
    now
        Time at which the transaction was read.
    """
    lookups = Lookups(transaction, decision_id, request_hash, scorer, now)
    if not (lookups.observations or lookups.entries):
        # No list can contain the values, so nothing has to be read.
        return lookups.decide(Known({}, frozenset()))
    ids: Any = {"tx_id": transaction.values.get("tx_id", UNKNOWN_TX_ID), "decision_id": decision_id}
    return Decision(transaction.values, ids, request_hash, lookups.observations, lookups)


def observed(histories: Iterable[History], transaction: Transaction, time: datetime) -> tuple[Observation, ...]:
    """Return what the profiles of histories record of a transaction, which must have their fields ``by``."""
    # A default is not a value of the transaction.
    facts = {name: fact for name, fact in transaction.facts.items() if name in transaction.values}
    return tuple([profiles.observe(history, facts, _seconds(time)) for history in histories])


def enriched(transaction: Transaction, histories: Mapping[str, Features], listed: Mapping[str, bool]) -> Transaction:
    """Return a transaction with the facts about history and lists that rules compare.

    Parameters
    ----------
    transaction
        The transaction, without such facts.
    histories
        Its histories by name.
    listed
        :attr:`ListCheck.fact <scoring.list_check.ListCheck.fact>` of the lists that are known, and whether each has the
        value.
    """
    derived: dict[str, Any] = {}
    for name, features in histories.items():
        derived.update(zip(_facts(name), features.values(), strict=True))
    if None in derived.values():
        derived = {fact: value for fact, value in derived.items() if value is not None}
    values, facts, unknown, before = transaction
    return Transaction(values, {**facts, **derived, **listed}, unknown, {**before, **derived})


@functools.cache
def _facts(history: str) -> tuple[str, ...]:
    """Return the names of the facts about a history, in the order of its features."""
    return tuple([f"{history}.{feature}" for feature in FEATURES])


def _entry(check: ListCheck, facts: dict[str, Any]) -> Entry | None:
    """Return the key of the entry that a check looks for; None if no list can contain it."""
    value = facts[check.field]
    return Entry(check.name, value) if 1 <= len(value) <= MAX_ENTRY_LENGTH else None


def _seconds(time: datetime) -> int:
    """Return the whole seconds since 1970, exactly: a float cannot hold the microseconds of year 9999."""
    since = time - _EPOCH
    return since.days * profiles.DAY_SECONDS + since.seconds


def _not_before_others(now: datetime, known: Known, observations: Sequence[Observation]) -> tuple[datetime, int]:
    """Return the time of a decision, and its whole seconds since 1970.

    That is now, or the slightly later time of a decision that was recorded before.
    """
    seconds = latest = _seconds(now)
    for one in observations:
        latest = max(latest, profiles.latest(known.profiles.get(one.key)) or 0)
    if seconds < latest <= seconds + MAX_CLOCK_SKEW_SECONDS:
        return datetime.fromtimestamp(latest, UTC), latest
    return now, seconds
