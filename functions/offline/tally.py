"""Count what scorers decide about transactions. Tallies of parts of a file add up to that of the file."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

from scoring.strict_json import SHOWN_LENGTH

# Risk level or "invalid", and labels of the rules that hit
Outcome: TypeAlias = tuple[str, tuple[str, ...]]

INVALID = "invalid"
MAX_ERRORS = 5
# Names of unknown fields to count; more would let a file fill the memory.
MAX_NAMES = 1_000
MAX_CHANGES = 5_000
BINS = 1_000

# Amounts are added as multiples of 2^-64, which is exact from 0.00025 on, so the order makes no difference.
_UNITS = 2**64
# Larger amounts could overflow as multiples, and are whole anyway.
_WHOLE = 1e200
_LARGEST = 2**1023


class Counts:
    """Numbers and amounts of transactions: those that are no frauds, and frauds.

    Attributes
    ----------
    numbers
        Numbers of transactions.
    units
        Sums of their amounts, as multiples of 2^-64.
    """

    __slots__ = ("numbers", "units")

    def __init__(self) -> None:
        self.numbers = [0, 0]
        self.units = [0, 0]

    def add(self, other: "Counts") -> None:
        """Add other counts."""
        for is_fraud in (False, True):
            self.numbers[is_fraud] += other.numbers[is_fraud]
            self.units[is_fraud] += other.units[is_fraud]

    @property
    def number(self) -> int:
        """Number of all transactions."""
        return sum(self.numbers)

    def money(self, *, frauds: bool | None = None) -> float:
        """Return the sum of the amounts of the frauds, of the others, or of all transactions."""
        units = sum(self.units) if frauds is None else self.units[frauds]
        return min(units, _LARGEST * _UNITS) / _UNITS


class ScorerTally:
    """Counts of the decisions of one scorer.

    Attributes
    ----------
    levels, rules
        Counts by risk level, and by the label of a rule that hits.
    errors
        ``(line, text)`` of the first invalid transactions.
    with_unknown, unknown
        Number of transactions with fields that are not declared, and of those by the name of the field.
    without_time
        Number of transactions that have no ``timestamp``, but a field that history is kept by.
    probabilities
        For each of :data:`BINS` ranges of the probability of a model, numbers of transactions: no frauds, frauds.
    """

    def __init__(self) -> None:
        self.levels: dict[str, Counts] = {}
        self.rules: dict[str, Counts] = {}
        self.errors: list[tuple[int, str]] = []
        self.with_unknown = 0
        self.unknown: Counter[str] = Counter()
        self.without_time = 0
        self.probabilities: dict[int, list[int]] = {}

    def add_error(self, line: int, text: str) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((line, text))

    def add_unknown(self, names: Iterable[str]) -> None:
        """Count a transaction with fields that are not declared."""
        self.with_unknown += 1
        is_full = len(self.unknown) >= MAX_NAMES
        # Each name once
        shown = dict.fromkeys(name[:SHOWN_LENGTH] for name in names)
        self.unknown.update([name for name in shown if not is_full or name in self.unknown])

    def add_probability(self, probability: float, *, is_fraud: bool) -> None:
        index = min(int(probability * BINS), BINS - 1)
        self.probabilities.setdefault(index, [0, 0])[is_fraud] += 1

    def add_counts(self, outcome: Outcome, counts: Counts) -> None:
        """Count transactions with the same outcome."""
        level, rules = outcome
        self.levels.setdefault(level, Counts()).add(counts)
        for label in rules:
            self.rules.setdefault(label, Counts()).add(counts)

    def merge(self, other: "ScorerTally") -> None:
        for mine, others in ((self.levels, other.levels), (self.rules, other.rules)):
            for name, counts in others.items():
                mine.setdefault(name, Counts()).add(counts)
        self.errors = sorted(self.errors + other.errors)[:MAX_ERRORS]
        self.with_unknown += other.with_unknown
        self.unknown.update(other.unknown)
        self.without_time += other.without_time
        for index, numbers in other.probabilities.items():
            found = self.probabilities.setdefault(index, [0, 0])
            for is_fraud in (False, True):
                found[is_fraud] += numbers[is_fraud]


class Tally:
    """Counts of the decisions of one scorer, or of two and their differences; the second is a candidate.

    Attributes
    ----------
    scorers
        What each decides.
    shifts
        Number of transactions by the levels that the two give.
    with_other_rules
        Number of transactions that have the same level, and hit other rules.
    changes
        The first :data:`MAX_CHANGES` transactions that change their level, as the report has them.
    """

    def __init__(self, scorers: int) -> None:
        self.scorers = [ScorerTally() for _ in range(scorers)]
        self.shifts: Counter[tuple[str, str]] = Counter()
        self.with_other_rules = 0
        self.changes: list[dict[str, Any]] = []
        self._groups: dict[tuple[bool, tuple[Outcome, ...]], list[int]] = {}

    @property
    def total(self) -> int:
        """Number of transactions."""
        return sum(counts.number for counts in self.scorers[0].levels.values())

    def add(self, outcomes: tuple[Outcome, ...], amount: float, *, is_fraud: bool) -> None:
        """Count a transaction; :meth:`fold` must follow."""
        units = int(amount * _UNITS) if amount < _WHOLE else int(amount) * _UNITS
        group = self._groups.get((is_fraud, outcomes))
        if group is None:
            self._groups[is_fraud, outcomes] = [1, units]
        else:
            group[0] += 1
            group[1] += units

    def fold(self) -> None:
        """Add up the transactions that were counted since the last time. Most have one of a few outcomes."""
        for (is_fraud, outcomes), (number, units) in self._groups.items():
            counts = Counts()
            counts.numbers[is_fraud] = number
            counts.units[is_fraud] = units
            for scorer, outcome in zip(self.scorers, outcomes, strict=True):
                scorer.add_counts(outcome, counts)
            if len(outcomes) > 1:
                (present, present_rules), (candidate, candidate_rules) = outcomes
                self.shifts[present, candidate] += number
                if present == candidate and present_rules != candidate_rules:
                    self.with_other_rules += number
        self._groups.clear()

    def merge(self, other: "Tally") -> None:
        """Add the tally of other transactions of the same file."""
        for mine, others in zip(self.scorers, other.scorers, strict=True):
            mine.merge(others)
        self.shifts.update(other.shifts)
        self.with_other_rules += other.with_other_rules
        self.changes = sorted(self.changes + other.changes, key=lambda change: change["line"])[:MAX_CHANGES]
