"""Find rules that can never hit, such as ``amount > 5 and amount < 3``.

The loaded conditions are evaluated on a few values of each field, which represent all others: the constants in the
rule, the limits of the field, and values next to these. A rule can never hit if no value of some field satisfies all
conditions on that field. If a group reads several fields, its alternatives are tried one by one, together with the
conditions around the group.

Every rule that is found can never hit, but not every such rule is found. The following is not examined:

- two fields compared with each other, except that neither may be missing
- two groups that read several fields and contradict each other
- how the numbers of a history depend on each other, such as ``count_24h`` on ``count_1h``
- the length of a text that must contain several searched texts
- a field with very many searched texts or lists, and one with times in the year 1 or 9999
"""

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, timezone
from typing import Any

from scoring import fields
from scoring.errors import InvalidRequest
from scoring.fields import Field
from scoring.list_check import ListCheck
from scoring.scorers import fields_loader
from scoring.scorers.rules import Condition, Facts, RuleSet

# Facts about one field, by its name. Fields that cannot be judged are left out.
Candidates = Mapping[str, Sequence[Facts]]

# Combinations of searched texts, and of values and lists, to try; a field with more is not examined.
MAX_COMBINATIONS = 1_024
MAX_LIST_COMBINATIONS = 10_000
# One character has up to this many characters in folded case.
MAX_FOLDED_LENGTH = 3

# A lone surrogate, which no text of a rule contains, stands for a character that occurs in none of them.
_SEPARATOR = "\ud800"

_MINUTE, _HOUR, _RESOLUTION = timedelta(minutes=1), timedelta(hours=1), timedelta.resolution
_WEEK_HOURS = 7 * 24
# All that lead to different hours: whole hours, and the largest offset in either direction.
_OFFSETS = tuple(timezone(_MINUTE * minutes) for minutes in (-1439, *range(-1380, 1381, 60), 1439))
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def find(document: Mapping[str, Any], rule_set: RuleSet) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the enabled rules that can never hit.

    Parameters
    ----------
    document
        The document that the rule set was loaded from.
    rule_set
        The rule set.

    Yields
    ------
    tuple
        The label, and the names of the fields of which no value satisfies the conditions.
    """
    declared = {field.name: field for field in rule_set.fields.declared}
    declared |= fields_loader.history_fields(rule_set.histories)
    enabled = [rule for rule in document["rules"] if rule.get("enabled", True)]
    for written, rule in zip(enabled, rule_set.rules, strict=True):
        candidates = _candidates(written["when"], declared, rule_set.fields.defaults, rule.lists)
        unsatisfied = _unsatisfied([(condition, True) for condition in rule.conditions], candidates)
        if unsatisfied:
            yield rule.label, tuple(name for name in declared if name in unsatisfied)


def _unsatisfied(conditions: Iterable[tuple[Condition, bool]], candidates: Candidates) -> set[str]:
    """Return the fields that no candidate satisfies; empty if there are none.

    Every condition comes with whether it must hold or fail.
    """
    left = dict(candidates)
    alternatives = []
    for condition, holds in _conjunction(conditions):
        name = _only_field(condition)
        if name in left:
            left[name] = [facts for facts in left[name] if condition.holds(facts) == holds]
        elif condition.group:
            alternatives.append((condition, holds))
        elif holds:
            # Compares two fields, or one that cannot be judged.
            left |= {name: [facts for facts in left[name] if facts] for name in condition.fields if name in left}
    for name, facts in left.items():
        if not facts:
            return {name}
    for group, holds in alternatives:
        unsatisfied = [_unsatisfied([(part, holds)], left) for part in group.parts]
        if all(unsatisfied):
            return set().union(*unsatisfied)
    return set()


def _conjunction(conditions: Iterable[tuple[Condition, bool]]) -> Iterator[tuple[Condition, bool]]:
    """Split groups whose parts must all hold or fail; yield the comparisons and the groups of alternatives."""
    for condition, holds in conditions:
        if condition.group == "not":
            yield from _conjunction([(condition.parts[0], not holds)])
        elif condition.group == ("all" if holds else "any"):
            yield from _conjunction([(part, holds) for part in condition.parts])
        else:
            yield condition, holds


def _only_field(condition: Condition) -> str:
    """Return the field that a condition reads; empty if it reads several or compares one with itself."""
    read = {comparison.fields for comparison in _leaves(condition)}
    names = read.pop()
    return names[0] if not read and len(names) == 1 else ""


def _leaves(condition: Condition) -> Iterator[Condition]:
    if not condition.group:
        yield condition
    for part in condition.parts:
        yield from _leaves(part)


def _comparisons(conditions: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all comparisons in conditions as they are written."""
    for condition in conditions:
        if "field" in condition:
            yield condition
        else:
            [(group, parts)] = condition.items()
            yield from _comparisons([parts] if group == "not" else parts)


