"""Assessments: what a scorer finds out about a transaction."""

from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict

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
    details
        Further fields of the response; empty unless a model took part.
    """

    score: int
    risk_level: str
    triggered_rules: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    details: Mapping[str, Any] = {}
