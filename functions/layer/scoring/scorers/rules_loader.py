"""Load rule sets, and check every part of them before they are used."""

import os
from collections.abc import Mapping
from typing import Any

from scoring import strict_json
from scoring.assessment import RISK_LEVELS
from scoring.errors import InvalidRequest, RuleSetError
from scoring.scorers.rules import OPERATORS, ORDERINGS, Condition, Rule, RuleSet
from scoring.strict_json import is_finite, is_unicode, type_name
from scoring.transaction import validate

# Every hit adds a clause to a DynamoDB update expression, which is limited to 4 KB.
MAX_RULES = 100
MAX_LABEL_LENGTH = 200
MAX_VERSION_LENGTH = 64
MAX_POINTS = 1_000_000
MAX_SCORE = MAX_RULES * MAX_POINTS
# Also limits the number of conditions and values.
MAX_FILE_BYTES = 1_000_000

_SHOWN_LENGTH = 64
# Key under which a decoded object stores the name that it repeats.
_REPEATED = object()

_NUMBER_FIELDS = frozenset({"amount", "hour"})
_TEXT_FIELDS = frozenset({"category", "store"})


def from_document(document: Any) -> RuleSet:
    """Build a rule set.

    Parameters
    ----------
    document
        Decoded content of a rule set file: ``version``, ``rules`` (``label``, ``points``, ``when``), ``levels`` and,
        optionally, ``defaults``.

    Raises
    ------
    RuleSetError
        The document is invalid; the text names the rule (or another part of the document) and the problem.
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


def from_file(path: str) -> RuleSet:
    """Build a rule set from a JSON file.

    Raises
    ------
    RuleSetError
        The file cannot be read or is invalid; the text is one line and begins with the name of the file.
    """
    name = os.path.basename(path)  # noqa: PTH119  as in scoring.scorers
    try:
        return from_document(_read(path))
    except (InvalidRequest, RuleSetError) as error:
        raise RuleSetError(f"{name}: {error}") from None
    except OSError as error:
        raise RuleSetError(f"{name}: The file cannot be read: {error.strerror}") from None


def _read(path: str) -> Any:
    with open(path, "rb") as file:  # noqa: PTH123  as in scoring.scorers
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise RuleSetError(f"The file is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RuleSetError(f"The file is not valid UTF-8, from byte {error.start} on") from None
    if not text.strip():
        raise RuleSetError("The file is empty")
    return strict_json.parse(text, "The file", strict_json.decoder(_object))


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Build an object and mark a repeated name, which :func:`_check_names` reports together with the rule."""
    fields: dict[Any, Any] = dict(pairs)
    if len(fields) != len(pairs):
        fields[_REPEATED] = strict_json.repeated_name(pairs)
    return fields


def _is_printable(value: Any, length: int) -> bool:
    """Return whether a value is one line of visible text."""
    return isinstance(value, str) and len(value) <= length and value.isprintable() and bool(value.strip())


def _shown(value: Any) -> str:
    """Return a value for an error message: text quoted and shortened, anything else by its type."""
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
    if not isinstance(sign, str) or sign not in OPERATORS:
        raise RuleSetError(f"{name}: unknown operator {_shown(sign)}; known are {' '.join(OPERATORS)}")
    if sign in ORDERINGS and field in _TEXT_FIELDS:
        raise RuleSetError(f"{name}: operator {sign!r} does not apply to {field!r}, which is a string")
    if sign == "in":
        if not isinstance(value, list) or not value:
            raise RuleSetError(f"{name}: the value of operator 'in' must be a list of at least one value")
        for element in value:
            _check_value(name, field, element)
        return Condition(field, OPERATORS[sign], frozenset(value))
    _check_value(name, field, value)
    return Condition(field, OPERATORS[sign], value)


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
    for threshold in thresholds:
        if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= MAX_SCORE:
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
