"""The rule set: data in ``rules.json``, checked when it is loaded, evaluated without side effects.

A rule hits where all its conditions hold; a condition on a field that the transaction does not have, and for which the
rule set has no default, does not hold. The score is the sum of the points of the rules that hit, and the risk level the
highest one whose threshold the score reaches, else LOW.
"""

import operator
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scoring.errors import InvalidRequest, RuleSetError
from scoring.transaction import Transaction, is_finite, parse_json, validate

RISK_LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
HIGH_RISK_LEVELS = frozenset({"HIGH", "CRITICAL"})

# Every rule that hits adds a clause to one DynamoDB update expression, which may have 4 KB.
MAX_RULES = 100
MAX_LABEL_LENGTH = 200

_NUMBER_FIELDS = frozenset({"amount", "hour"})
_TEXT_FIELDS = frozenset({"category", "store"})
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **_ORDERINGS,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda value, values: value in values,
}


class Condition(NamedTuple):
    """``field operator value``, such as ``amount > 3000``."""

    field: str
    holds: Callable[[Any, Any], bool]
    value: Any


class Rule(NamedTuple):
    """A label for people, the points it adds, and the conditions that must all hold."""

    label: str
    points: int
    conditions: tuple[Condition, ...]


class Assessment(NamedTuple):
    """What a rule set says of one transaction.

    Attributes
    ----------
    score
        Sum of the points of the rules that hit, at least 0.
    risk_level
        One of :data:`RISK_LEVELS`.
    triggered_rules
        Labels of the rules that hit, in the order of the rule set.
    """

    score: int
    risk_level: str
    triggered_rules: tuple[str, ...]


class RuleSet(NamedTuple):
    """A checked rule set; build one with :func:`load`.

    Attributes
    ----------
    version
        Returned with every decision.
    rules
        In the order in which hits are reported.
    levels
        ``(risk level, least score)``, the highest level first, without LOW.
    defaults
        Values for fields that a transaction does not have.
    """

    version: str
    rules: tuple[Rule, ...]
    levels: tuple[tuple[str, int], ...]
    defaults: Mapping[str, Any]

    def assess(self, transaction: Transaction) -> Assessment:
        """Score one transaction."""
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
        level = next((name for name, least in self.levels if score >= least), "LOW")
        return Assessment(score, level, tuple(hits))


def load(document: Any) -> RuleSet:
    """Check a rule set document and make it ready to use.

    Parameters
    ----------
    document
        What ``rules.json`` holds, decoded: ``version``, ``rules`` (``label``, ``points``, ``when``), ``levels`` and,
        where wanted, ``defaults``.

    Raises
    ------
    RuleSetError
        Names the rule (or the part of the document) and what is wrong with it.
    """
    _check_names("The rule set", document, required={"version", "rules", "levels"}, optional={"defaults"})
    version = document["version"]
    if not isinstance(version, str) or not 1 <= len(version) <= 64:
        raise RuleSetError("The rule set's 'version' must be a string of 1 to 64 characters")
    rules = document["rules"]
    if not isinstance(rules, list) or not 1 <= len(rules) <= MAX_RULES:
        raise RuleSetError(f"The rule set's 'rules' must be a list of 1 to {MAX_RULES} rules")
    parsed = tuple(_rule(position, rule) for position, rule in enumerate(rules, start=1))
    labels = [rule.label for rule in parsed]
    for label in labels:
        if labels.count(label) > 1:
            raise RuleSetError(f"Rule {label!r} appears more than once")
    return RuleSet(version, parsed, _levels(document["levels"]), _defaults(document.get("defaults", {})))


def score_transaction(tx: dict[str, Any]) -> dict[str, Any]:
    """Score a transaction given as a dict; the front door for Python callers.

    Parameters
    ----------
    tx
        ``amount`` (required), ``category``, ``hour``, ``store``, ``tx_id``; unknown fields are ignored.

    Returns
    -------
    dict
        ``score`` (int), ``risk_level`` (LOW, MEDIUM, HIGH or CRITICAL) and ``triggered_rules`` (list of labels).

    Raises
    ------
    InvalidRequest
        A field is missing or wrong; the text names it.

    Example
    -------
    >>> score_transaction({"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 10})
    {'score': 5, 'risk_level': 'CRITICAL', 'triggered_rules': ['R1: amount > 3000', 'R2: electronics > 1500']}
    """
    assessment = RULE_SET.assess(validate(tx))
    return {
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
    }


