"""Transactions and their ids. :mod:`scoring.fields` reads a transaction from a request."""

import hashlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from scoring.errors import InvalidRequest
from scoring.strict_json import is_unicode

UNKNOWN_TX_ID = "unknown"
MAX_ID_LENGTH = 128

# json.dumps() would create an encoder for every call.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Transaction(NamedTuple):
    """A valid transaction.

    Attributes
    ----------
    values
        The declared fields, as the caller sent them.
    facts
        What rules compare: the values, and defaults for missing fields. Times are :class:`~datetime.datetime`; text of
        fields that ignore case is case-folded.
    unknown
        Names of the fields that are not declared.
    derived
        Facts that the service adds, as reasons quote them: the hour of ``timestamp``, and the history.
    """

    values: dict[str, Any]
    facts: dict[str, Any]
    unknown: tuple[str, ...] = ()
    derived: Mapping[str, Any] = MappingProxyType({})


def check_text(name: str, value: Any) -> str:
    """Return the value of a field if it is text.

    Raises
    ------
    InvalidRequest
        It is not a string, or contains lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"Field '{name}' must be a string")
    if not (value.isascii() or is_unicode(value)):
        raise InvalidRequest(f"Field '{name}' must be valid Unicode text")
    return value


def check_id(name: str, value: Any, max_length: int = MAX_ID_LENGTH) -> str:
    """Return a transaction id, a customer id or another line of text if it is valid.

    Raises
    ------
    InvalidRequest
        It is not a string of 1 to ``max_length`` characters, or contains control characters or lone surrogates.
    """
    text = check_text(name, value)
    if not 1 <= len(text) <= max_length:
        raise InvalidRequest(f"Field '{name}' must have 1 to {max_length} characters")
    if _CONTROL_CHARACTER.search(text):
        raise InvalidRequest(f"Field '{name}' must not contain control characters")
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
        canonical = _canonical(document)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply") from None
    return hashlib.sha256(canonical.encode()).hexdigest()
