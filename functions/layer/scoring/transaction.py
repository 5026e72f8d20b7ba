"""Transactions, and the checks of their fields.

A missing ``amount`` or an invalid field raises :class:`~scoring.errors.InvalidRequest`, which names it. A broken
producer thus gets an error at once, not a LOW for every transaction.
"""

import hashlib
import json
import re
from typing import Any, NamedTuple

from scoring.errors import InvalidRequest
from scoring.strict_json import is_finite, is_unicode, type_name

UNKNOWN_TX_ID = "unknown"
MAX_TX_ID_LENGTH = 128

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Transaction(NamedTuple):
    """A valid transaction. Optional fields that the caller did not send are None.

    Attributes
    ----------
    amount
        In the currency that the rules assume; finite, at least 0.
    hour
        Local hour of the day, 0 to 23.
    category, store
        Any text.
    tx_id
        1 to 128 characters.
    """

    amount: float
    hour: int | None = None
    category: str | None = None
    store: str | None = None
    tx_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that the caller sent."""
        fields = {
            "tx_id": self.tx_id,
            "amount": self.amount,
            "category": self.category,
            "store": self.store,
            "hour": self.hour,
        }
        return {name: value for name, value in fields.items() if value is not None}


def validate(document: Any) -> Transaction:
    """Check a decoded JSON document field by field. Unknown fields are ignored.

    Raises
    ------
    InvalidRequest
        The document is not an object, ``amount`` is missing, or a field has the wrong type or range. The text names the
        first such field.
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
    """Return a transaction id if it is valid.

    Raises
    ------
    InvalidRequest
        It is not a string of 1 to 128 characters, or contains control characters or lone surrogates.
    """
    text = _text("tx_id", value)
    if not 1 <= len(text) <= MAX_TX_ID_LENGTH:
        raise InvalidRequest(f"Field 'tx_id' must have 1 to {MAX_TX_ID_LENGTH} characters")
    if _CONTROL_CHARACTER.search(text):
        raise InvalidRequest("Field 'tx_id' must not contain control characters")
    return text


def fingerprint(document: Any) -> str:
    """Hash a decoded request, to tell a retry from a different request with the same key.

    White space, the order of names and escapes make no difference; 100 and 100.0 do. Unknown fields count as well: a
    retry repeats them.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.

    Raises
    ------
    InvalidRequest
        The document is nested too deeply for Python.
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
