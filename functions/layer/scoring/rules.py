"""The rule set: data in ``rules.json``, checked when it is loaded, evaluated without side effects.

A rule hits where all its conditions hold; a condition on a field that the transaction does not have, and for which the
rule set has no default, does not hold. The score is the sum of the points of the rules that hit, and the risk level the
highest one whose threshold the score reaches, else LOW.
"""

import operator
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring.errors import InvalidRequest, RuleSetError
from scoring.transaction import (
    Transaction,
    decoder,
    is_finite,
    is_unicode,
    parse_json,
    repeated_name,
    type_name,
    validate,
)

RISK_LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
HIGH_RISK_LEVELS = frozenset({"HIGH", "CRITICAL"})

# Every rule that hits adds a clause to one DynamoDB update expression, which may have 4 KB.
MAX_RULES = 100
MAX_LABEL_LENGTH = 200
MAX_VERSION_LENGTH = 64
MAX_POINTS = 1_000_000
MAX_SCORE = MAX_RULES * MAX_POINTS
# Limits the number of conditions and values, too.
MAX_FILE_BYTES = 1_000_000

_SHOWN_LENGTH = 64
# Marks an object in which a name is repeated; its value is that name.
_REPEATED = object()

SHIPPED = os.path.join(os.path.dirname(__file__), "rules.json")  # noqa: PTH118, PTH120  as in read

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
        ``(risk level, minimum score)``, the highest level first, without LOW.
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
    if not _is_printable(version, MAX_VERSION_LENGTH):
        raise RuleSetError(
            f"The rule set's 'version' must have 1 to {MAX_VERSION_LENGTH} printable characters, not all blank"
        )
    rules = document["rules"]
    if not isinstance(rules, list) or not 1 <= len(rules) <= MAX_RULES:
        raise RuleSetError(f"The rule set's 'rules' must be a list of 1 to {MAX_RULES} rules")
    parsed = tuple(_rule(position, rule) for position, rule in enumerate(rules, start=1))
    labels = [rule.label for rule in parsed]
    for label in labels:
        if labels.count(label) > 1:
            raise RuleSetError(f"Rule {label!r} appears more than once")
    return RuleSet(version, parsed, _levels(document["levels"]), _defaults(document.get("defaults", {})))


def read(path: str) -> RuleSet:
    """Load a rule set from a JSON file.

    Raises
    ------
    RuleSetError
        One line: the name of the file, the rule (or the part of the file) and what is wrong with it.
    """
    name = os.path.basename(path)  # noqa: PTH119  pathlib would add a tenth to the start of the function
    try:
        return load(_document(path))
    except (InvalidRequest, RuleSetError) as error:
        raise RuleSetError(f"{name}: {error}") from None
    except OSError as error:
        raise RuleSetError(f"{name}: The file cannot be read: {error.strerror}") from None


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
    from scoring.rules import RULE_SET  # noqa: PLC0415  reads rules.json at the first call

    assessment = RULE_SET.assess(validate(tx))
    return {
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
    }


