"""Assessments, and the interface of the scorers that make them."""

from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

from scoring.fields import Fields
from scoring.history import History
from scoring.transaction import Transaction

# From the lowest to the highest.
RISK_LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
HIGH_RISK_LEVELS = frozenset({"HIGH", "CRITICAL"})


class Reason(TypedDict):
    """Why a rule hit.

    ``because`` quotes the fields that made it hit: the value that the caller sent, or the default, or None. ``level``
    is the rule's limit, such as "at least CRITICAL"; it is absent unless this limit determined the risk level.
    """

    rule: str
    points: int
    because: dict[str, Any]
    level: NotRequired[str]


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
    reasons
        One per rule that hit, in the same order.
    """

    score: int
    risk_level: str
    triggered_rules: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


class ListCheck(NamedTuple):
    """A list that rules search for the value of a field.

    Attributes
    ----------
    name
        Name of the list.
    field
        A field that is a string.
    """

    name: str
    field: str

    @property
    def fact(self) -> str:
        """Name of the fact that is True if the value is on the list, and False if it is not."""
        return f"{self.field} in list {self.name}"


class Scorer(Protocol):
    """Assesses transactions. The same transaction, history, list entries and version give the same assessment.

    History and lists are facts that the service adds to a transaction: ``customer.count_1h``, for example, and
    :attr:`ListCheck.fact`. A fact that is unknown is missing.
    """

    @property
    def version(self) -> str:
        """Version, stored and returned with every decision."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that ``triggered_rules`` can contain, in order."""

    @property
    def fields(self) -> Fields:
        """Fields that transactions can have."""

    @property
    def histories(self) -> tuple[History, ...]:
        """Histories that decisions depend on."""

    @property
    def lists(self) -> tuple[ListCheck, ...]:
        """Lists that decisions depend on, with the field whose value each is searched for."""

    def assess(self, transaction: Transaction) -> Assessment:
        """Assess one transaction that :attr:`fields` has read."""
