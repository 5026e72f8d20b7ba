"""Strict JSON: a parser, an encoder, and checks of decoded values.

Python's own parser also accepts NaN and repeated names.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from scoring.errors import InvalidRequest

# Characters of a caller's text that error messages, warnings and reasons quote.
SHOWN_LENGTH = 64

_TYPE_NAMES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}

# Returns JSON text in ASCII without white space. json.dumps() would create an encoder for every call.
encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class _ConstantError(ValueError):
    """NaN or an infinity."""


def parse(text: str, what: str = "The body", decode: Callable[[str], Any] | None = None) -> Any:
    """Decode a JSON text.

    Parameters
    ----------
    text
        The JSON text.
    what
        How error messages name the text, as in "The body is not valid JSON".
    decode
        A decoder made by :func:`decoder`; by default one that refuses repeated names.

    Raises
    ------
    InvalidRequest
        The text is not JSON as RFC 8259 defines it, or has a name twice in one object (parsers disagree on which one
        counts), nesting too deep for Python, or an integer of more than 4,300 digits.
    """
    if text.startswith("\ufeff"):
        raise InvalidRequest(f"{what} is not valid JSON: it starts with a byte order mark")
    try:
        return (decode or _decode)(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidRequest(f"{what} is not valid JSON: {error.msg} ({where})") from None
    except _ConstantError as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error} is not a number in JSON") from None
    except ValueError:
        # CPython raises a plain ValueError for integers with too many digits.
        raise InvalidRequest(f"{what} is not valid JSON: a number has too many digits") from None
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deeply") from None


def decoder(to_object: Callable[[list[tuple[str, Any]]], Any]) -> Callable[[str], Any]:
    """Return a decoder that builds each object with ``to_object(pairs)`` and refuses NaN and Infinity."""
    return json.JSONDecoder(object_pairs_hook=to_object, parse_constant=_refuse_constant).decode


def repeated_name(pairs: list[tuple[str, Any]]) -> str:
    """Return the first name that occurs a second time; there must be one."""
    names, seen = iter(pairs), set[str]()
    while (name := next(names)[0]) not in seen:
        seen.add(name)
    return name


def is_finite(number: float) -> bool:
    """Return whether a number is finite as a double. An integer beyond the largest double is not."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8. A lone surrogate, which JSON can escape, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_name(value: Any) -> str:
    """Return the name of a value's JSON type, such as "a string"."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest(f"Field {repeated_name(pairs)[:SHOWN_LENGTH]!r} appears more than once")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


_decode = decoder(_unique_names)