def _candidates(
    when: Iterable[dict[str, Any]],
    declared: Mapping[str, Field],
    defaults: Mapping[str, Any],
    lists: Iterable[ListCheck],
) -> Candidates:
    """Return facts that represent all values of the fields in conditions as they are written."""
    by_field = defaultdict[str, list[dict[str, Any]]](list)
    for comparison in _comparisons(when):
        by_field[comparison["field"]].append(comparison)
    candidates: dict[str, list[Facts]] = {}
    for name, comparisons in by_field.items():
        values = _values(declared[name], comparisons)
        found = None if values is None else _with_lists([{name: value} for value in values], name, lists)
        if found is not None:
            candidates[name] = found
            if not declared[name].required and name not in defaults:
                candidates[name].append({})
    return candidates


def _values(field: Field, comparisons: Iterable[Mapping[str, Any]]) -> Iterable[Any] | None:
    """Return facts that represent all values of a field in these comparisons, or None if that is not possible."""
    if field.one_of is not None:
        return map(fields.reader(field), field.one_of)
    if field.type == "boolean":
        return (True, False)
    literals = defaultdict[str, set[Any]](set)
    for comparison in comparisons:
        if "value" in comparison and "of" not in comparison and not comparison["operator"].endswith("in list"):
            value = comparison["value"]
            literals[comparison["operator"]].update(value if isinstance(value, list) else [value])
    if field.type == "string":
        return _texts(field, literals)
    constants = set[Any]().union(*literals.values())
    return _times(constants) if field.type == "time" else _numbers(field, constants)


def _with_lists(found: list[Facts], name: str, lists: Iterable[ListCheck]) -> list[Facts] | None:
    """Combine facts about a field with all cases of lists that are searched for it; return None if there are too many.

    A value is on a list, is not on it, or the list cannot be read.
    """
    searched = sorted({check.fact for check in lists if check.field == name})
    if searched and len(found) * 3 ** len(searched) > MAX_LIST_COMBINATIONS:
        return None
    for fact in searched:
        found = [{**facts, **listed} for facts in found for listed in ({fact: True}, {fact: False}, {})]
    return found


def _numbers(field: Field, constants: Iterable[float]) -> list[float]:
    """Return constants and limits, and the next values below and above them."""
    limits = [limit for limit in (field.minimum, field.maximum) if limit is not None]
    numbers = set[float]()
    for number in {0, *limits, *constants}:
        low, high = math.floor(number), math.ceil(number)
        numbers |= {low, low + 1, high, high - 1}
        if field.type == "number":
            numbers |= {number, math.nextafter(number, -math.inf), math.nextafter(number, math.inf)}
    return _valid(field, numbers)


def _texts(field: Field, literals: Mapping[str, set[str]]) -> list[str] | None:
    """Return the texts compared, and one text for every combination of searched texts.

    Such a text is the prefix, the texts that it must contain and the suffix, with separators between them. It matches a
    search only if every text with this combination does.
    """
    possible = {operator: _occurring(field, texts) for operator, texts in literals.items()}
    prefixes = ["", *possible.pop("starts with", ())]
    suffixes = ["", *possible.pop("ends with", ())]
    contained = possible.pop("contains", [])
    if len(prefixes) * len(suffixes) * 2 ** len(contained) > MAX_COMBINATIONS:
        return None
    chosen = itertools.product(prefixes, *[("", text) for text in contained], suffixes)
    return [*itertools.chain.from_iterable(possible.values()), *map(_SEPARATOR.join, chosen)]


def _occurring(field: Field, texts: set[str]) -> list[str]:
    """Return what a rule compares with, without texts that certainly occur in no value of the field."""
    if not field.ignores_case:
        return _valid(field, texts)
    # The folded case of a value may be longer than the value.
    longest = math.inf if field.max_length is None else MAX_FOLDED_LENGTH * field.max_length
    return [text for text in {text.casefold() for text in texts} if len(text) <= longest]


def _times(constants: Iterable[str]) -> list[datetime] | None:
    """Return the constants and the times around them, in every hour of the week that they can have."""
    instants = {time for time in map(fields.parse_time, constants) if time} or {_ANY_TIME}
    if any(time.year in {MINYEAR, MAXYEAR} for time in instants):
        return None
    times = []
    for instant in instants:
        for neighbour in (instant - _RESOLUTION, instant, instant + _RESOLUTION):
            times += [neighbour.astimezone(offset) for offset in _OFFSETS]
        times += [instant + _HOUR * hours for hours in range(-_WEEK_HOURS, _WEEK_HOURS + 1)]
    return times


def _valid(field: Field, values: Iterable[Any]) -> list[Any]:
    """Return those values that are valid values of a field."""
    read = fields.reader(field)
    valid = []
    for value in values:
        with contextlib.suppress(InvalidRequest):
            read(value)
            valid.append(value)
    return valid
