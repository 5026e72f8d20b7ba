"""Reference evaluator of rule sets, which the layer must agree with.

:func:`assess` interprets the JSON of a valid document. It is simple and slow, and shares no code with the layer.
"""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

Document = dict[str, Any]

LEVELS = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PRESENCE = ("is missing", "is present")
STORED_LISTS = ("in list", "not in list")
QUOTED_LENGTH = 64
MAX_QUOTED_VALUES = 100

# An identifier is not empty and has no control characters.
BUILT_IN: dict[str, dict[str, Any]] = {
    "tx_id": {"type": "string", "max_length": 128, "identifier": True},
    "amount": {"type": "number", "minimum": 0, "required": True},
    "hour": {"type": "integer", "minimum": 0, "maximum": 23},
    "category": {"type": "string"},
    "store": {"type": "string"},
    "customer_id": {"type": "string", "max_length": 128, "identifier": True},
    "timestamp": {"type": "time"},
}

_COUNT, _NOT_NEGATIVE = {"type": "integer", "minimum": 0, "maximum": 64}, {"type": "number", "minimum": 0}
FEATURES: dict[str, dict[str, Any]] = {
    "count_1h": _COUNT,
    "count_24h": _COUNT,
    "count_7d": _COUNT,
    "sum_24h": _NOT_NEGATIVE,
    "max_24h": _NOT_NEGATIVE,
    "seconds_since_last": {"type": "integer", "minimum": 0},
    "amount_ratio": _NOT_NEGATIVE,
    "distinct_24h": _COUNT,
    "is_new": {"type": "boolean"},
}


class Known(NamedTuple):
    """History and list entries of a transaction, which the service reads.

    Attributes
    ----------
    history
        Features by name, which can be null, for each history that is known.
    lists
        Entries of lists, case-folded if the fields ignore case; None if lists cannot be read.
    """

    history: Mapping[str, Mapping[str, Any]]
    lists: Mapping[str, Collection[str]] | None


NOTHING = Known({}, {})


class Condition(NamedTuple):
    """Type, operator and kind of operand of a comparison."""

    kind: str
    operator: str
    other: bool


class Expected(NamedTuple):
    """Assessment that the service must give."""

    score: int
    level: str
    rules: tuple[str, ...]
    reasons: tuple[dict[str, Any], ...]


def assess(
    document: Document,
    transaction: dict[str, Any],
    known: Known = NOTHING,
    decided: Counter[tuple[Condition, bool]] | None = None,
) -> Expected:
    """Evaluate a valid document on a valid transaction.

    ``decided`` counts the conditions that decided hits, and whether they held (or did not, inside a ``not``).
    """
    declared = comparable(document)
    fact = functools.partial(_fact, document, transaction, known)
    interpreter = _Interpreter(declared, fact, known.lists)
    hits = [
        rule
        for rule in document["rules"]
        if rule.get("enabled", True) and all(interpreter.holds(condition) for condition in rule["when"])
    ]
    score = max(0, sum(rule.get("points", 0) for rule in hits))
    by_score = next((level for level in LEVELS[:0:-1] if score >= document["levels"][level]), "LOW")
    bounds = [rule.get("level", "") for rule in hits]
    ceilings = [bound.removeprefix("at most ") for bound in bounds if bound.startswith("at most ")]
    floors = [bound.removeprefix("at least ") for bound in bounds if bound.startswith("at least ")]
    lowered = min([by_score, *ceilings], key=LEVELS.index)
    level = max([lowered, *floors], key=LEVELS.index)
    quotes_left = MAX_QUOTED_VALUES
    reasons = []
    for rule in hits:
        because: dict[str, Any] = {}
        for condition in interpreter.deciding({"all": rule["when"]}):
            if decided is not None:
                decided[interpreter.describe(condition), interpreter.holds(condition)] += 1
            for name in (condition["field"], condition.get("other")):
                if name is not None and name not in because and quotes_left:
                    because[name] = _quoted(fact(name))
                    quotes_left -= 1
        reason = {"rule": rule["label"], "points": rule.get("points", 0), "because": because}
        bound = rule.get("level", "")
        lifts = bound == f"at least {level}" and LEVELS.index(lowered) < LEVELS.index(level)
        lowers = bound == f"at most {level}" and level == lowered != by_score
        if lifts or lowers:
            reason["level"] = bound
        reasons.append(reason)
    return Expected(score, level, tuple(rule["label"] for rule in hits), tuple(reasons))


def declarations(document: Document) -> dict[str, dict[str, Any]]:
    """Return the declaration of every field, with the limits of the built-in ones."""
    own = document.get("fields", {})
    return {name: {**BUILT_IN.get(name, {}), **own.get(name, {})} for name in [*BUILT_IN, *own]}


def comparable(document: Document) -> dict[str, dict[str, Any]]:
    """Return the declaration of everything that conditions can compare: fields, and features of histories."""
    histories = document.get("histories", {})
    return declarations(document) | {
        f"{name}.{feature}": FEATURES[feature] for name in histories for feature in FEATURES
    }


