"""Checks that the loaders of a rule set share. All raise RuleSetError; ``where`` begins its text."""

from collections.abc import Set as AbstractSet
from typing import Any

from scoring.errors import RuleSetError
from scoring.strict_json import SHOWN_LENGTH, type_name

MAX_NAME_LENGTH = 40

# Key under which a decoded object stores the name that it repeats.
REPEATED = object()


def check_names(where: str, value: Any, required: AbstractSet[str], known: AbstractSet[str]) -> None:
    """Check that a value is an object with all the required names and only known ones."""
    if isinstance(value, dict) and required <= value.keys() <= known:
        return
    check_object(where, value)
    for missing in sorted(required - value.keys()):
        raise RuleSetError(f"{where} lacks {missing!r}")
    for unknown in sorted(value.keys() - known):
        raise RuleSetError(f"{where} has an unknown name {shown(unknown)}")


def check_object(where: str, value: Any) -> None:
    """Check that a value is an object without repeated names."""
    if not isinstance(value, dict):
        raise RuleSetError(f"{where} must be an object")
    if REPEATED in value:
        raise RuleSetError(f"{where} has the name {shown(value[REPEATED])} more than once")


def check_name(where: str, value: Any) -> str:
    """Return the name of a field, history or list if it is valid."""
    # A regular expression would have to be compiled at every start.
    valid = isinstance(value, str) and value.isascii() and value.isidentifier() and value == value.lower()
    if not valid or value[0] == "_" or len(value) > MAX_NAME_LENGTH:
        raise RuleSetError(
            f"{where}: a name must have 1 to {MAX_NAME_LENGTH} lower-case letters, digits and '_', "
            "and begin with a letter"
        )
    name: str = value
    return name


def check_printable(where: str, value: Any, length: int) -> str:
    """Return a value if it is one line of 1 to ``length`` visible characters."""
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


def listed(names: list[str]) -> str:
    """Return names for an error message, shortened to about 300 characters."""
    text = ", ".join(names)
    return text if len(text) <= 300 else text[:300].rpartition(", ")[0] + ", ..."


def shown(value: Any) -> str:
    """Return a value for an error message: text quoted and shortened, anything else by its type."""
    return repr(value[:SHOWN_LENGTH]) if isinstance(value, str) else type_name(value)
