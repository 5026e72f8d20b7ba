"""The input gate: what passes, and by which sentence everything else is turned away."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import strict_json
from scoring.errors import InvalidRequest
from scoring.transaction import Transaction, fingerprint, validate

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@pytest.mark.parametrize(
    ("document", "transaction"),
    [
        ({"amount": 0}, Transaction(amount=0)),
        ({"amount": -0.0}, Transaction(amount=0)),
        ({"amount": 1e308}, Transaction(amount=1e308)),
        ({"amount": 10**300}, Transaction(amount=10**300)),
        ({"amount": 5e-324}, Transaction(amount=5e-324)),
        ({"amount": 1, "hour": 0}, Transaction(amount=1, hour=0)),
        ({"amount": 1, "hour": 23}, Transaction(amount=1, hour=23)),
        ({"amount": 1, "category": "", "store": "Kraków"}, Transaction(amount=1, category="", store="Kraków")),
        ({"amount": 1, "tx_id": "x"}, Transaction(amount=1, tx_id="x")),
        ({"amount": 1, "tx_id": "🂡" * 128}, Transaction(amount=1, tx_id="🂡" * 128)),
        ({"amount": 1, "is_fraud": None, "nested": {"amount": "x"}}, Transaction(amount=1)),
    ],
)
def test_accepted(document: dict[str, Any], transaction: Transaction) -> None:
    assert validate(document) == transaction


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (None, "The transaction must be a JSON object, not null"),
        (True, "The transaction must be a JSON object, not a boolean"),
        (12, "The transaction must be a JSON object, not a number"),
        ("amount", "The transaction must be a JSON object, not a string"),
        (["amount"], "The transaction must be a JSON object, not an array"),
        ((1, 2), "The transaction must be a JSON object, not tuple"),
        ({}, "Missing required field 'amount'"),
        ({"Amount": 1}, "Missing required field 'amount'"),
        ({"amount": None}, "Field 'amount' must be a number"),
        ({"amount": True}, "Field 'amount' must be a number"),
        ({"amount": "12"}, "Field 'amount' must be a number"),
        ({"amount": [1]}, "Field 'amount' must be a number"),
        ({"amount": {}}, "Field 'amount' must be a number"),
        ({"amount": math.nan}, "Field 'amount' must be a finite number"),
        ({"amount": math.inf}, "Field 'amount' must be a finite number"),
        ({"amount": -math.inf}, "Field 'amount' must be a finite number"),
        ({"amount": 10**309}, "Field 'amount' must be a finite number"),
        ({"amount": -0.01}, "Field 'amount' must not be negative"),
        ({"amount": -1}, "Field 'amount' must not be negative"),
        ({"amount": 1, "hour": None}, "Field 'hour' must be an integer from 0 to 23"),
        ({"amount": 1, "hour": -1}, "Field 'hour' must be an integer from 0 to 23"),
        ({"amount": 1, "hour": 24}, "Field 'hour' must be an integer from 0 to 23"),
        ({"amount": 1, "hour": 3.0}, "Field 'hour' must be an integer from 0 to 23"),
        ({"amount": 1, "hour": "3"}, "Field 'hour' must be an integer from 0 to 23"),
        ({"amount": 1, "hour": False}, "Field 'hour' must be an integer from 0 to 23"),
        ({"amount": 1, "category": None}, "Field 'category' must be a string"),
        ({"amount": 1, "category": ["electronics"]}, "Field 'category' must be a string"),
        ({"amount": 1, "category": "\ud800"}, "Field 'category' must be valid Unicode text"),
        ({"amount": 1, "store": 7}, "Field 'store' must be a string"),
        ({"amount": 1, "store": "a\udfffb"}, "Field 'store' must be valid Unicode text"),
        ({"amount": 1, "tx_id": 42}, "Field 'tx_id' must be a string"),
        ({"amount": 1, "tx_id": None}, "Field 'tx_id' must be a string"),
        ({"amount": 1, "tx_id": ""}, "Field 'tx_id' must have 1 to 128 characters"),
        ({"amount": 1, "tx_id": "x" * 129}, "Field 'tx_id' must have 1 to 128 characters"),
        ({"amount": 1, "tx_id": "a\nb"}, "Field 'tx_id' must not contain control characters"),
        ({"amount": 1, "tx_id": "a\x00"}, "Field 'tx_id' must not contain control characters"),
        ({"amount": 1, "tx_id": "\x85"}, "Field 'tx_id' must not contain control characters"),
        ({"amount": 1, "tx_id": "\ud83c"}, "Field 'tx_id' must be valid Unicode text"),
    ],
)
def test_turned_away(document: Any, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(document)
    assert str(caught.value) == error


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
def test_not_json(text: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        strict_json.parse(text)
    assert str(caught.value).startswith(error)


def test_a_number_beyond_the_largest_float_is_named() -> None:
    with pytest.raises(InvalidRequest, match="Field 'amount' must be a finite number"):
        validate(strict_json.parse('{"amount": 1e400}'))


def test_many_names_are_compared_in_linear_time() -> None:
    """A body must not keep a function busy: quadratic, this takes half a minute, else some hundredths of a second."""
    names = ",".join(f'"{number}": 0' for number in range(50_000))
    start = time.process_time()
    with pytest.raises(InvalidRequest, match="Field '49999' appears more than once"):
        strict_json.parse(f'{{{names}, "49999": 0}}')
    assert time.process_time() - start < 3


def test_a_name_is_shown_by_its_beginning() -> None:
    name = "x" * 10_000
    with pytest.raises(InvalidRequest) as caught:
        strict_json.parse(f'{{"{name}": 1, "{name}": 1}}')
    assert str(caught.value) == f"Field '{'x' * 64}' appears more than once"


def test_fingerprint_of_what_nests_too_deeply() -> None:
    """The decoder may follow further than the encoder; what lies between is still the caller's mistake."""
    document: list[Any] = []
    for _ in range(200_000):
        document = [document]
    with pytest.raises(InvalidRequest, match="The body is nested too deeply"):
        fingerprint(document)


