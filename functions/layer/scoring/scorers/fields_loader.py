"""Load the fields and histories that a rule set declares."""

from collections.abc import Iterable, Mapping
from typing import Any

from scoring import fields
from scoring.errors import InvalidRequest, RuleSetError
from scoring.fields import BUILT_IN, KEY_FIELD, Field
from scoring.history import FEATURES, History
from scoring.scorers import checks
from scoring.scorers.checks import shown

MAX_FIELDS = 50
MAX_TEXT_LENGTH = 65_536
MAX_DESCRIPTION_LENGTH = 200
# Each history makes a decision six DynamoDB write units more expensive.
MAX_HISTORIES = 3
# profiles.MAX_ENTRIES, without the import of that module
MAX_COUNT = 64

_LIMITS = {
    "string": frozenset({"max_length", "one_of", "case"}),
    "number": frozenset({"minimum", "maximum", "one_of"}),
    "integer": frozenset({"minimum", "maximum", "one_of"}),
    "boolean": frozenset[str](),
    "time": frozenset[str](),
}
_OF_EVERY_TYPE = frozenset({"type", "required", "description"})
_HISTORY_NAMES = frozenset({"by", "distinct"})
_HISTORY_TYPES = ("string", "integer")


def load(declarations: Any) -> dict[str, Field]:
    """Return the fields of a rule set by name: the built-in ones, with the limits that it declares, and its own.

    Raises
    ------
    RuleSetError
        A declaration is invalid; the text names the field.
    """
    found = {field.name: field for field in BUILT_IN}
    where = "The rule set's 'fields'"
    checks.check_object(where, declarations)
    if len(declarations.keys() - found.keys()) > MAX_FIELDS:
        raise RuleSetError(f"{where} must be at most {MAX_FIELDS}, not counting the built-in ones")
    for name, declaration in declarations.items():
        found[name] = _field(name, declaration, found.get(name))
    return found


def load_histories(declarations: Any, declared: Mapping[str, Field]) -> tuple[History, ...]:
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
        checks.check_name(f"History {shown(name)}", name)
        pair = _by_and_distinct(f"History {name!r}", declaration, declared)
        if pair in names:
            raise RuleSetError(f"Histories {names[pair]!r} and {name!r} have the same 'by' and 'distinct'")
        names[pair] = name
    return tuple([History(name, *pair) for pair, name in names.items()])


def history_fields(histories: tuple[History, ...]) -> dict[str, Field]:
    """Return what rules can compare of histories, by name: ``customer.count_1h``, for example."""
    found = {}
    for history in histories:
        for feature, kind in FEATURES.items():
            name = f"{history.name}.{feature}"
            minimum = None if kind == "boolean" else 0
            maximum = MAX_COUNT if feature.startswith(("count", "distinct")) else None
            found[name] = Field(name, kind, minimum, maximum)
    return found


def _field(name: str, declaration: Any, built_in: Field | None) -> Field:
    if built_in is None:
        checks.check_name(f"Field {shown(name)}", name)
    where = f"Field {name!r}"
    if name == KEY_FIELD:
        raise RuleSetError(f"{where} is reserved: transactions in a batch can have an idempotency key of this name")
    kind = declaration.get("type", built_in and built_in.type) if isinstance(declaration, dict) else None
    names = _OF_EVERY_TYPE | (_LIMITS.get(kind, frozenset()) if isinstance(kind, str) else frozenset())
    if isinstance(kind, str) and kind not in _LIMITS:
        raise RuleSetError(f"{where}: unknown type {shown(kind)}; known are {', '.join(_LIMITS)}")
    checks.check_names(where, declaration, frozenset() if built_in else frozenset({"type"}), names)
    if not isinstance(kind, str):
        raise RuleSetError(f"{where}: 'type' must be a string, not {shown(kind)}")
    if built_in and kind != built_in.type:
        raise RuleSetError(f"{where} is built in: its type is {built_in.type}, not {shown(kind)}")
    return _limited(where, built_in or Field(name, kind), declaration)


def _limited(where: str, field: Field, declaration: Mapping[str, Any]) -> Field:
    """Return a field with the limits of a declaration; each limit must be a valid value of the field."""
    changes: dict[str, Any] = {}
    for limit in ("minimum", "maximum"):
        if limit in declaration:
            _read(f"{where}: {limit!r}", field, [declaration[limit]])
            changes[limit] = declaration[limit]
    if "max_length" in declaration:
        longest = field.max_length or MAX_TEXT_LENGTH
        changes["max_length"] = checks.check_integer(f"{where}: 'max_length'", declaration["max_length"], 1, longest)
    if "case" in declaration:
        if declaration["case"] != "ignore":
            raise RuleSetError(f"{where}: 'case' must be 'ignore', not {shown(declaration['case'])}")
        changes["ignores_case"] = True
    limited = field._replace(**changes, **_notes(where, field, declaration))
    if limited.minimum is not None and limited.maximum is not None and limited.minimum > limited.maximum:
        raise RuleSetError(f"{where}: 'minimum' is greater than 'maximum'")
    if "one_of" in declaration:
        return limited._replace(one_of=_one_of(f"{where}: 'one_of'", limited, declaration["one_of"]))
    return limited


def _notes(where: str, field: Field, declaration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a declaration that every type has."""
    changes: dict[str, Any] = {}
    if "required" in declaration:
        changes["required"] = checks.check_boolean(f"{where}: 'required'", declaration["required"])
        if field.required and not changes["required"]:
            raise RuleSetError(f"{where} is built in and always required")
    if "description" in declaration:
        changes["description"] = checks.check_printable(
            f"{where}: 'description'", declaration["description"], MAX_DESCRIPTION_LENGTH
        )
    return changes


def _one_of(where: str, field: Field, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list) or not values:
        raise RuleSetError(f"{where} must be a list of at least one value")
    if len(set(_read(where, field, values))) < len(values):
        raise RuleSetError(f"{where} has a value more than once")
    return tuple(values)


def _read(where: str, field: Field, values: Iterable[Any]) -> list[Any]:
    """Return what rules compare for values, each of which must be valid for the field."""
    read = fields.reader(field)
    try:
        return [read(value) for value in values]
    except InvalidRequest as error:
        raise RuleSetError(f"{where}: {error}") from None


def _by_and_distinct(where: str, declaration: Any, declared: Mapping[str, Field]) -> tuple[str, str]:
    """Return the fields ``by`` and ``distinct`` of a declaration."""
    checks.check_names(where, declaration, _HISTORY_NAMES, _HISTORY_NAMES)
    for role in ("by", "distinct"):
        name = declaration[role]
        field = declared.get(name) if isinstance(name, str) else None
        if field is None:
            known = sorted([field.name for field in declared.values() if field.type in _HISTORY_TYPES])
            raise RuleSetError(
                f"{where}: {role!r} must be a field, not {shown(name)}; known are {checks.listed(known)}"
            )
        if field.type not in _HISTORY_TYPES:
            raise RuleSetError(
                f"{where}: {role!r} must be a field of type string or integer, and {name!r} is a {field.type}"
            )
    by, distinct = declaration["by"], declaration["distinct"]
    if by == distinct:
        raise RuleSetError(f"{where}: 'by' and 'distinct' must be different fields, not both {by!r}")
    return by, distinct