def _document(path: str) -> Any:
    with open(path, "rb") as file:  # noqa: PTH123  as in read
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise RuleSetError(f"The file is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RuleSetError(f"The file is not valid UTF-8, from byte {error.start} on") from None
    if not text.strip():
        raise RuleSetError("The file is empty")
    return parse_json(text, "The file", decoder(_object))


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Decode an object; mark a repeated name, so that the check that knows the rule can refuse it."""
    fields: dict[Any, Any] = dict(pairs)
    if len(fields) != len(pairs):
        fields[_REPEATED] = repeated_name(pairs)
    return fields


def _is_printable(value: Any, length: int) -> bool:
    """Whether a value is a visible text of one line."""
    return isinstance(value, str) and len(value) <= length and value.isprintable() and bool(value.strip())


def _shown(value: Any) -> str:
    """A value for an error message: text quoted and shortened, anything else by its type."""
    return repr(value[:_SHOWN_LENGTH]) if isinstance(value, str) else type_name(value)


def _rule(position: int, rule: Any) -> Rule:
    if not isinstance(rule, dict):
        raise RuleSetError(f"Rule number {position} must be an object")
    if "label" not in rule:
        raise RuleSetError(f"Rule number {position} lacks 'label'")
    label = rule["label"]
    if not _is_printable(label, MAX_LABEL_LENGTH):
        raise RuleSetError(
            f"Rule number {position}: 'label' must have 1 to {MAX_LABEL_LENGTH} printable characters, not all blank"
        )
    name = f"Rule {label!r}"
    _check_names(name, rule, required={"label", "points", "when"})
    points = rule["points"]
    if isinstance(points, bool) or not isinstance(points, int) or not 1 <= points <= MAX_POINTS:
        raise RuleSetError(f"{name}: 'points' must be an integer from 1 to {MAX_POINTS}")
    when = rule["when"]
    if not isinstance(when, list) or not when:
        raise RuleSetError(f"{name}: 'when' must be a list of at least one condition")
    return Rule(label, points, tuple(_condition(name, condition) for condition in when))


def _condition(name: str, condition: Any) -> Condition:
    _check_names(f"{name}: a condition", condition, required={"field", "operator", "value"})
    field, sign, value = condition["field"], condition["operator"], condition["value"]
    if not isinstance(field, str) or field not in _NUMBER_FIELDS | _TEXT_FIELDS:
        known = ", ".join(sorted(_NUMBER_FIELDS | _TEXT_FIELDS))
        raise RuleSetError(f"{name}: unknown field {_shown(field)}; known are {known}")
    if not isinstance(sign, str) or sign not in _OPERATORS:
        raise RuleSetError(f"{name}: unknown operator {_shown(sign)}; known are {' '.join(_OPERATORS)}")
    if sign in _ORDERINGS and field in _TEXT_FIELDS:
        raise RuleSetError(f"{name}: operator {sign!r} does not apply to {field!r}, which is a string")
    if sign == "in":
        if not isinstance(value, list) or not value:
            raise RuleSetError(f"{name}: the value of operator 'in' must be a list of at least one value")
        for one in value:
            _check_value(name, field, one)
        return Condition(field, _OPERATORS[sign], frozenset(value))
    _check_value(name, field, value)
    return Condition(field, _OPERATORS[sign], value)


def _check_value(name: str, field: str, value: Any) -> None:
    what = f"{name}: the value for {field!r}"
    if field in _TEXT_FIELDS:
        if not isinstance(value, str):
            raise RuleSetError(f"{what} must be a string, not {_shown(value)}")
        if not is_unicode(value):
            raise RuleSetError(f"{what} must be valid Unicode text, not {_shown(value)}")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise RuleSetError(f"{what} must be a number, not {_shown(value)}")
    elif not is_finite(value):
        raise RuleSetError(f"{what} must be a finite number")


def _levels(levels: Any) -> tuple[tuple[str, int], ...]:
    named = tuple(level for level in reversed(RISK_LEVELS) if level != "LOW")
    _check_names("The rule set's 'levels'", levels, required=set(named))
    thresholds = [levels[level] for level in named]
    for least in thresholds:
        if isinstance(least, bool) or not isinstance(least, int) or not 1 <= least <= MAX_SCORE:
            raise RuleSetError(f"The rule set's 'levels' must be integers from 1 to {MAX_SCORE}")
    if not thresholds[0] > thresholds[1] > thresholds[2]:
        raise RuleSetError("The rule set's 'levels' must decrease from CRITICAL to HIGH to MEDIUM")
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
    if _REPEATED in value:
        raise RuleSetError(f"{what} has the name {_shown(value[_REPEATED])} more than once")
    for missing in sorted(required - value.keys()):
        raise RuleSetError(f"{what} lacks {missing!r}")
    for unknown in sorted(value.keys() - required - optional):
        raise RuleSetError(f"{what} has an unknown name {_shown(unknown)}")


# The shipped rule set. It is read when it is first used, so that this module can check a broken one, too.
RULE_SET: RuleSet

if not TYPE_CHECKING:  # else a type checker would accept any attribute name

    def __getattr__(name: str) -> RuleSet:
        if name != "RULE_SET":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, read(SHIPPED))