def _rule(position: int, rule: Any) -> Rule:
    label = rule.get("label") if isinstance(rule, dict) else None
    if (
        not isinstance(label, str)
        or not 1 <= len(label) <= MAX_LABEL_LENGTH
        or not label.isprintable()
        or not label.strip()
    ):
        raise RuleSetError(
            f"Rule number {position} must have a 'label' of 1 to {MAX_LABEL_LENGTH} printable characters, not all blank"
        )
    name = f"Rule {label!r}"
    _check_names(name, rule, required={"label", "points", "when"})
    points = rule["points"]
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise RuleSetError(f"{name}: 'points' must be an integer of at least 1")
    when = rule["when"]
    if not isinstance(when, list) or not when:
        raise RuleSetError(f"{name}: 'when' must be a list of at least one condition")
    return Rule(label, points, tuple(_condition(name, condition) for condition in when))


def _condition(name: str, condition: Any) -> Condition:
    _check_names(f"{name}: a condition", condition, required={"field", "operator", "value"})
    field, sign, value = condition["field"], condition["operator"], condition["value"]
    if not isinstance(field, str) or field not in _NUMBER_FIELDS | _TEXT_FIELDS:
        known = ", ".join(sorted(_NUMBER_FIELDS | _TEXT_FIELDS))
        raise RuleSetError(f"{name}: unknown field {field!r}; known are {known}")
    if not isinstance(sign, str) or sign not in _OPERATORS:
        raise RuleSetError(f"{name}: unknown operator {sign!r}; known are {' '.join(_OPERATORS)}")
    if sign in _ORDERINGS and field in _TEXT_FIELDS:
        raise RuleSetError(f"{name}: operator {sign!r} does not apply to {field!r}, which is a string")
    if sign == "in":
        if not isinstance(value, list) or not value:
            raise RuleSetError(f"{name}: the value of operator 'in' must be a list of at least one value")
        for one in value:
            _check_value(name, field, one)
        return Condition(field, _OPERATORS[sign], tuple(value))
    _check_value(name, field, value)
    return Condition(field, _OPERATORS[sign], value)


def _check_value(name: str, field: str, value: Any) -> None:
    if field in _TEXT_FIELDS:
        if not isinstance(value, str):
            raise RuleSetError(f"{name}: the value for {field!r} must be a string, not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
        raise RuleSetError(f"{name}: the value for {field!r} must be a number, not {value!r}")


def _levels(levels: Any) -> tuple[tuple[str, int], ...]:
    named = tuple(level for level in reversed(RISK_LEVELS) if level != "LOW")
    _check_names("The rule set's 'levels'", levels, required=set(named))
    thresholds = [levels[level] for level in named]
    for least in thresholds:
        if isinstance(least, bool) or not isinstance(least, int):
            raise RuleSetError(f"The rule set's 'levels' must be integers, not {least!r}")
    if not thresholds[0] > thresholds[1] > thresholds[2] > 0:
        raise RuleSetError("The rule set's 'levels' must fall from CRITICAL to MEDIUM and stay above 0")
    return tuple(zip(named, thresholds, strict=True))


def _defaults(defaults: Any) -> Mapping[str, Any]:
    _check_names("The rule set's 'defaults'", defaults, required=set(), optional={"hour", "category", "store"})
    try:
        validate({"amount": 0, **defaults})
    except InvalidRequest as error:
        raise RuleSetError(f"The rule set's 'defaults': {error}") from None
    return dict(defaults)


def _check_names(what: str, value: Any, required: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
    if not isinstance(value, dict):
        raise RuleSetError(f"{what} must be an object")
    for missing in sorted(required - value.keys()):
        raise RuleSetError(f"{what} lacks {missing!r}")
    for unknown in sorted(value.keys() - required - optional):
        raise RuleSetError(f"{what} has an unknown name {unknown!r}")


def _read(path: str) -> RuleSet:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  pathlib would add a tenth to the start of the function
            document = parse_json(file.read())
    except (InvalidRequest, UnicodeDecodeError) as error:
        raise RuleSetError(f"{os.path.basename(path)}: {error}") from None  # noqa: PTH119
    return load(document)


RULE_SET = _read(os.path.join(os.path.dirname(__file__), "rules.json"))  # noqa: PTH118, PTH120
