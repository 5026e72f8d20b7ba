"""Fields: reading transactions with built-in and declared fields."""

import json
import math
from typing import Any

import pytest
from hypothesis import given

from scoring import strict_json
from scoring.errors import InvalidRequest
from scoring.fields import Fields
from tests.unit.strategies import JSON_VALUES

BUILT_IN = Fields()


@pytest.mark.parametrize(
    ("document", "values"),
    [
        ({"amount": 0}, {"amount": 0}),
        ({"amount": -0.0}, {"amount": 0}),
        ({"amount": 1e308}, {"amount": 1e308}),
        ({"amount": 10**300}, {"amount": 10**300}),
        ({"amount": 5e-324}, {"amount": 5e-324}),
        ({"amount": 1, "hour": 0}, {"amount": 1, "hour": 0}),
        ({"amount": 1, "hour": 23}, {"amount": 1, "hour": 23}),
        ({"amount": 1, "category": "", "store": "Kraków"}, {"amount": 1, "category": "", "store": "Kraków"}),
        ({"amount": 1, "tx_id": "x"}, {"amount": 1, "tx_id": "x"}),
        ({"amount": 1, "tx_id": "🂡" * 128}, {"amount": 1, "tx_id": "🂡" * 128}),
        ({"amount": 1, "is_fraud": None, "nested": {"amount": "x"}}, {"amount": 1}),
    ],
)
def test_valid_transaction(document: dict[str, Any], values: dict[str, Any]) -> None:
    transaction = BUILT_IN.read(document)
    assert transaction.values == transaction.facts == values
    assert transaction.unknown == tuple(name for name in document if name not in values)


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
def test_invalid_transaction(document: Any, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BUILT_IN.read(document)
    assert str(caught.value) == error


def test_number_beyond_the_largest_double() -> None:
    with pytest.raises(InvalidRequest, match="Field 'amount' must be a finite number"):
        BUILT_IN.read(strict_json.parse('{"amount": 1e400}'))


@given(JSON_VALUES)
def test_any_document_is_valid_or_an_invalid_request(document: Any) -> None:
    for candidate in (
        document,
        {"amount": document},
        {"amount": 1, "hour": document},
        {"amount": 1, "tx_id": document},
    ):
        try:
            transaction = BUILT_IN.read(candidate)
        except InvalidRequest as error:
            assert str(error)
        else:
            assert 0 <= transaction.values["amount"] < math.inf
            json.dumps(transaction.values, allow_nan=False).encode()
