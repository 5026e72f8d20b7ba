"""Load the conditions of a rule: check every part and turn it into a function.

A condition compares a field with a value or with another field, or is a group of conditions. What it compares must be
of the same kind, so that no rule can fail or be pointless because of a wrong type.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

from scoring.errors import RuleSetError
from scoring.fields import Field, parse_time
from scoring.scorers import checks
from scoring.scorers.checks import shown
from scoring.scorers.rules import Condition, Test
from scoring.strict_json import is_finite, is_unicode

MAX_CONDITIONS = 50
MAX_DEPTH = 5
MAX_SEARCHED_LENGTH = 1_000
# In the order of datetime.weekday()
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Predicate = Callable[[Any], bool]

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
# The same comparisons with the operands exchanged.
_MIRRORED = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.lt,
    ">=": operator.le,
    "<": operator.gt,
    "<=": operator.ge,
}
_LISTS = ("in", "not in")
_SEARCHES = ("starts with", "ends with", "contains")
_PRESENCE = ("is missing", "is present")
_OPERATORS = (*_COMPARISONS, *_LISTS, "between", *_SEARCHES, *_PRESENCE)

_NUMERIC = (*_COMPARISONS, *_LISTS, "between")
# Operators by what they compare. "hour" and "weekday" are parts of a time; the field `hour` is an hour, too.
_BY_KIND = {
    "number": _NUMERIC,
    "hour": _NUMERIC,
    "string": ("==", "!=", *_LISTS, *_SEARCHES),
    "boolean": ("==", "!="),
    "time": (*_COMPARISONS, "between"),
    "weekday": ("==", "!=", *_LISTS),
}
# Operators that compare with another field
_BETWEEN_FIELDS = {
    "number": tuple(_COMPARISONS),
    "string": ("==", "!="),
    "boolean": ("==", "!="),
    "time": tuple(_COMPARISONS),
}

_COMPARISON_NAMES = (frozenset({"field", "operator"}), frozenset({"value", "of", "other", "times"}))
_GROUPS = ("all", "any", "not")


class ConditionsLoader:
    """Loads the conditions of one rule.

    Parameters
    ----------
    rule
        How error messages name the rule.
    fields
        The fields that conditions can compare, by name.
    """

    def __init__(self, rule: str, fields: Mapping[str, Field]) -> None:
        self._rule = rule
        self._fields = fields
        self._left = MAX_CONDITIONS

    def load(self, when: Any) -> tuple[Condition, ...]:
        """Return the conditions in a rule's ``when``.

        Raises
        ------
        RuleSetError
            A condition is invalid; the text names its place, as in ``when[1].any[0]``.
        """
        return self._list("when", when, 0)

    def _list(self, path: str, conditions: Any, depth: int) -> tuple[Condition, ...]:
        if not isinstance(conditions, list) or not conditions:
            where = f"{self._rule}: 'when'" if path == "when" else f"{self._rule} {path}"
            raise RuleSetError(f"{where} must be a list of at least one condition")
        return tuple([self._condition(f"{path}[{index}]", one, depth) for index, one in enumerate(conditions)])

    def _condition(self, path: str, condition: Any, depth: int) -> Condition:
        if isinstance(condition, dict):
            for group in _GROUPS:
                if group in condition:
                    return self._group(path, group, condition, depth + 1)
        return self._comparison(f"{self._rule} {path}", condition)

    def _group(self, path: str, group: str, condition: Any, depth: int) -> Condition:
        checks.check_names(f"{self._rule} {path}", condition, frozenset({group}))
        if depth > MAX_DEPTH:
            raise RuleSetError(f"{self._rule} {path}: groups must not be nested more than {MAX_DEPTH} deep")
        inner = condition[group]
        path = f"{path}.{group}"
        if group == "not":
            part = self._condition(path, inner, depth)
            return Condition(_negated(part.holds), group=group, parts=(part,))
        parts = self._list(path, inner, depth)
        tests = tuple([part.holds for part in parts])
        return Condition(_all(tests) if group == "all" else _any(tests), group=group, parts=parts)

    def _comparison(self, where: str, condition: Any) -> Condition:
        self._left -= 1
        if self._left < 0:
            raise RuleSetError(f"{self._rule} must have at most {MAX_CONDITIONS} conditions")
        checks.check_names(where, condition, *_COMPARISON_NAMES)
        field, sign = self._field(where, condition["field"]), condition["operator"]
        if not isinstance(sign, str) or sign not in _OPERATORS:
            raise RuleSetError(f"{where}: unknown operator {shown(sign)}; known are {', '.join(_OPERATORS)}")
        if sign in _PRESENCE:
            return _presence(where, condition, field, sign)
        if "other" in condition:
            return self._between_fields(where, condition, field, sign)
        if "times" in condition:
            raise RuleSetError(f"{where}: 'times' needs 'other'")
        if "value" not in condition:
            raise RuleSetError(f"{where} lacks 'value' or 'other'")
        part = _part(where, field, condition["of"]) if "of" in condition else ""
        kind = part or _kind(field)
        name = f"the {part} of {field.name!r}" if part else repr(field.name)
        if sign not in _BY_KIND[kind]:
            raise RuleSetError(f"{where}: operator {sign!r} does not apply to {name}, which is {_a(kind)}")

        def fact(literal: Any) -> Any:
            found = _FACTS[kind](f"{where}: the value for {name}", literal)
            return found.casefold() if field.ignores_case else found

        predicate = _predicate(where, kind, sign, condition["value"], fact)
        test = _of_part(field.name, part, predicate) if part else _of_value(field.name, predicate)
        return Condition(test, (field.name,))

    def _between_fields(self, where: str, condition: Mapping[str, Any], field: Field, sign: str) -> Condition:
        for name in ("value", "of"):
            if name in condition:
                raise RuleSetError(f"{where}: 'other' excludes {name!r}")
        other = self._field(where, condition["other"])
        kind, other_kind = _compared(field), _compared(other)
        if kind != other_kind:
            raise RuleSetError(
                f"{where}: {field.name!r}, which is {_a(kind)}, cannot be compared with {other.name!r}, which is "
                f"{_a(other_kind)}"
            )
        if sign not in _BETWEEN_FIELDS[kind]:
            raise RuleSetError(f"{where}: operator {sign!r} does not compare two fields that are {kind}s")
        times = condition.get("times", 1)
        if "times" in condition:
            if kind != "number":
                raise RuleSetError(f"{where}: 'times' applies to numbers only, not to {other.name!r}")
            if not _is_number(times) or not is_finite(times) or times <= 0:
                raise RuleSetError(f"{where}: 'times' must be a finite number greater than 0")
        test = _of_fields(field.name, other.name, _COMPARISONS[sign])
        if times != 1:
            test = _of_multiple(field.name, other.name, _COMPARISONS[sign], times)
        elif field.ignores_case != other.ignores_case:
            test = _of_folded_fields(field.name, other.name, _COMPARISONS[sign])
        return Condition(test, (field.name, other.name))

    def _field(self, where: str, name: Any) -> Field:
        field = self._fields.get(name) if isinstance(name, str) else None
        if field is None:
            raise RuleSetError(f"{where}: unknown field {shown(name)}; known are {_listed(sorted(self._fields))}")
        return field


def _presence(where: str, condition: Mapping[str, Any], field: Field, sign: str) -> Condition:
    for name in ("value", "of", "other", "times"):
        if name in condition:
            raise RuleSetError(f"{where}: operator {sign!r} excludes {name!r}")
    name = field.name
    test: Test = (lambda facts: name not in facts) if sign == "is missing" else (lambda facts: name in facts)
    return Condition(test, (name,))


def _kind(field: Field) -> str:
    """Return what a field is in a comparison with a value."""
    return "hour" if field.name == "hour" else _compared(field)


def _compared(field: Field) -> str:
    """Return what a field is in a comparison with another field."""
    return "number" if field.type == "integer" else field.type


def _part(where: str, field: Field, part: Any) -> str:
    if part not in ("hour", "weekday"):
        raise RuleSetError(f"{where}: 'of' must be 'hour' or 'weekday', not {shown(part)}")
    if field.type != "time":
        raise RuleSetError(f"{where}: 'of' applies to times only, not to {field.name!r}")
    return str(part)


def _predicate(where: str, kind: str, sign: str, value: Any, fact: Callable[[Any], Any]) -> Predicate:
    """Return the function that compares a present value of the field; ``fact`` checks a literal."""
    if sign in _LISTS:
        if not isinstance(value, list) or not value:
            raise RuleSetError(f"{where}: the value of operator {sign!r} must be a list of at least one value")
        values = frozenset([fact(one) for one in value])
        return values.__contains__ if sign == "in" else lambda found: found not in values
    if sign == "between":
        if not isinstance(value, list) or len(value) != 2:
            raise RuleSetError(f"{where}: the value of operator 'between' must be a list of two values")
        low, high = fact(value[0]), fact(value[1])
        if kind == "hour" and low > high:
            return lambda found: found >= low or found <= high
        return lambda found: low <= found <= high
    literal = fact(value)
    if sign in _SEARCHES:
        if not 1 <= len(value) <= MAX_SEARCHED_LENGTH:
            raise RuleSetError(
                f"{where}: the value of operator {sign!r} must have 1 to {MAX_SEARCHED_LENGTH} characters"
            )
        if sign == "contains":
            return lambda found: literal in found
        return operator.methodcaller("startswith" if sign == "starts with" else "endswith", literal)
    return functools.partial(_MIRRORED[sign], literal)


def _number(what: str, value: Any) -> float:
    if not _is_number(value):
        raise RuleSetError(f"{what} must be a number, not {shown(value)}")
    if not is_finite(value):
        raise RuleSetError(f"{what} must be a finite number")
    number: float = value
    return number


def _string(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RuleSetError(f"{what} must be a string, not {shown(value)}")
    if not is_unicode(value):
        raise RuleSetError(f"{what} must be valid Unicode text, not {shown(value)}")
    return value


def _boolean(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RuleSetError(f"{what} must be true or false, not {shown(value)}")
    return value


def _weekday(what: str, value: Any) -> int:
    if value not in WEEKDAYS:
        raise RuleSetError(f"{what} must be one of {', '.join(WEEKDAYS)}, not {shown(value)}")
    return WEEKDAYS.index(value)


def _time(what: str, value: Any) -> Any:
    time = parse_time(value)
    if time is None:
        raise RuleSetError(f"{what} must be a time with an offset in RFC 3339, not {shown(value)}")
    return time


# Check a literal and return the fact that it is compared with, as scoring.fields.reader does for a field.
_FACTS: dict[str, Callable[[str, Any], Any]] = {
    "number": _number,
    "hour": _number,
    "string": _string,
    "boolean": _boolean,
    "time": _time,
    "weekday": _weekday,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "hour" else f"a {kind}"


def _listed(names: list[str]) -> str:
    """Return names for an error message, shortened to about 300 characters."""
    text = ", ".join(names)
    return text if len(text) <= 300 else text[:300].rpartition(", ")[0] + ", ..."


def _of_value(name: str, predicate: Predicate) -> Test:
    def holds(facts: Mapping[str, Any]) -> bool:
        value = facts.get(name)
        return value is not None and predicate(value)

    return holds


def _of_part(name: str, part: str, predicate: Predicate) -> Test:
    read = operator.attrgetter("hour") if part == "hour" else operator.methodcaller("weekday")

    def holds(facts: Mapping[str, Any]) -> bool:
        value = facts.get(name)
        return value is not None and predicate(read(value))

    return holds


def _of_fields(name: str, other: str, compare: Callable[[Any, Any], bool]) -> Test:
    def holds(facts: Mapping[str, Any]) -> bool:
        value, compared = facts.get(name), facts.get(other)
        return value is not None and compared is not None and compare(value, compared)

    return holds


def _of_multiple(name: str, other: str, compare: Callable[[Any, Any], bool], times: float) -> Test:
    def holds(facts: Mapping[str, Any]) -> bool:
        value, compared = facts.get(name), facts.get(other)
        return value is not None and compared is not None and compare(value, compared * times)

    return holds


def _of_folded_fields(name: str, other: str, compare: Callable[[Any, Any], bool]) -> Test:
    def holds(facts: Mapping[str, Any]) -> bool:
        value, compared = facts.get(name), facts.get(other)
        return value is not None and compared is not None and compare(value.casefold(), compared.casefold())

    return holds


def _all(tests: tuple[Test, ...]) -> Test:
    def holds(facts: Mapping[str, Any]) -> bool:
        for test in tests:  # noqa: SIM110  all() with a generator takes three times as long
            if not test(facts):
                return False
        return True

    return holds


def _any(tests: tuple[Test, ...]) -> Test:
    def holds(facts: Mapping[str, Any]) -> bool:
        for test in tests:  # noqa: SIM110  as above
            if test(facts):
                return True
        return False

    return holds


def _negated(test: Test) -> Test:
    return lambda facts: not test(facts)
