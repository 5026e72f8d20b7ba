"""Fields of a transaction: their types and limits, and how to read them from a request.

Seven fields are built in. A rule set can declare more, and narrow the built-in ones. A missing required field or an
invalid value raises :class:`~scoring.errors.InvalidRequest`, which names the field: a broken producer gets an error at
once, not a LOW for every transaction.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring.errors import InvalidRequest
from scoring.strict_json import SHOWN_LENGTH, is_finite, type_name
from scoring.transaction import MAX_ID_LENGTH, Transaction, check_id, check_text

if TYPE_CHECKING:
    from datetime import datetime

# Name of an item's idempotency key in a batch; no rule set can declare it.
KEY_FIELD = "idempotency_key"

# Integers have 64 bits, as in databases and other languages.
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

_SHOWN_VALUES = 10
# RFC 3339, section 5.6, without leap seconds, which Python cannot represent.
_TIME = r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"


class Field(NamedTuple):
    """A field of a transaction. Limits that do not apply are None.

    Attributes
    ----------
    name
        Name in the transaction.
    type
        "string", "number", "integer", "boolean" or "time".
    minimum, maximum
        Inclusive limits of a number or integer.
    max_length
        Maximum characters of a string.
    one_of
        The only valid values of a string, number or integer.
    required
        Whether every transaction must have the field.
    ignores_case
        Whether comparisons of a string ignore case.
    description
        Shown in the OpenAPI document; may be empty.
    """

    name: str
    type: str
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    one_of: tuple[Any, ...] | None = None
    required: bool = False
    ignores_case: bool = False
    description: str = ""


BUILT_IN = (
    Field("tx_id", "string", max_length=MAX_ID_LENGTH),
    Field("amount", "number", minimum=0, required=True),
    Field("category", "string"),
    Field("store", "string"),
    Field("hour", "integer", minimum=0, maximum=23),
    Field("customer_id", "string", max_length=MAX_ID_LENGTH),
    Field("timestamp", "time"),
)
# Built-in strings that are ids: neither empty nor with control characters.
_IDS = ("tx_id", "customer_id")


class Fields:
    """Reads transactions that have the fields of a rule set.

    If ``hour`` is missing, it is the hour of ``timestamp``, at the offset of that time. Without either, it is the
    default of the rule set, if it has one.

    Parameters
    ----------
    declared
        All fields, the built-in ones included.
    defaults
        Values that rules use for missing fields.
    refuse_unknown
        Whether a field that is not declared makes a transaction invalid.

    Raises
    ------
    InvalidRequest
        A default is not a valid value of its field.
    """

    def __init__(
        self,
        declared: Iterable[Field] = BUILT_IN,
        defaults: Mapping[str, Any] | None = None,
        *,
        refuse_unknown: bool = False,
    ) -> None:
        self.declared = tuple(declared)
        self.defaults = dict(defaults or {})
        self.refuse_unknown = refuse_unknown
        self._required = tuple(field.name for field in self.declared if field.required)
        self._readers = {field.name: reader(field) for field in self.declared}
        self._default_facts = {name: self._readers[name](value) for name, value in self.defaults.items()}

    def read(self, document: Any) -> Transaction:
        """Check a decoded JSON document field by field.

        Raises
        ------
        InvalidRequest
            The document is not an object, lacks a required field, or has an invalid one. The text names the first such
            field.
        """
        if not isinstance(document, dict):
            raise InvalidRequest(f"The transaction must be a JSON object, not {type_name(document)}")
        for name in self._required:
            if name not in document:
                raise InvalidRequest(f"Missing required field {name!r}")
        unknown = []
        facts = self._default_facts.copy()
        for name, value in document.items():
            read = self._readers.get(name)
            if read:
                facts[name] = read(value)
            elif self.refuse_unknown:
                raise InvalidRequest(f"Unknown field {name[:SHOWN_LENGTH]!r}")
            else:
                unknown.append(name)
        values = {name: value for name, value in document.items() if name in self._readers} if unknown else document
        if "timestamp" in document and "hour" not in document:
            facts["hour"] = facts["timestamp"].hour
            return Transaction(values, facts, tuple(unknown), {"hour": facts["hour"]})
        return Transaction(values, facts, tuple(unknown))


def reader(field: Field) -> Callable[[Any], Any]:
    """Return a function that checks a value of a field and returns what rules compare.

    It raises :class:`~scoring.errors.InvalidRequest` if the value is invalid.
    """
    name = field.name
    if name not in _IDS:
        return _READERS[field.type](field)
    if field in BUILT_IN:
        return lambda value: check_id(name, value)
    text = _string_reader(field)
    return lambda value: text(check_id(name, value))


def parse_time(value: Any) -> "datetime | None":
    """Parse an RFC 3339 time with an offset; return None if the value is anything else."""
    # Functions that read no times do not pay for this import and for compiling the pattern.
    from datetime import datetime  # noqa: PLC0415

    if not isinstance(value, str) or not re.fullmatch(_TIME, value, re.ASCII | re.IGNORECASE):
        return None
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        return None


def _string_reader(field: Field) -> Callable[[Any], str]:
    name, max_length, ignores_case = field.name, field.max_length, field.ignores_case
    allowed = None
    if field.one_of is not None:
        allowed = frozenset(value.casefold() if ignores_case else value for value in field.one_of)

    def read(value: Any) -> str:
        text = check_text(name, value)
        if max_length is not None and len(text) > max_length:
            raise InvalidRequest(f"Field '{name}' must have at most {max_length} characters")
        if ignores_case:
            text = text.casefold()
        if allowed is not None and text not in allowed:
            raise InvalidRequest(_one_of(field))
        return text

    return read


def _number_reader(field: Field) -> Callable[[Any], float]:
    name, minimum, maximum = field.name, field.minimum, field.maximum
    allowed = None if field.one_of is None else frozenset(field.one_of)

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest(f"Field '{name}' must be a number")
        if not is_finite(value):
            raise InvalidRequest(f"Field '{name}' must be a finite number")
        if minimum is not None and value < minimum:
            limit = f"be at least {minimum}" if minimum else "not be negative"
            raise InvalidRequest(f"Field '{name}' must {limit}")
        if maximum is not None and value > maximum:
            raise InvalidRequest(f"Field '{name}' must be at most {maximum}")
        if allowed is not None and value not in allowed:
            raise InvalidRequest(_one_of(field))
        return value

    return read


def _integer_reader(field: Field) -> Callable[[Any], int]:
    minimum = MIN_INTEGER if field.minimum is None else field.minimum
    maximum = MAX_INTEGER if field.maximum is None else field.maximum
    limits = "of 64 bits" if (minimum, maximum) == (MIN_INTEGER, MAX_INTEGER) else f"from {minimum} to {maximum}"
    allowed = None if field.one_of is None else frozenset(field.one_of)

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise InvalidRequest(f"Field '{field.name}' must be an integer {limits}")
        if allowed is not None and value not in allowed:
            raise InvalidRequest(_one_of(field))
        return value

    return read


def _boolean_reader(field: Field) -> Callable[[Any], bool]:
    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise InvalidRequest(f"Field '{field.name}' must be true or false")
        return value

    return read


def _time_reader(field: Field) -> "Callable[[Any], datetime]":
    def read(value: Any) -> "datetime":
        time = parse_time(value)
        if time is None:
            raise InvalidRequest(
                f"Field '{field.name}' must be a time with an offset in RFC 3339, such as '2026-11-25T08:30:00+01:00'"
            )
        return time

    return read


def _one_of(field: Field) -> str:
    values = field.one_of or ()
    shown = [repr(value[:SHOWN_LENGTH] if isinstance(value, str) else value) for value in values[:_SHOWN_VALUES]]
    if len(values) > _SHOWN_VALUES:
        shown.append("...")
    return f"Field '{field.name}' must be one of {', '.join(shown)}"


_READERS: dict[str, Callable[[Field], Callable[[Any], Any]]] = {
    "string": _string_reader,
    "number": _number_reader,
    "integer": _integer_reader,
    "boolean": _boolean_reader,
    "time": _time_reader,
}
