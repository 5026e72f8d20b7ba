"""What a decision depends on besides the transaction: profiles and list entries in the store.

The ledger reads them just before it writes a decision, and decides by them. If a profile changes before the write, it
decides again. So a decision about a customer sees exactly the transactions that were recorded before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring import decision
from scoring.decision import Decision, StoredResponse
from scoring.errors import InvalidProfile
from scoring.history import History, profiles
from scoring.history.profiles import Features, Key, Observation
from scoring.list_check import ListCheck
from scoring.transaction import Transaction

if TYPE_CHECKING:
    from scoring.scorer import Scorer

# Execution environments have clocks of their own. Within this time, a decision is not made before an earlier one.
MAX_CLOCK_SKEW_SECONDS = 2
# A longer value is on no list.
MAX_ENTRY_LENGTH = 256


class Entry(NamedTuple):
    """Key of a list entry: the name of the list and the value."""

    name: str
    value: str


class Known(NamedTuple):
    """What was read from the store.

    Attributes
    ----------
    profiles
        The profiles that exist. A decision replaces them by profiles that include its transaction.
    listed
        The list entries that exist and have not expired.
    """

    profiles: dict[Key, bytes]
    listed: frozenset[Entry]

    def observe(self, observations: Sequence[Observation]) -> list[Features]:
        """Add a transaction to its profiles, and return its histories.

        Raises
        ------
        InvalidProfile
            A profile is damaged. None has changed.
        """
        updates = [profiles.update(self.profiles.get(one.key), one) for one in observations]
        self.profiles.update({one.key: profile for one, (_, profile) in zip(observations, updates, strict=True)})
        return [features for features, _ in updates]


class Lookups:
    """The profiles and list entries that one decision depends on.

    Attributes
    ----------
    entries
        Keys of the list entries. The keys of the profiles are those of the decision's ``observations``.
    provisional
        The decision made without what they contain.
    made
        The responses of all decisions that were made, since any of them may have been written.
    """

    def __init__(self, made: Decision, transaction: Transaction, scorer: "Scorer", now: datetime) -> None:
        facts = transaction.facts
        self._transaction = transaction
        self._scorer = scorer
        self._histories = [one for one in scorer.histories if one.by in transaction.values]
        self._checks = [(check, _entry(check, facts)) for check in scorer.lists if check.field in facts]
        self.entries = frozenset([entry for _, entry in self._checks if entry])
        time = facts["timestamp"] if "timestamp" in transaction.values else now
        observations = observed(self._histories, transaction, time)
        degraded = ["history"] * bool(observations) + ["lists"] * bool(self.entries)
        if degraded:
            made.response["degraded"] = degraded
        self.provisional = made._replace(observations=observations, lookups=self)
        self.made: list[StoredResponse] = []
        self._last: Decision | None = None

    def decide(self, known: Known) -> Decision:
        """Decide by what is known, and add the transaction to the known profiles.

        If a profile is damaged, the decision is made without history, and no profile changes.
        """
        first = self.provisional
        now, observations = datetime.now(UTC), first.observations
        histories: dict[str, Features] = {}
        try:
            if observations and "timestamp" not in self._transaction.values:
                now = _not_before_others(now, known, observations)
                observations = tuple([one._replace(time=_seconds(now)) for one in observations])
            found = known.observe(observations)
            histories = {history.name: features for history, features in zip(self._histories, found, strict=True)}
        except InvalidProfile:
            observations = ()
        listed = {check.fact: entry in known.listed for check, entry in self._checks}
        transaction = enriched(self._transaction, histories, listed)
        made = decision.assessed(transaction, first.decision_id, first.request_hash, self._scorer, now)
        if histories:
            made.response["history"] = histories
        elif self._histories:
            made.response["degraded"] = ["history"]
        self.made.append(made.response)
        self._last = made._replace(observations=observations, lookups=self)
        return self._last

    def fallback(self) -> Decision:
        """Return the decision to make if the ledger does not confirm one: by what was last known, and marked."""
        if self._last is None:
            return self.provisional
        if not self._histories:
            return self._last
        response: StoredResponse = {**self._last.response, "degraded": ["history"]}
        self.made.append(response)
        return self._last._replace(response=response)


def provisional(made: Decision, transaction: Transaction, scorer: "Scorer", now: datetime) -> Decision:
    """Return a decision that was made without history and lists as one that is made again by them.

    Parameters
    ----------
    made
        The decision.
    transaction
        Its transaction.
    scorer
        Decides again.
    now
        Time of the decision, and of the transaction if it has no ``timestamp``.
    """
    lookups = Lookups(made, transaction, scorer, now)
    if lookups.provisional.observations or lookups.entries:
        return lookups.provisional
    # No list can contain the values, so nothing has to be read.
    return lookups.decide(Known({}, frozenset()))._replace(lookups=None)


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
    derived: dict[str, Any] = {
        f"{name}.{feature}": value
        for name, features in histories.items()
        for feature, value in features.items()
        if value is not None
    }
    return transaction._replace(
        facts={**transaction.facts, **derived, **listed}, derived={**transaction.derived, **derived}
    )


def _entry(check: ListCheck, facts: dict[str, Any]) -> Entry | None:
    """Return the key of the entry that a check looks for; None if no list can contain it."""
    value = facts[check.field]
    return Entry(check.name, value) if 1 <= len(value) <= MAX_ENTRY_LENGTH else None


def _seconds(time: datetime) -> int:
    # A float cannot hold the microseconds of year 9999.
    return int(time.replace(microsecond=0).timestamp())


def _not_before_others(now: datetime, known: Known, observations: Sequence[Observation]) -> datetime:
    """Return the time of a decision: now, or the slightly later time of a decision that was recorded before."""
    times = [profiles.latest(known.profiles.get(one.key)) for one in observations]
    latest = max([time for time in times if time is not None], default=0)
    if _seconds(now) < latest <= _seconds(now) + MAX_CLOCK_SKEW_SECONDS:
        return datetime.fromtimestamp(latest, UTC)
    return now
