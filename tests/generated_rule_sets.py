"""Generate rule set documents and transactions.

:func:`generate` makes a valid document and :func:`mutate` changes one or two of its nodes. :func:`cases` makes valid
transactions, histories and lists close to the constants of a document, so that conditions hold about as often as not.
"""

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, NamedTuple

from scoring.scorers.rules import RuleSet
from scoring.transaction import Transaction
from tests.reference_evaluator import (
    BUILT_IN,
    FEATURES,
    PRESENCE,
    STORED_LISTS,
    WEEKDAYS,
    Document,
    Known,
    comparable,
    declarations,
    instant,
    kind_of,
    lists_of,
)

FLOORS = ("at least MEDIUM", "at least HIGH", "at least CRITICAL")
CEILINGS = ("at most LOW", "at most MEDIUM", "at most HIGH")
_EQUALITY = ("==", "!=")
_ORDER = ("==", "!=", ">", ">=", "<", "<=")
# Operators by kind of field: with a value, and with another field.
VALUE_OPERATORS = {
    "number": (*_ORDER, "in", "not in", "between"),
    "hour": (*_ORDER, "in", "not in", "between"),
    "string": (*_EQUALITY, "in", "not in", "starts with", "ends with", "contains", *STORED_LISTS),
    "boolean": _EQUALITY,
    "time": (*_ORDER, "between"),
    "weekday": (*_EQUALITY, "in", "not in"),
}
OTHER_OPERATORS = {"number": _ORDER, "hour": _ORDER, "string": _EQUALITY, "boolean": _EQUALITY, "time": _ORDER}
MAX_DEPTH = 5
MAX_LEAVES = 50
_TYPES = ("string", "number", "integer", "boolean", "boolean", "time", "time", "time")
_NAMES = (
    "country card_country currency device ip merchant card_present new_device items basket limit balance "
    "account_age created paid_at last_login email x y2 z_ " + "long_" * 8
).split()
# Words with case variants and with common beginnings and ends.
_ASCII_WORDS = "PL pl PLN pln EUR eur electronics Electronics ELECTRONICS electro gift-card card Gift i I a A ab"
# Characters that fold to two or to the same, or that are not of one code unit.
_UNICODE_WORDS = "Straße STRASSE strasse ﬁn fin FIN İ i̇ Σ ς é é 日本 日 😀"
_WORDS = _ASCII_WORDS.split() + _UNICODE_WORDS.split()
_NUMBERS = (-7, -1, -0.5, 0, 0.0, 0.1, 0.5, 1, 1.0, 2, 2.5, 3, 5, 6, 7, 9.99, 12, 22, 23, 100, 1500, 3000, 1e15)
_HUGE_NUMBERS = (2**53 + 1, 2**63, -(2**63), 10**300, 1e308, -1e308, 5e-324)
_OFFSETS = (0, 0, 60, 120, -300, 330, 345, 840, -720, 1439, -1439)
_EXTREME_TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "2026-06-01T00:00:00-00:00")
_HISTORIES = ("customer", "ip", "h3_", "long_" * 8)
_LISTS = ("blocked", "l" * 34)
_START = datetime(2026, 1, 1)  # noqa: DTZ001  the offset is added to the text


def generate(rng: Random) -> Document:
    """Return a valid rule set document. Every call builds new objects."""
    document: Document = {"version": rng.choice(("1", "1.0-rules", "2026-11-25 a/b", "wersja ż 日本"))}
    if rng.random() < 0.1:
        document["$schema"] = rng.choice(("rules.schema.json", ""))
    if rng.random() < 0.9:
        document["fields"] = _fields(rng)
    if rng.random() < 0.5:
        document["histories"] = _histories(rng, declarations(document))
    if rng.random() < 0.3:
        document["unknown_fields"] = rng.choice(("warn", "refuse"))
    declared = declarations(document)
    if rng.random() < 0.6:
        optional = [name for name in declared if not declared[name].get("required")]
        names = rng.sample(optional, rng.randint(0, min(3, len(optional))))
        document["defaults"] = {name: _valid_value(rng, declared[name]) for name in names}
    count = rng.choice((1, 1, 2, 2, 2, 3, 3, 4)) if rng.random() < 0.995 else rng.randint(30, 200)
    compared = comparable(document)
    document["rules"] = [_rule(rng, f"R{number}", compared) for number in range(1, count + 1)]
    highest = rng.choice((3, 12, 12, 1000, 200_000_000))
    document["levels"] = dict(
        zip(("CRITICAL", "HIGH", "MEDIUM"), sorted(rng.sample(range(1, highest + 1), 3), reverse=True), strict=True)
    )
    return document


