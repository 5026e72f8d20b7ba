"""Load the histories that a rule set declares."""

from collections.abc import Mapping
from typing import Any

from scoring.errors import RuleSetError
from scoring.fields import Field
from scoring.history import FEATURES, History
from scoring.scorers import checks

# Each history makes a decision six DynamoDB write units more expensive.
MAX_HISTORIES = 3
# profiles.MAX_ENTRIES, without the import of that module
MAX_COUNT = 64

_NAMES = frozenset({"by", "distinct"})
_TYPES = ("string", "integer")


def load(declarations: Any, declared: Mapping[str, Field]) -> tuple[History, ...]:
    """Return the histories of a rule set, in its order.

    Parameters
    ----------
    declarations
        The decoded ``histories`` of the rule set.
    declared
        All fields of a transaction, by name.

    Raises
    ------
    RuleSetError
        A declaration is invalid; the text names the history.
    """
    where = "The rule set's 'histories'"
    checks.check_object(where, declarations)
    if len(declarations) > MAX_HISTORIES:
        raise RuleSetError(f"{where} must be at most {MAX_HISTORIES}")
    names: dict[tuple[str, str], str] = {}
    for name, declaration in declarations.items():
        checks.check_name(f"History {checks.shown(name)}", name)
        pair = _pair(f"History {name!r}", declaration, declared)
        if pair in names:
            raise RuleSetError(f"Histories {names[pair]!r} and {name!r} have the same 'by' and 'distinct'")
        names[pair] = name
    return tuple([History(name, *pair) for pair, name in names.items()])


def fields(histories: tuple[History, ...]) -> dict[str, Field]:
    """Return what rules can compare of histories, by name: ``customer.count_1h``, for example."""
    found = {}
    for history in histories:
        for feature, kind in FEATURES.items():
            name = f"{history.name}.{feature}"
            minimum = None if kind == "boolean" else 0
            maximum = MAX_COUNT if feature.startswith(("count", "distinct")) else None
            found[name] = Field(name, kind, minimum, maximum)
    return found


def _pair(where: str, declaration: Any, declared: Mapping[str, Field]) -> tuple[str, str]:
    """Return the fields ``by`` and ``distinct`` of a declaration."""
    checks.check_names(where, declaration, _NAMES, _NAMES)
    for role in ("by", "distinct"):
        name = declaration[role]
        field = declared.get(name) if isinstance(name, str) else None
        if field is None:
            known = sorted([field.name for field in declared.values() if field.type in _TYPES])
            raise RuleSetError(
                f"{where}: {role!r} must be a field, not {checks.shown(name)}; known are {checks.listed(known)}"
            )
        if field.type not in _TYPES:
            raise RuleSetError(
                f"{where}: {role!r} must be a field of type string or integer, and {name!r} is a {field.type}"
            )
    by, distinct = declaration["by"], declaration["distinct"]
    if by == distinct:
        raise RuleSetError(f"{where}: 'by' and 'distinct' must be different fields, not both {by!r}")
    return by, distinct