def test_fingerprint_is_of_the_document_not_its_spelling() -> None:
    one = fingerprint(strict_json.parse('{"amount": 1.50, "tx_id": "\\u0041"}'))
    assert one == fingerprint(strict_json.parse('{ "tx_id":"A",\n "amount":15e-1 }'))
    assert one != fingerprint(strict_json.parse('{"amount": 1.51, "tx_id": "A"}'))
    assert one != fingerprint(strict_json.parse('{"amount": 1.50, "tx_id": "A", "unknown": 1}'))
    assert len(one) == 64


@given(JSON_VALUES)
def test_every_document_passes_or_is_named(document: Any) -> None:
    """Whatever JSON can hold: a valid transaction or an InvalidRequest, and nothing else."""
    for candidate in (
        document,
        {"amount": document},
        {"amount": 1, "hour": document},
        {"amount": 1, "tx_id": document},
    ):
        try:
            transaction = validate(candidate)
        except InvalidRequest as error:
            assert str(error)
        else:
            assert 0 <= transaction.amount < math.inf
            json.dumps(transaction.as_dict(), allow_nan=False).encode()


JSON_TOKENS = [*"{}[]:, ", '"a"', '"b"', '"\\u0061"', "1", "-0.0", "1e400", "NaN", "Infinity", "null"]


@given(st.lists(st.sampled_from(JSON_TOKENS), max_size=15).map("".join) | st.text())
@settings(max_examples=1_000)
def test_what_is_decoded_is_what_python_decodes(text: str) -> None:
    """The gate is stricter than Python's own decoder, and never reads anything else."""
    try:
        document = strict_json.parse(text)
    except InvalidRequest:
        return
    assert document == json.loads(text)


@given(JSON_VALUES)
def test_every_document_is_decoded_however_it_is_written(document: Any) -> None:
    try:
        compact = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:  # NaN and Infinity
        with pytest.raises(InvalidRequest):
            strict_json.parse(json.dumps(document))
        return
    spacious = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    assert strict_json.parse(compact) == strict_json.parse(spacious) == document
    assert fingerprint(strict_json.parse(compact)) == fingerprint(strict_json.parse(spacious))


@given(st.lists(st.text(max_size=3), min_size=1), st.data())
def test_a_name_that_appears_twice_is_always_refused(names: list[str], data: st.DataObject) -> None:
    twice = data.draw(st.permutations([*names, names[0]]))
    text = ",".join(f"{json.dumps(name)}:0" for name in twice)
    with pytest.raises(InvalidRequest, match="appears more than once"):
        strict_json.parse(f"[{{{text}}}]")
