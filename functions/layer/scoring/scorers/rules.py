"""Rule sets: evaluate rules on the fields of a transaction.

A rule hits if all its conditions hold. No comparison with a missing field holds, not even ``!=``. A field with a
default is never missing: its default is compared.

The score is the sum of the points of all hits, but at least 0. The score gives the risk level: the highest one whose
threshold it reaches, else LOW. Ceilings ("at most") of rules that hit then lower the level, and floors ("at least")
raise it. Floors are applied last, so they win.

:mod:`scoring.scorers.rules_loader` builds a rule set from ``rules.json``.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring.assessment import RISK_LEVELS, Assessment, Reason
from scoring.fields import Field, Fields
from scoring.history import History
from scoring.strict_json import SHOWN_LENGTH
from scoring.transaction import Transaction

if TYPE_CHECKING:
    from scoring.list_check import ListCheck

# A decision must fit into a DynamoDB item and an SQS message.
MAX_QUOTED_VALUES = 100

Facts = Mapping[str, Any]
Test = Callable[[Facts], bool]


class Condition(NamedTuple):
    """A comparison such as ``amount > 3000``, or a group of conditions.

    Attributes
    ----------
    holds
        Evaluates the condition on :attr:`Transaction.facts <scoring.transaction.Transaction.facts>`.
    fields
        Names of the fields that a comparison reads; empty for a group.
    group
        "all", "any" or "not"; empty for a comparison.
    parts
        Conditions of a group.
    """

    holds: Test
    fields: tuple[str, ...] = ()
    group: str = ""
    parts: "tuple[Condition, ...]" = ()


class Rule(NamedTuple):
    """A rule.

    Attributes
    ----------
    label
        Name of the rule in responses and counters.
    points
        Added to the score by a hit.
    conditions
        Must all hold.
    tests
        ``holds`` of each condition.
    lists
        Lists that the conditions search.
    level
        Limit of the risk level if the rule hits, such as "at least CRITICAL"; may be empty.
    floor, ceiling
        The same limit as indexes of :data:`~scoring.assessment.RISK_LEVELS`.
    """

    label: str
    points: int
    conditions: tuple[Condition, ...]
    tests: tuple[Test, ...]
    lists: "tuple[ListCheck, ...]" = ()
    level: str = ""
    floor: int = 0
    ceiling: int = len(RISK_LEVELS) - 1


class RuleSet(NamedTuple):
    """A valid rule set. It is a :class:`~scoring.scorer.Scorer`.

    Attributes
    ----------
    version
        Stored and returned with every decision.
    fields
        Fields of a transaction.
    rules
        The enabled rules, in the order in which hits are reported.
    levels
        ``(risk level, minimum score)``, highest level first, without LOW.
    histories
        Histories that decisions contain.
    lists
        Lists that the enabled rules search, each once for each field.
    list_fields
        By the name of a list, the fields whose values all rules, disabled ones included, search it for. Either all
        fields of a list ignore case or none does.
    """

    version: str
    fields: Fields
    rules: tuple[Rule, ...]
    levels: tuple[tuple[str, int], ...]
    histories: tuple[History, ...] = ()
    lists: "tuple[ListCheck, ...]" = ()
    list_fields: Mapping[str, tuple[Field, ...]] = MappingProxyType({})

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all enabled rules."""
        return tuple(rule.label for rule in self.rules)

    def for_batch(self) -> "RuleSet":
        """Return the rule set itself, which is fast enough for all that it says."""
        return self

    def assess(self, transaction: Transaction, at_least: int = 0) -> Assessment:
        """Evaluate every rule on a transaction.

        Parameters
        ----------
        transaction
            A valid transaction.
        at_least
            Index of a level in RISK_LEVELS: the points give at least this one. Floors and ceilings of rules apply to
            it as well.
        """
        facts = transaction.facts
        hits = []
        for rule in self.rules:
            for test in rule.tests:
                if not test(facts):
                    break
            else:
                hits.append(rule)
        if not hits:
            return Assessment(0, RISK_LEVELS[at_least])
        score = max(0, sum([rule.points for rule in hits]))
        level = self._level_of(score)
        if level < at_least:  # noqa: PLR1730  max() takes ten times as long
            level = at_least
        reasons = self._reasons(hits, transaction)
        limits = [(rule, reason) for rule, reason in zip(hits, reasons, strict=True) if rule.level]
        if limits:
            level = _limited(level, limits)
        return Assessment(score, RISK_LEVELS[level], tuple([rule.label for rule in hits]), reasons)

    def ceiling(self, labels: Container[str]) -> int:
        """Return the lowest ceiling of the rules with these labels, as an index of RISK_LEVELS."""
        return min([rule.ceiling for rule in self.rules if rule.label in labels], default=len(RISK_LEVELS) - 1)

    def _level_of(self, score: int) -> int:
        """Return the level for a score, as an index of RISK_LEVELS."""
        level = len(self.levels)
        for _, minimum in self.levels:
            if score >= minimum:
                break
            level -= 1
        return level

    def _reasons(self, hits: list[Rule], transaction: Transaction) -> tuple[Reason, ...]:
        values = {**self.fields.defaults, **transaction.derived, **transaction.values}
        quotable = MAX_QUOTED_VALUES
        reasons: list[Reason] = []
        for rule in hits:
            because: dict[str, Any] = {}
            if quotable:
                names: list[str] = []
                _add_deciding_fields(names, rule.conditions, transaction.facts, holds=True)
                for name in names:
                    value = values.get(name)
                    if isinstance(value, str) and len(value) > SHOWN_LENGTH:
                        value = value[: SHOWN_LENGTH - 1] + "…"
                    because[name] = value
                if len(because) > quotable:
                    because = dict(list(because.items())[:quotable])
                quotable -= len(because)
            reasons.append({"rule": rule.label, "points": rule.points, "because": because})
        return tuple(reasons)


def _limited(level: int, limits: list[tuple[Rule, Reason]]) -> int:
    """Apply the floors and ceilings of hits, and mark the reasons of those that determined the level."""
    lowered = min(level, *[rule.ceiling for rule, _ in limits])
    raised = max(lowered, *[rule.floor for rule, _ in limits])
    for rule, reason in limits:
        if lowered < raised == rule.floor or rule.ceiling == raised == lowered < level:
            reason["level"] = rule.level
    return raised


def _add_deciding_fields(names: list[str], conditions: Iterable[Condition], facts: Facts, *, holds: bool) -> None:
    """Add the names of the fields that made the conditions hold, or fail."""
    for _, fields, group, parts in conditions:
        if fields:
            names += fields
        elif group == "not":
            _add_deciding_fields(names, parts, facts, holds=not holds)
        elif (group == "all") == holds:
            # Every part decides: all of them hold in an "all" that holds, and fail in an "any" that fails.
            _add_deciding_fields(names, parts, facts, holds=holds)
        else:
            _add_deciding_fields(names, [part for part in parts if part.holds(facts) == holds], facts, holds=holds)
