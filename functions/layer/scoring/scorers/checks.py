"""Checks of a rule set document that its loaders share. All raise RuleSetError, which names the place."""

from collections.abc import Set as AbstractSet
from typing import Any

from scoring.errors import RuleSetError
from scoring.fields import SHOWN_LENGTH
from scoring.strict_json import type_name

# Key under which a decoded object stores the name that it repeats.
REPEATED = object()


def check_names(
    where: str, value: Any, required: AbstractSet[str] = frozenset(), known: AbstractSet[str] = frozenset()
) -> None:
    """Check that a value is an object that has the required names, and none but the known ones."""
    if not isinstance(value, dict):
        raise RuleSetError(f"{where} must be an object")
    names = value.keys()
    if required <= names <= known:
        return
    if REPEATED in value:
        raise RuleSetError(f"{where} has the name {shown(value[REPEATED])} more than once")
    for missing in sorted(required - names):
        raise RuleSetError(f"{where} lacks {missing!r}")
    for unknown in sorted(names - known):
        raise RuleSetError(f"{where} has an unknown name {shown(unknown)}")


def check_printable(where: str, value: Any, length: int) -> str:
    """Return a value if it is one line of visible text."""
    if not is_printable(value, length):
        raise RuleSetError(f"{where} must have 1 to {length} printable characters, not all blank")
    text: str = value
    return text


def is_printable(value: Any, length: int) -> bool:
    """Return whether a value is one line of 1 to ``length`` visible characters."""
    return isinstance(value, str) and len(value) <= length and value.isprintable() and bool(value.strip())


def check_integer(where: str, value: Any, minimum: int, maximum: int) -> int:
    """Return a value if it is an integer within these limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise RuleSetError(f"{where} must be an integer from {minimum} to {maximum}")
    return value


def check_boolean(where: str, value: Any) -> bool:
    """Return a value if it is a boolean."""
    if not isinstance(value, bool):
        raise RuleSetError(f"{where} must be true or false")
    return value


def shown(value: Any) -> str:
    """Return a value for an error message: text quoted and shortened, anything else by its type."""
    return repr(value[:SHOWN_LENGTH]) if isinstance(value, str) else type_name(value)
