"""The corpus as transactions of batches: an array and JSON Lines with each case between valid transactions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.corpus import JSON, VARIABLE_FIELDS, Case

# Valid under the rule sets of both corpora
GOOD = b'{"amount": 20, "currency": "EUR"}'
_MAX_CASES = 400
_MAX_BYTES = 4_000_000


class Format(NamedTuple):
    """A format of a batch."""

    content_type: str
    start: bytes
    separator: bytes
    end: bytes


ARRAY = Format("application/json", b"[", b", ", b"]")
LINES = Format("application/x-ndjson", b"", b"\n", b"\n")
FORMATS = (ARRAY, LINES)


def candidates(cases: Sequence[Case]) -> list[Case]:
    """Return the cases of ``POST /score`` that depend on the body alone."""
    return [
        case
        for case in cases
        if (case.method, case.path, case.headers) == ("POST", "/score", JSON) and not case.only_event
    ]


def carried(cases: Sequence[Case], how: Format) -> list[Case]:
    """Return the cases of ``POST /score`` whose body a batch can carry as one transaction."""
    fits = _fits_array if how is ARRAY else _fits_line
    return [case for case in candidates(cases) if fits(case.body)]


def batched(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Split cases into batches within the limits of number and size."""
    batch: list[Case] = []
    for case in cases:
        if len(batch) == _MAX_CASES or sum(len(one.body) for one in [*batch, case]) > _MAX_BYTES:
            yield batch
            batch = []
        batch.append(case)
    yield batch


def body(cases: Sequence[Case], how: Format) -> bytes:
    """Return a batch with a valid transaction before each case and after the last one."""
    return how.start + how.separator.join([GOOD, *(part for case in cases for part in (case.body, GOOD))]) + how.end


def check(case: Case, result: Mapping[str, Any]) -> None:
    """Fail unless the result of a transaction is what the single request gets."""
    if case.error is not None:
        assert result == {"error": case.error}, case.name
    else:
        assert isinstance(case.expected, Mapping)
        found = {name: value for name, value in result.items() if name in case.expected or name not in VARIABLE_FIELDS}
        assert found == case.expected, case.name


def _fits_line(text: bytes) -> bool:
    return b"\n" not in text and text.strip() != b"" and len(text) < _MAX_BYTES


def _fits_array(text: bytes) -> bool:
    """Return whether an array that contains this text is still JSON, apart from what only this service refuses."""
    try:
        json.loads(text.decode(), parse_int=float)
    except RecursionError:
        return text.count(b"[") == text.count(b"]") and text.count(b"{") == text.count(b"}")
    except ValueError:
        return False
    return len(text) < _MAX_BYTES
