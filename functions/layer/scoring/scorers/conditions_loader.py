"""Load the conditions of a rule: check every part and turn it into a function.

A condition compares a field with a value or with another field, or is a group of conditions. Both sides of a comparison
must be of the same kind, so a rule set with a type error does not load.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from scoring.errors import RuleSetError
from scoring.fields import Field, parse_time
from scoring.scorers import checks
from scoring.scorers.checks import shown
from scoring.scorers.rules import Condition, Test
from scoring.strict_json import is_finite, is_unicode

if TYPE_CHECKING:
    from scoring.list_check import ListCheck

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
_STORED_LISTS = ("in list", "not in list")
_PRESENCE = ("is missing", "is present")
_OPERATORS = (*_COMPARISONS, *_LISTS, "between", *_SEARCHES, *_STORED_LISTS, *_PRESENCE)

# Kinds of fields in comparisons, by type. The field `hour` has a kind of its own.
_KINDS = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "time": "time"}
_NUMERIC = (*_COMPARISONS, *_LISTS, "between")
# Operators by kind. With `of`, a time is compared as an hour or a weekday.
_BY_KIND = {
    "number": _NUMERIC,
    "hour": _NUMERIC,
    "string": ("==", "!=", *_LISTS, *_SEARCHES, *_STORED_LISTS),
    "boolean": ("==", "!="),
    "time": (*_COMPARISONS, "between"),
    "weekday": ("==", "!=", *_LISTS),
}

_COMPARISON_NAMES = (
    frozenset({"field", "operator"}),
    frozenset({"field", "operator", "value", "of", "other", "times"}),
)
_GROUPS = {group: frozenset({group}) for group in ("all", "any", "not")}


class ConditionsLoader:
    """Loads the conditions of one rule.

    Parameters
    ----------
    fields
        The fields that conditions can compare, by name: those of a transaction and those of its history.

    Attributes
    ----------
    lists
        Lists that the loaded conditions search.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.lists: list[ListCheck] = []
        self._fields = fields
        self._left = MAX_CONDITIONS
        # Indexes and groups that lead to the current condition
        self._path: list[int | str] = []

    def load(self, rule: str, when: Any) -> tuple[Condition, ...]:
        """Return the conditions in a rule's ``when``.

        Parameters
        ----------
        rule
            How error messages name the rule.
        when
            The decoded conditions.

        Raises
        ------
        RuleSetError
            A condition is invalid; the text names its place, as in ``when[1].any[0]``.
        """
        try:
            return self._list(when, 0)
        except RuleSetError as error:
            place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self._path)
            raise RuleSetError(f"{rule} when{place}: {error}") from None

    def _list(self, conditions: Any, depth: int) -> tuple[Condition, ...]:
        if not isinstance(conditions, list) or not conditions:
            raise RuleSetError("must be a list of at least one condition")
        loaded = []
        for index, condition in enumerate(conditions):
            self._path.append(index)
            loaded.append(self._condition(condition, depth))
            self._path.pop()
        return tuple(loaded)

    def _condition(self, condition: Any, depth: int) -> Condition:
        if not isinstance(condition, dict) or "field" in condition:
            return self._comparison(condition)
        for group, names in _GROUPS.items():
            if group in condition:
                if len(condition.keys() & _GROUPS.keys()) > 1:
                    raise RuleSetError("a group must have only one of 'all', 'any' and 'not'")
                checks.check_names("the group", condition, names, names)
                return self._group(group, condition[group], depth + 1)
        checks.check_object("the condition", condition)
        raise RuleSetError("the condition must have 'field', 'all', 'any' or 'not'")

    def _group(self, group: str, inner: Any, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise RuleSetError(f"groups must not be nested more than {MAX_DEPTH} deep")
        self._path.append(group)
        parts = (self._condition(inner, depth),) if group == "not" else self._list(inner, depth)
        self._path.pop()
        return Condition(_GROUP_TESTS[group](tuple([part.holds for part in parts])), group=group, parts=parts)

    def _comparison(self, condition: Any) -> Condition:
        self._left -= 1
        if self._left < 0:
            raise RuleSetError(f"a rule must have at most {MAX_CONDITIONS} conditions")
        checks.check_names("the condition", condition, *_COMPARISON_NAMES)
        field, sign = self._field(condition["field"]), condition["operator"]
        if not isinstance(sign, str) or sign not in _OPERATORS:
            raise RuleSetError(f"unknown operator {shown(sign)}; known are {', '.join(_OPERATORS)}")
        if sign in _PRESENCE:
            return _presence(condition, field, sign)
        if "other" in condition:
            return self._of_two_fields(condition, field, sign)
        if "times" in condition:
            raise RuleSetError("'times' needs 'other'")
        if "value" not in condition:
            raise RuleSetError("the condition lacks 'value' or 'other'")
        if "of" in condition:
            kind = _part(field, condition["of"])
            predicate = _predicate(kind, _LITERALS[kind], sign, condition["value"])
            return Condition(_of_part(field.name, kind, predicate), (field.name,))
        kind = "hour" if field.name == "hour" else _KINDS[field.type]
        if sign in _STORED_LISTS:
            return self._of_list(field, kind, sign, condition["value"])
        check = _folded if field.ignores_case else _LITERALS[kind]
        return Condition(_of_value(field.name, _predicate(kind, check, sign, condition["value"])), (field.name,))

    def _of_two_fields(self, condition: Mapping[str, Any], field: Field, sign: str) -> Condition:
        for name in ("value", "of"):
            if name in condition:
                raise RuleSetError(f"'other' excludes {name!r}")
        other = self._field(condition["other"])
        kind, other_kind = _KINDS[field.type], _KINDS[other.type]
        if kind != other_kind:
            raise RuleSetError(f"{field.name!r} is {_a(kind)} and {other.name!r} is {_a(other_kind)}")
        if sign not in _COMPARISONS or sign not in _BY_KIND[kind]:
            raise RuleSetError(f"operator {sign!r} does not compare two fields that are {kind}s")
        compare = _COMPARISONS[sign]
        if "times" in condition:
            times = condition["times"]
            if kind != "number":
                raise RuleSetError(f"'times' applies to numbers only, not to {other.name!r}")
            if not _is_number(times) or not is_finite(times) or times <= 0:
                raise RuleSetError("'times' must be a finite number greater than 0")
            test = _of_multiple(field.name, other.name, compare, times)
        elif field.ignores_case != other.ignores_case:
            test = _of_folded_fields(field.name, other.name, compare)
        else:
            test = _of_fields(field.name, other.name, compare)
        return Condition(test, (field.name, other.name))

    def _of_list(self, field: Field, kind: str, sign: str, name: Any) -> Condition:
        if sign not in _BY_KIND[kind]:
            raise RuleSetError(f"operator {sign!r} does not apply to {_a(kind)}")
        if not isinstance(name, str):
            raise RuleSetError(f"the value of operator {sign!r} must be the name of a list, not {shown(name)}")
        # Imported here, since most rule sets have no lists.
        from scoring.list_check import ListCheck  # noqa: PLC0415

        check = ListCheck(checks.check_name(f"list {shown(name)}", name), field.name)
        self.lists.append(check)
        predicate = operator.truth if sign == "in list" else operator.not_
        # The fact is missing if the field is, or if the list could not be read.
        return Condition(_of_value(check.fact, predicate), (field.name,))

    def _field(self, name: Any) -> Field:
        field = self._fields.get(name) if isinstance(name, str) else None
        if field is None:
            known = sorted(self._fields)
            if isinstance(name, str) and "." in name:
                # Of a history, name its own fields first.
                known.sort(key=lambda one: not one.startswith(f"{name.partition('.')[0]}."))
            raise RuleSetError(f"unknown field {shown(name)}; known are {checks.listed(known)}")
        return field


def _presence(condition: Mapping[str, Any], field: Field, sign: str) -> Condition:
    for name in ("value", "of", "other", "times"):
        if name in condition:
            raise RuleSetError(f"operator {sign!r} excludes {name!r}")
    name = field.name
    test: Test = (lambda facts: name not in facts) if sign == "is missing" else (lambda facts: name in facts)
    return Condition(test, (name,))


def _part(field: Field, part: Any) -> str:
    if part not in ("hour", "weekday"):
        raise RuleSetError(f"'of' must be 'hour' or 'weekday', not {shown(part)}")
    if field.type != "time":
        raise RuleSetError(f"'of' applies to times only, not to {field.name!r}")
    return str(part)


def _predicate(kind: str, check: Callable[[Any], Any], sign: str, value: Any) -> Predicate:
    """Return the function that compares a present value with a literal, or with a list of them.

    ``check`` checks a literal and returns the fact that it stands for.
    """
    if sign not in _BY_KIND[kind]:
        raise RuleSetError(f"operator {sign!r} does not apply to {_a(kind)}")
    if sign in _LISTS:
        if not isinstance(value, list) or not value:
            raise RuleSetError(f"the value of operator {sign!r} must be a list of at least one value")
        values = frozenset([check(one) for one in value])
        return values.__contains__ if sign == "in" else lambda found: found not in values
    if sign == "between":
        if not isinstance(value, list) or len(value) != 2:
            raise RuleSetError("the value of operator 'between' must be a list of two values")
        low, high = check(value[0]), check(value[1])
        if kind == "hour" and low > high:
            return lambda found: found >= low or found <= high
        return lambda found: low <= found <= high
    literal = check(value)
    if sign in _SEARCHES:
        if not 1 <= len(value) <= MAX_SEARCHED_LENGTH:
            raise RuleSetError(f"the value of operator {sign!r} must have 1 to {MAX_SEARCHED_LENGTH} characters")
        if sign == "contains":
            return lambda found: literal in found
        return operator.methodcaller("startswith" if sign == "starts with" else "endswith", literal)
    return functools.partial(_MIRRORED[sign], literal)


def _number(value: Any) -> float:
    if not _is_number(value):
        raise RuleSetError(f"the value must be a number, not {shown(value)}")
    if not is_finite(value):
        raise RuleSetError("the value must be a finite number")
    number: float = value
    return number


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise RuleSetError(f"the value must be a string, not {shown(value)}")
    if not is_unicode(value):
        raise RuleSetError(f"the value must be valid Unicode text, not {shown(value)}")
    return value


def _folded(value: Any) -> str:
    return _string(value).casefold()


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RuleSetError(f"the value must be true or false, not {shown(value)}")
    return value


def _weekday(value: Any) -> int:
    if value not in WEEKDAYS:
        raise RuleSetError(f"the value must be one of {', '.join(WEEKDAYS)}, not {shown(value)}")
    return WEEKDAYS.index(value)


def _time(value: Any) -> Any:
    time = parse_time(value)
    if time is None:
        raise RuleSetError(f"the value must be a time with an offset in RFC 3339, not {shown(value)}")
    return time


# Functions that check a literal and return the fact that it stands for, as fields.reader() does for a field.
_LITERALS: dict[str, Callable[[Any], Any]] = {
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


def _not(tests: tuple[Test, ...]) -> Test:
    (test,) = tests
    return lambda facts: not test(facts)


_GROUP_TESTS = {"all": _all, "any": _any, "not": _not}