def _fields(rng: Random) -> dict[str, dict[str, Any]]:
    count = rng.choice((0, 1, 2, 3, 4, 5, 6)) if rng.random() < 0.995 else 50
    names = [*rng.sample(_NAMES, min(count, len(_NAMES))), *(f"field_{number}" for number in range(len(_NAMES), count))]
    fields = {name: _declaration(rng, rng.choice(_TYPES)) for name in names}
    for name in rng.sample(sorted(BUILT_IN), rng.choice((0, 0, 1, 2))):
        fields[name] = _narrowed(rng, name)
    return fields


def _histories(rng: Random, declared: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    suitable = [name for name in declared if declared[name]["type"] in {"string", "integer"}]
    pairs = rng.sample(list(itertools.permutations(suitable, 2)), rng.choice((0, 1, 1, 2, 3)))
    names = rng.sample(_HISTORIES, len(pairs))
    return {name: {"by": by, "distinct": distinct} for name, (by, distinct) in zip(names, pairs, strict=True)}


def _declaration(rng: Random, kind: str) -> dict[str, Any]:
    declaration: dict[str, Any] = {"type": kind}
    if rng.random() < 0.25:
        declaration["required"] = rng.choice((True, True, False))
    if rng.random() < 0.1:
        declaration["description"] = rng.choice(("Country of the card", "é", "x" * 200))
    if kind == "string":
        declaration |= _string_limits(rng, rng.choice((2, 11, 70, 65_536)))
    elif kind in {"number", "integer"}:
        numbers = [*_NUMBERS, *(_HUGE_NUMBERS if rng.random() < 0.1 else ())]
        if kind == "integer":
            numbers = [number for number in numbers if isinstance(number, int) and -(2**63) <= number < 2**63]
        declaration |= _number_limits(rng, numbers)
    return declaration


def _string_limits(rng: Random, longest: int) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if rng.random() < 0.3:
        limits["max_length"] = longest
    if rng.random() < 0.4:
        limits["case"] = "ignore"
    if rng.random() < 0.25:
        words = [word for word in _WORDS if len(word) <= longest]
        # Folded to different words, so that they are distinct without case as well.
        distinct = list({word.casefold(): word for word in words}.values())
        if longest > 64 and rng.random() < 0.1:
            distinct = [f"{word:_<70}" for word in distinct]
        limits["one_of"] = rng.sample(distinct, rng.randint(1, min(15, len(distinct))))
    return limits


def _number_limits(rng: Random, numbers: list[Any]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    low, high = sorted((rng.choice(numbers), rng.choice(numbers)))
    if rng.random() < 0.3:
        limits["minimum"] = low
    if rng.random() < 0.3:
        limits["maximum"] = high
    if rng.random() < 0.2:
        within = [number for number in dict.fromkeys(numbers) if low <= number <= high]
        limits["one_of"] = rng.sample(within, rng.randint(1, min(12, len(within))))
    return limits


def _narrowed(rng: Random, name: str) -> dict[str, Any]:
    """Return a declaration that narrows a built-in field."""
    declaration = {"type": BUILT_IN[name]["type"]} if rng.random() < 0.5 else {}
    if rng.random() < 0.3:
        declaration["required"] = name == "amount" or rng.choice((True, False))
    if name == "amount":
        declaration |= _number_limits(rng, [number for number in _NUMBERS if number >= 0])
    elif name == "hour":
        declaration |= _number_limits(rng, list(range(24)))
    elif name != "timestamp":
        declaration |= _string_limits(rng, rng.choice((11, 128)))
    return declaration


def _valid_value(rng: Random, declaration: dict[str, Any]) -> Any:
    candidates = [_constant(rng, declaration) for _ in range(3)]
    return next((value for value in candidates if is_valid(declaration, value)), _fallback(declaration))


def _fallback(declaration: dict[str, Any]) -> Any:
    """Return one valid value of a field."""
    if "one_of" in declaration:
        return declaration["one_of"][0]
    by_type = {"string": "x", "boolean": True, "time": "2026-01-01T00:00:00Z"}
    limit = declaration.get("minimum", min(0, declaration.get("maximum", 0)))
    return by_type.get(declaration["type"], limit)


def is_valid(declaration: dict[str, Any], value: Any) -> bool:
    """Return whether a value of the right type is within the limits of a field."""
    if isinstance(value, str):
        if len(value) > declaration.get("max_length", 1000):
            return False
        if "identifier" in declaration and not (value and value.isprintable()):
            return False
        if declaration.get("case") == "ignore":
            return "one_of" not in declaration or value.casefold() in map(str.casefold, declaration["one_of"])
    elif not isinstance(value, bool):
        integer = declaration["type"] == "integer"
        low, high = (-(2**63), 2**63 - 1) if integer else (value, value)
        if (integer and not isinstance(value, int)) or not (
            declaration.get("minimum", low) <= value <= declaration.get("maximum", high)
        ):
            return False
    return "one_of" not in declaration or value in declaration["one_of"]


def _time(rng: Random) -> str:
    if rng.random() < 0.02:
        return rng.choice(_EXTREME_TIMES)
    # Few days and hours, so that they often fall together.
    moment = _START + timedelta(days=rng.randint(0, 8), hours=rng.randint(0, 23), minutes=rng.choice((0, 0, 30, 59)))
    return _with_offset(rng, moment)


def _with_offset(rng: Random, moment: datetime) -> str:
    """Return a local time as text, with some offset."""
    offset = rng.choice(_OFFSETS)
    if offset == 0 and rng.random() < 0.5:
        suffix = "Z"
    else:
        hours, minutes = divmod(abs(offset), 60)
        suffix = f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"
    fraction = rng.choice(("", "", "", ".0", ".5", ".123", ".999999"))
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{suffix}"


def _constant(rng: Random, declaration: dict[str, Any]) -> Any:
    """Return a value to compare a field with; most are within its limits."""
    kind = declaration["type"]
    if "one_of" in declaration and rng.random() < 0.8:
        return rng.choice(declaration["one_of"])
    if kind == "string":
        return rng.choice(_WORDS) if rng.random() < 0.97 else rng.choice(("", " ", "x" * 64, "y" * 65, "a\nb"))
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "time":
        return _time(rng)
    limits = [declaration[name] for name in ("minimum", "maximum") if name in declaration]
    if limits and rng.random() < 0.4:
        return rng.choice(limits)
    numbers = _NUMBERS if rng.random() < 0.98 else _HUGE_NUMBERS
    number = rng.choice(numbers)
    return int(number) if kind == "integer" and rng.random() < 0.8 else number


def _rule(rng: Random, name: str, declared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    label = name + rng.choice(("", ": night", " é 日本", " " + "x" * 60))
    if rng.random() < 0.02:
        label = label.ljust(200, rng.choice(("x", "\\")))
    rule: dict[str, Any] = {"label": label}
    if rng.random() < 0.4:
        rule["level"] = rng.choice(FLOORS + CEILINGS)
    if "level" not in rule or rng.random() < 0.6:
        rule["points"] = rng.choice((-3, -1, 0, 1, 1, 2, 3, 5, 10, 1_000_000, -1_000_000))
    while "when" not in rule or sum(1 for _ in leaves(rule["when"])) > MAX_LEAVES:
        if rng.random() < 0.03:
            rule["when"] = [_nested(rng, declared, MAX_DEPTH)]
        else:
            rule["when"] = [_condition(rng, declared, 0) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < 0.15:
        rule["enabled"] = rng.choice((True, False, False))
    if rng.random() < 0.1:
        rule["description"] = rng.choice(("Cards used at night", "x" * 500))
    if rng.random() < 0.1:
        rule["owner"] = rng.choice(("fraud-team", "x" * 100))
    if rng.random() < 0.1:
        rule["tags"] = [f"tag {number}" for number in range(rng.choice((0, 1, 2, 20)))]
    return rule


def _nested(rng: Random, declared: dict[str, dict[str, Any]], depth: int) -> dict[str, Any]:
    """Return a condition of exactly this depth."""
    if depth == 0:
        return _leaf(rng, declared)
    inner = _nested(rng, declared, depth - 1)
    group = rng.choice(("all", "any", "not"))
    return {group: inner if group == "not" else [inner]}


def _condition(rng: Random, declared: dict[str, dict[str, Any]], depth: int) -> dict[str, Any]:
    if depth == MAX_DEPTH or rng.random() < 0.75:
        return _leaf(rng, declared)
    group = rng.choice(("all", "any", "any", "not"))
    if group == "not":
        return {"not": _condition(rng, declared, depth + 1)}
    return {group: [_condition(rng, declared, depth + 1) for _ in range(rng.choice((1, 2, 2, 3)))]}


def _leaf(rng: Random, declared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    field = rng.choice(list(declared))
    condition: dict[str, Any] = {"field": field}
    if rng.random() < 0.08:
        return {**condition, "operator": rng.choice(PRESENCE)}
    kind = kind_of(declared, field)
    if rng.random() < 0.25 and (others := [name for name in declared if _comparable(declared, field, name)]):
        condition |= {"operator": rng.choice(OTHER_OPERATORS[kind]), "other": rng.choice(others)}
        if kind in {"number", "hour"} and rng.random() < 0.5:
            condition["times"] = rng.choice((0.5, 1, 2, 2.5, 10, 1e308, 10**300))
        return condition
    constant: Callable[[], Any] = lambda: _constant(rng, declared[field])  # noqa: E731
    if kind == "time" and rng.random() < 0.6:
        kind = condition["of"] = rng.choice(("hour", "weekday"))
        values = range(24) if kind == "hour" else WEEKDAYS
        constant = lambda: rng.choice(values)  # noqa: E731
    operator = condition["operator"] = rng.choice(VALUE_OPERATORS[kind])
    if operator in {"in", "not in"}:
        condition["value"] = [constant() for _ in range(rng.choice((1, 2, 3, 8)))]
    elif operator in STORED_LISTS:
        # All fields of a list ignore case, or none does.
        condition["value"] = rng.choice(_LISTS) + "_fold" * (declared[field].get("case") == "ignore")
    elif operator == "between":
        condition["value"] = [constant(), constant()]
        if kind != "hour" and rng.random() < 0.8:
            condition["value"].sort(key=instant if kind == "time" else None)
    else:
        condition["value"] = constant()
        if operator in {"starts with", "ends with", "contains"}:
            condition["value"] = condition["value"] or "a"
    return condition


def _comparable(declared: dict[str, dict[str, Any]], field: str, other: str) -> bool:
    numbers = {"number", "hour"}
    kinds = {kind_of(declared, field), kind_of(declared, other)}
    return field != other and (len(kinds) == 1 or kinds <= numbers)


def leaves(conditions: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the conditions without groups."""
    for condition in conditions:
        if "not" in condition:
            yield from leaves([condition["not"]])
        elif group := condition.get("all") or condition.get("any"):
            yield from leaves(group)
        else:
            yield condition


_JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    24,
    10**7,
    2**63,
    -(2**63) - 1,
    10**400,
    -(10**400),
    float("inf"),
    float("nan"),
    "",
    " ",
    "x",
    "two\nlines",
    "\ud83c",
    "x\x7f",
    "zero\u200bwidth",
    "x" * 65,
    "x" * 1001,
    "\U000e0001" * 64,
    "\\" * 200,
    "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00",
    [],
    {},
    [[]],
    [None],
    [1],
    ["x"],
    [1, "x"],
    [5, 3],
    {"x": 1},
)
_VOCABULARY = (
    *(
        "$schema",
        "version",
        "fields",
        "histories",
        "by",
        "distinct",
        "unknown_fields",
        "defaults",
        "rules",
        "levels",
        "type",
        "required",
    ),
    *("description", "minimum", "maximum", "max_length", "one_of", "case", "label", "points", "level", "when"),
    *("enabled", "owner", "tags", "all", "any", "not", "field", "of", "operator", "value", "other", "times"),
    *("CRITICAL", "HIGH", "MEDIUM", "LOW", "colour", "Colour", "", "x" * 41, "two\nlines", "\ud83c"),
    *BUILT_IN,
    *_HISTORIES,
    "customer.count_1h",
    "idempotency_key",
)
_WORDS_OF_THE_LANGUAGE = (
    *_TYPES,
    *("float", "ignore", "IGNORE", "warn", "refuse", "hour", "weekday", "minute", "Monday", "monday", "matches"),
    *("at least LOW", "at most CRITICAL", "at least", "AT LEAST HIGH"),
    *(FLOORS + CEILINGS + PRESENCE),
    *dict.fromkeys(itertools.chain.from_iterable(VALUE_OPERATORS.values())),
    *BUILT_IN,
    *(f"{history}.{feature}" for history in _HISTORIES[:2] for feature in (*FEATURES, "count_2h")),
)


class _Node(NamedTuple):
    """A value inside a document, with the object or list that holds it."""

    parent: Any
    key: Any

    @property
    def value(self) -> Any:
        return self.parent[self.key]


def mutate(rng: Random, document: Document) -> Document:
    """Change one or two nodes of a document in place. Some changes leave it valid."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        nodes = list(_nodes(document))
        if not nodes:
            break
        node = rng.choice(nodes) if rng.random() < 0.5 else _descend(rng, document)
        rng.choice(_MUTATIONS)(rng, node, nodes)
    return document


def _nodes(value: Any) -> Iterator[_Node]:
    stack = [value]
    while stack:
        parent = stack.pop()
        keys = parent if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
        for key in keys:
            yield _Node(parent, key)
            stack.append(parent[key])


def _descend(rng: Random, document: Document) -> _Node:
    """Return a node, the likelier the closer it is to the root."""
    node = _Node(document, rng.choice(list(document)))
    while isinstance(node.value, dict | list) and node.value and rng.random() < 0.75:
        keys = list(node.value) if isinstance(node.value, dict) else range(len(node.value))
        node = _Node(node.value, rng.choice(keys))
    return node


def _replace(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    node.parent[node.key] = copy.deepcopy(rng.choice(_JUNK))


def _remove(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    del node.parent[node.key]


def _add(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    if isinstance(node.parent, dict):
        node.parent[rng.choice(_VOCABULARY)] = _copy(rng.choice(nodes).value)
    else:
        node.parent.insert(rng.randint(0, len(node.parent)), copy.deepcopy(rng.choice(_JUNK)))


def _rename(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    if isinstance(node.parent, dict):
        value = node.parent.pop(node.key)
        others = ("", node.key[1:], node.key.upper(), f"{node.key}s", rng.choice(_VOCABULARY))
        node.parent[rng.choice(others)] = value


def _adjust(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    """Change a number a little or a lot; change a word of the language for another."""
    if isinstance(node.value, str):
        node.parent[node.key] = rng.choice(_WORDS_OF_THE_LANGUAGE)
    elif isinstance(node.value, int | float):
        number = rng.choice([found.value for found in nodes if isinstance(found.value, int | float)])
        node.parent[node.key] = rng.choice((number, node.value - 1, node.value + 1, -node.value, node.value * 10**9))
    else:
        _replace(rng, node, nodes)


def _operate(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    """Give a condition another operator, field or value."""
    conditions = [found.value for found in nodes if isinstance(found.value, dict) and "operator" in found.value]
    if conditions:
        condition, model = rng.choice(conditions), rng.choice(conditions)
        name = rng.choice(("operator", "operator", "field", "value", "other", "times", "of"))
        if name in model:
            condition[name] = _copy(model[name])
        elif name == "operator" or rng.random() < 0.3:
            condition[name] = rng.choice(_WORDS_OF_THE_LANGUAGE)
        else:
            condition.pop(name, None)


def _deepen(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    value = node.value
    for _ in range(rng.choice((1, 2, 5, 6)) if rng.random() < 0.99 else 3000):
        value = rng.choice(({"not": value}, {"all": [value]}, {"any": [value]}, [value]))
    node.parent[node.key] = value


def _repeat(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    """Repeat an element or a whole list, which repeats labels, tags and values."""
    if isinstance(node.value, list):
        node.value.extend(_copy(node.value) * rng.choice((1, 1, 60)))
    elif isinstance(node.parent, list):
        node.parent.append(_copy(node.value))
    else:
        _replace(rng, node, nodes)


def _swap(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    """Exchange two values of an object or list, such as the thresholds of two levels."""
    key = rng.choice(list(node.parent) if isinstance(node.parent, dict) else range(len(node.parent)))
    node.parent[node.key], node.parent[key] = node.parent[key], node.parent[node.key]


def _splice(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    node.parent[node.key] = _copy(rng.choice(nodes).value)


def _spoil(rng: Random, node: _Node, nodes: list[_Node]) -> None:
    """Empty a value, or put an unusual character into a text."""
    if isinstance(node.value, str):
        character = rng.choice(("\ud83c", "\n", "\x00", "\u2028", "\u00a0", "\ufeff", " ", "é", "x" * 500))
        node.parent[node.key] = node.value + character
    elif isinstance(node.value, dict | list):
        node.value.clear()
    else:
        _replace(rng, node, nodes)


_MUTATIONS = (_replace, _remove, _add, _rename, _adjust, _operate, _operate, _deepen, _repeat, _swap, _splice, _spoil)


def _copy(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (RecursionError, ValueError):  # too deep, or too many digits
        return None


def cases(rng: Random, document: Document, count: int) -> Iterator[tuple[dict[str, Any], Known]]:
    """Yield valid transactions for a valid document, and what the service knows about each."""
    declared = comparable(document)
    pools = _pools(rng, document, declared)
    lists = _entries(rng, document, pools, declared)
    warns = document.get("unknown_fields", "warn") == "warn"
    drawn = []
    for name, pool in pools.items():
        required = declared[name].get("required", False)
        drawn.append((name, pool, len(pool), 1.0 if required else rng.choice((0.6, 0.9))))
    random = rng.random
    for _ in range(count):
        transaction = {name: pool[int(random() * size)] for name, pool, size, presence in drawn if random() < presence}
        if warns and random() < 0.05:
            transaction[rng.choice(("categroy", "Amount", "", "two\nlines"))] = rng.choice(("x", 1, None, [], {"a": 1}))
        yield transaction, Known(_take_history(rng, transaction), lists if random() < 0.9 else None)


def read(rule_set: RuleSet, transaction: dict[str, Any], known: Known) -> Transaction:
    """Read a transaction, and add what is known as the service does."""
    found = rule_set.fields.read(transaction)
    if not (known.history or rule_set.lists):
        return found
    history = {
        f"{name}.{feature}": value
        for name, features in known.history.items()
        for feature, value in features.items()
        if value is not None
    }
    listed = {
        check.fact: found.facts[check.field] in known.lists[check.name]
        for check in rule_set.lists
        if known.lists is not None and check.field in found.facts
    }
    return found._replace(facts={**found.facts, **history, **listed}, derived={**found.derived, **history})


def _take_history(rng: Random, transaction: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Remove the features of histories that were drawn like fields, and return them."""
    history: dict[str, dict[str, Any]] = {}
    for name in [name for name in transaction if "." in name]:
        found, feature = name.split(".")
        history.setdefault(found, dict.fromkeys(FEATURES) if rng.random() < 0.5 else {})[feature] = transaction.pop(
            name
        )
    return history


def _entries(
    rng: Random, document: Document, pools: dict[str, list[Any]], declared: dict[str, dict[str, Any]]
) -> dict[str, set[str]]:
    """Return lists with about half of the values that the fields can have."""
    entries: dict[str, set[str]] = {}
    for name, field in lists_of(document["rules"]):
        folds = declared[field].get("case") == "ignore"
        values = [value.casefold() if folds else value for value in pools[field] if rng.random() < 0.5]
        entries.setdefault(name, set()).update(values)
    return entries


def _pools(rng: Random, document: Document, declared: dict[str, dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values that each field can have in transactions: required fields and those in rules."""
    conditions = list(itertools.chain.from_iterable(leaves(rule["when"]) for rule in document["rules"]))
    constants: dict[str, list[Any]] = {name: [] for name in declared if declared[name].get("required")}
    for condition in conditions:
        found = constants.setdefault(condition["field"], [])
        if condition["field"] == "hour":
            constants.setdefault("timestamp", [])
        if condition["operator"] in STORED_LISTS:
            continue
        if "other" in condition:
            constants.setdefault(condition["other"], [])
        elif "of" in condition:
            values = condition["value"] if isinstance(condition["value"], list) else [condition["value"]]
            found.extend(_time_at(rng, value) for value in values)
        elif "value" in condition:
            found.extend(condition["value"] if isinstance(condition["value"], list) else [condition["value"]])
    pools = {}
    for name, found in constants.items():
        declaration = declared[name]
        values = [*rng.sample(found, min(6, len(found))), *(_constant(rng, declaration) for _ in range(4))]
        near = [*values, *(_near(rng, value) for value in values for _ in range(2))]
        pools[name] = [value for value in near if is_valid(declaration, value)] or [_fallback(declaration)]
    for condition in conditions:
        if "other" in condition:
            _approach(rng, condition, declared, pools)
    return {name: pools[name] for name in declared if name in pools}


def _time_at(rng: Random, value: Any) -> str:
    """Return a time at an hour or on a weekday, at some offset."""
    day, hour = rng.randint(0, 20), rng.randint(0, 23)
    if isinstance(value, str):
        # 5 January 2026 was a Monday.
        day = 4 + WEEKDAYS.index(value) + 7 * rng.randint(0, 1)
    elif 0 <= value < 24:
        hour = int(value)
    return _with_offset(rng, _START + timedelta(days=day, hours=hour, minutes=rng.choice((0, 59))))


def _near(rng: Random, value: Any) -> Any:
    """Return a value that differs a little."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice((value - 1, value + 1, value + rng.choice((-0.5, 0.5))) if abs(value) < 1e15 else (value,))
    try:
        moment = instant(value)
    except ValueError:
        word = rng.choice(_WORDS)
        return rng.choice(
            (value.upper(), value.swapcase(), value[:-1], value[1:], value + word, word + value, f"x{value}x")
        )
    local = moment.replace(tzinfo=None)
    try:
        shifted = moment.astimezone(timezone(timedelta(minutes=rng.choice(_OFFSETS))))
        return rng.choice(
            (
                shifted.isoformat(),
                (shifted + timedelta(seconds=rng.choice((-1, 1)))).isoformat(),
                _with_offset(rng, local.replace(microsecond=0) + timedelta(hours=rng.choice((-1, 1, 24)))),
            )
        )
    except OverflowError:
        return value


def _approach(
    rng: Random, condition: dict[str, Any], declared: dict[str, dict[str, Any]], pools: dict[str, list[Any]]
) -> None:
    """Add values of the other field, or multiples of them, so that two fields are often equal."""
    field, other = condition["field"], condition["other"]
    values = rng.sample(pools[other], min(8, len(pools[other])))
    if declared[field]["type"] == "time":
        values = [*values, *(_near(rng, value) for value in values)]
    if "times" in condition:
        values = [product for value in values if abs(product := value * condition["times"]) < 1e15]
        values += [int(value) for value in values if value == int(value)]
    pools[field] += [value for value in values if is_valid(declared[field], value)]
