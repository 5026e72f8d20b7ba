"""Rule sets: evaluate rules on the fields of a transaction.

A rule hits if all its conditions hold. A condition on a missing field does not hold, unless the rule set has a default
for it. The score is the sum of the points of all hits. The risk level is the highest one whose threshold the score
reaches, else LOW.

:mod:`scoring.scorers.rules_loader` builds a rule set from ``rules.json``.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scoring.assessment import Assessment
from scoring.transaction import Transaction

ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **ORDERINGS,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda value, values: value in values,
}


class Condition(NamedTuple):
    """A comparison such as ``amount > 3000``."""

    field: str
    holds: Callable[[Any, Any], bool]
    value: Any


class Rule(NamedTuple):
    """A label, the points of a hit, and the conditions that must all hold."""

    label: str
    points: int
    conditions: tuple[Condition, ...]


class RuleSet(NamedTuple):
    """A valid rule set. It is a :class:`~scoring.assessment.Scorer`.

    Attributes
    ----------
    version
        Stored and returned with every decision.
    rules
        In the order in which hits are reported.
    levels
        ``(risk level, minimum score)``, highest level first, without LOW.
    defaults
        Values of fields that a transaction does not have.
    """

    version: str
    rules: tuple[Rule, ...]
    levels: tuple[tuple[str, int], ...]
    defaults: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all rules."""
        return tuple(rule.label for rule in self.rules)

    def assess(self, transaction: Transaction) -> Assessment:
        """Evaluate every rule on a transaction."""
        score = 0
        hits = []
        for rule in self.rules:
            for condition in rule.conditions:
                value = getattr(transaction, condition.field)
                if value is None:
                    value = self.defaults.get(condition.field)
                if value is None or not condition.holds(value, condition.value):
                    break
            else:
                score += rule.points
                hits.append(rule.label)
        level = next((name for name, minimum in self.levels if score >= minimum), "LOW")
        return Assessment(score, level, tuple(hits))
