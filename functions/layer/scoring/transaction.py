"""The only gate through which a transaction enters: strict JSON first, then each field.

Nothing wrong passes as a guess: what does not fit the contract is an :class:`~scoring.errors.InvalidRequest` that names
it, so that a broken producer is told at once instead of reading LOW for every transaction.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from scoring.errors import InvalidRequest

UNKNOWN_TX_ID = "unknown"
MAX_TX_ID_LENGTH = 128

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Half of a UTF-16 pair: legal in a JSON escape, impossible to store or send as UTF-8.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SHOWN_NAME_LENGTH = 64
_JSON_TYPE_NAMES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class Transaction(NamedTuple):
    """A transaction that fits the contract.

    Attributes
    ----------
    amount
        In the currency of the rule set, finite, at least 0.
    hour
        Local hour of the day, 0 to 23; None where the caller gave none.
    category, store
        None where the caller gave none.
    tx_id
        1 to 128 characters; None where the caller gave none.
    """

    amount: float
    hour: int | None = None
    category: str | None = None
    store: str | None = None
    tx_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that the caller gave, under their names in the contract."""
        fields = {
            "tx_id": self.tx_id,
            "amount": self.amount,
            "category": self.category,
            "store": self.store,
            "hour": self.hour,
        }
        return {name: value for name, value in fields.items() if value is not None}


class _Constant(ValueError):
    """NaN or an infinity, which Python's parser would accept."""


def parse_json(text: str, what: str = "The body", decode: Callable[[str], Any] | None = None) -> Any:
    """Decode a JSON text, strictly.

    Parameters
    ----------
    text
        The JSON text.
    what
        What the error calls it, as in "The body is not valid JSON".
    decode
        From :func:`decoder`, for another way to take an object in which a name appears twice.

    Raises
    ------
    InvalidRequest
        Not JSON as RFC 8259 has it: malformed, NaN or Infinity, a name that appears twice in one object (parsers
        disagree on which one counts), nested deeper than Python can follow, or an integer of more than 4,300 digits.
    """
    if text.startswith("\ufeff"):
        raise InvalidRequest(f"{what} is not valid JSON: it starts with a byte order mark")
    try:
        return (decode or _decode)(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidRequest(f"{what} is not valid JSON: {error.msg} ({where})") from None
    except _Constant as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error} is not a number in JSON") from None
    except ValueError:
        # CPython's limit on the conversion of long integers, a plain ValueError.
        raise InvalidRequest(f"{what} is not valid JSON: a number has too many digits") from None
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deeply") from None


def decoder(to_object: Callable[[list[tuple[str, Any]]], Any]) -> Callable[[str], Any]:
    """Return a strict decoder that builds each object with ``to_object(pairs)``."""
    return json.JSONDecoder(object_pairs_hook=to_object, parse_constant=_no_constant).decode


def repeated_name(pairs: list[tuple[str, Any]]) -> str:
    """Return the first name that appears again, of pairs in which one does."""
    names, seen = iter(pairs), set[str]()
    while (name := next(names)[0]) not in seen:
        seen.add(name)
    return name


def validate(document: Any) -> Transaction:
    """Check a decoded JSON document field by field.

    Unknown fields are ignored. The name of the first field that is wrong stands in the error.

    Raises
    ------
    InvalidRequest
        The document is not an object, ``amount`` is missing, or a field has the wrong type or range.
    """
    if not isinstance(document, dict):
        raise InvalidRequest(f"The transaction must be a JSON object, not {type_name(document)}")
    if "amount" not in document:
        raise InvalidRequest("Missing required field 'amount'")
    return Transaction(
        amount=_amount(document["amount"]),
        hour=_hour(document["hour"]) if "hour" in document else None,
        category=_text("category", document["category"]) if "category" in document else None,
        store=_text("store", document["store"]) if "store" in document else None,
        tx_id=check_tx_id(document["tx_id"]) if "tx_id" in document else None,
    )


def check_tx_id(value: Any) -> str:
    """Return the transaction id where it fits the contract.

    Raises
    ------
    InvalidRequest
        Not a string, empty, longer than 128 characters, or with control characters or lone surrogates.
    """
    text = _text("tx_id", value)
    if not 1 <= len(text) <= MAX_TX_ID_LENGTH:
        raise InvalidRequest(f"Field 'tx_id' must have 1 to {MAX_TX_ID_LENGTH} characters")
    if _CONTROL_CHARACTER.search(text):
        raise InvalidRequest("Field 'tx_id' must not contain control characters")
    return text


def is_finite(number: float) -> bool:
    """Whether a number is finite as a double; an integer beyond the largest one is not."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def is_unicode(text: str) -> bool:
    """Whether a text can be stored and sent as UTF-8, which half of a surrogate pair cannot."""
    return not _LONE_SURROGATE.search(text)


def type_name(value: Any) -> str:
    """Return the name of a value's type in JSON, such as "a string"."""
    return _JSON_TYPE_NAMES.get(type(value), type(value).__name__)


def fingerprint(document: Any) -> str:
    """Hash of a decoded request, by which a retry is told from another request under the same key.

    White space, the order of names and escapes make no difference; 100 and 100.0 do. Unknown fields count: a retry
    repeats them, a key that is used for something else does not.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.

    Raises
    ------
    InvalidRequest
        Nested deeper than Python can follow.
    """
    try:
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply") from None
    return hashlib.sha256(canonical.encode()).hexdigest()


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest("Field 'amount' must be a number")
    if not is_finite(value):
        raise InvalidRequest("Field 'amount' must be a finite number")
    if value < 0:
        raise InvalidRequest("Field 'amount' must not be negative")
    return value


def _hour(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 23:
        raise InvalidRequest("Field 'hour' must be an integer from 0 to 23")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"Field '{name}' must be a string")
    if not is_unicode(value):
        raise InvalidRequest(f"Field '{name}' must be valid Unicode text")
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest(f"Field {repeated_name(pairs)[:_SHOWN_NAME_LENGTH]!r} appears more than once")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise _Constant(name)


_decode = decoder(_unique_names)
