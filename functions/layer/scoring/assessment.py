"""Assessments, and the interface of the scorers that make them."""

from typing import NamedTuple, Protocol

from scoring.transaction import Transaction

# From the lowest to the highest.
RISK_LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
HIGH_RISK_LEVELS = frozenset({"HIGH", "CRITICAL"})


class Assessment(NamedTuple):
    """The risk of one transaction and the reasons for it.

    Attributes
    ----------
    score
        At least 0.
    risk_level
        One of :data:`RISK_LEVELS`.
    triggered_rules
        Labels of the rules that hit, in the order of the rule set.
    """

    score: int
    risk_level: str
    triggered_rules: tuple[str, ...]


class Scorer(Protocol):
    """Assesses transactions. The same transaction and version always give the same assessment."""

    @property
    def version(self) -> str:
        """Version that is stored and returned with every decision."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that ``triggered_rules`` can contain, in order."""

    def assess(self, transaction: Transaction) -> Assessment:
        """Assess one transaction."""
