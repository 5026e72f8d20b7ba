"""Strict JSON: malformed texts, repeated names, equivalence with Python's decoder."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import strict_json
from scoring.errors import InvalidRequest
from tests.unit.strategies import JSON_VALUES


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "The body is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)"),
        ('{"amount": 1} x', "The body is not valid JSON: Extra data (line 1 column 15)"),
        ("\ufeff{}", "The body is not valid JSON: it starts with a byte order mark"),
        ('{"tx_id": "a\nb"}', "The body is not valid JSON: Invalid control character at (line 1 column 13)"),
        ('{"amount": NaN}', "The body is not valid JSON: NaN is not a number in JSON"),
        ('{"amount": -Infinity}', "The body is not valid JSON: -Infinity is not a number in JSON"),
        ('{"amount": 1, "amount": 2}', "Field 'amount' appears more than once"),
        ('{"a": {"b": 1, "c": 1, "b": 1}}', "Field 'b' appears more than once"),
        ('{"\\r\\n": 1, "\\r\\n": 1}', "Field '\\r\\n' appears more than once"),
        ('{"amount": ' + "1" * 5000 + "}", "The body is not valid JSON: a number has too many digits"),
        ("[" * 100_000, "The body is nested too deeply"),
        ('{"a":' * 100_000, "The body is nested too deeply"),
    ],
)
def test_invalid_json(text: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        strict_json.parse(text)
    assert str(caught.value).startswith(error)


def test_long_name_is_shortened_in_the_error() -> None:
    name = "x" * 10_000
    with pytest.raises(InvalidRequest) as caught:
        strict_json.parse(f'{{"{name}": 1, "{name}": 1}}')
    assert str(caught.value) == f"Field '{'x' * 64}' appears more than once"


def test_repeated_name_is_found_in_linear_time() -> None:
    """Quadratic time would be half a minute; linear time is some hundredths of a second."""
    names = ",".join(f'"{number}": 0' for number in range(50_000))
    start = time.process_time()
    with pytest.raises(InvalidRequest, match="Field '49999' appears more than once"):
        strict_json.parse(f'{{{names}, "49999": 0}}')
    assert time.process_time() - start < 3


@given(st.lists(st.text(max_size=3), min_size=1), st.data())
def test_repeated_name_is_refused(names: list[str], data: st.DataObject) -> None:
    twice = data.draw(st.permutations([*names, names[0]]))
    text = ",".join(f"{json.dumps(name)}:0" for name in twice)
    with pytest.raises(InvalidRequest, match="appears more than once"):
        strict_json.parse(f"[{{{text}}}]")


JSON_TOKENS = [*"{}[]:, ", '"a"', '"b"', '"\\u0061"', "1", "-0.0", "1e400", "NaN", "Infinity", "null"]


@given(st.lists(st.sampled_from(JSON_TOKENS), max_size=15).map("".join) | st.text())
@settings(max_examples=1_000)
def test_accepted_text_is_decoded_as_by_python(text: str) -> None:
    try:
        document = strict_json.parse(text)
    except InvalidRequest:
        return
    assert document == json.loads(text)


@given(JSON_VALUES)
def test_spelling_makes_no_difference(document: Any) -> None:
    try:
        compact = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:  # NaN and Infinity
        with pytest.raises(InvalidRequest):
            strict_json.parse(json.dumps(document))
        return
    indented = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    assert strict_json.parse(compact) == strict_json.parse(indented) == document