def lists_of(rules: list[Document]) -> list[tuple[str, str]]:
    """Return the lists that rules search and the field each is searched for, in order."""
    leaves = [leaf for rule in rules for leaf in _leaves({"all": rule["when"]})]
    return [(leaf["value"], leaf["field"]) for leaf in leaves if leaf["operator"] in STORED_LISTS]


def kind_of(declared: dict[str, dict[str, Any]], field: str) -> str:
    """Return the kind of a field in conditions."""
    return {"integer": "number"}.get(declared[field]["type"], declared[field]["type"]) if field != "hour" else "hour"


def _leaves(condition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "not" in condition:
        yield from _leaves(condition["not"])
    elif parts := condition.get("all") or condition.get("any"):
        for part in parts:
            yield from _leaves(part)
    else:
        yield condition


def _fact(document: Document, transaction: dict[str, Any], known: Known, name: str) -> Any:
    """Return the value of a field or feature; None if it is missing."""
    if "." in name:
        history, feature = name.split(".")
        return known.history.get(history, {}).get(feature)
    if name == "hour" and "hour" not in transaction and "timestamp" in transaction:
        return instant(transaction["timestamp"]).hour
    return transaction.get(name, document.get("defaults", {}).get(name))


class _Interpreter(NamedTuple):
    """Evaluates conditions. A missing field is None, and so are lists that cannot be read."""

    declared: dict[str, dict[str, Any]]
    fact: Callable[[str], Any]
    lists: Mapping[str, Collection[str]] | None

    def holds(self, condition: dict[str, Any]) -> bool:
        if "all" in condition:
            return all(self.holds(part) for part in condition["all"])
        if "any" in condition:
            return any(self.holds(part) for part in condition["any"])
        if "not" in condition:
            return not self.holds(condition["not"])
        return self._comparison_holds(condition)

    def _comparison_holds(self, condition: dict[str, Any]) -> bool:
        operator, left = condition["operator"], self.fact(condition["field"])
        if operator in PRESENCE:
            return (left is None) is (operator == "is missing")
        if operator in STORED_LISTS:
            return self._list_condition_holds(condition, left)
        right = self.fact(condition["other"]) if "other" in condition else condition["value"]
        if left is None or right is None:
            return False
        if "times" in condition:
            right = condition["times"] * right
        kind = self.describe(condition).kind
        if kind == "hour":
            left = left if "of" not in condition else instant(left).hour
            if operator == "between" and right[0] > right[1]:
                return bool(left >= right[0] or left <= right[1])
        elif kind == "weekday":
            left = WEEKDAYS[instant(left).weekday()]
        elif kind == "time":
            left = instant(left)
            right = [instant(value) for value in right] if isinstance(right, list) else instant(right)
        elif kind == "string" and self._ignores_case(condition):
            left = left.casefold()
            right = [value.casefold() for value in right] if isinstance(right, list) else right.casefold()
        return _compare(left, operator, right)

    def _list_condition_holds(self, condition: dict[str, Any], value: str | None) -> bool:
        if value is None or self.lists is None:
            return False
        searched = value.casefold() if self._ignores_case(condition) else value
        return (searched in self.lists[condition["value"]]) is (condition["operator"] == "in list")

    def deciding(self, condition: dict[str, Any], *, held: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the leaves that made a condition hold, or fail."""
        if "not" in condition:
            yield from self.deciding(condition["not"], held=not held)
        elif parts := condition.get("all") or condition.get("any"):
            # All parts of an `all` that holds and of an `any` that fails decide, as all of them agree.
            for part in parts:
                if self.holds(part) == held:
                    yield from self.deciding(part, held=held)
        else:
            yield condition

    def describe(self, condition: dict[str, Any]) -> Condition:
        kind = condition["of"] if "of" in condition else kind_of(self.declared, condition["field"])
        return Condition(kind, condition["operator"], "other" in condition)

    def _ignores_case(self, condition: dict[str, Any]) -> bool:
        names = [condition["field"], condition.get("other", condition["field"])]
        return any(self.declared[name].get("case") == "ignore" for name in names)


def _compare(left: Any, operator: str, right: Any) -> bool:  # noqa: C901, PLR0911, PLR0912  a case per operator
    match operator:
        case "==":
            return bool(left == right)
        case "!=":
            return bool(left != right)
        case ">":
            return bool(left > right)
        case ">=":
            return bool(left >= right)
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case "in":
            return left in right
        case "not in":
            return left not in right
        case "between":
            return bool(right[0] <= left <= right[1])
        case "starts with":
            return bool(left[: len(right)] == right)
        case "ends with":
            return bool(left[-len(right) :] == right)
        case "contains":
            return right in left
        case _:
            raise AssertionError(operator)


def instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _quoted(value: Any) -> Any:
    if isinstance(value, str) and len(value) > QUOTED_LENGTH:
        return f"{value[: QUOTED_LENGTH - 1]}…"
    return value
