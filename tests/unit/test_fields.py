"""Fields: reading transactions with built-in and declared fields."""

import json
import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidRequest
from scoring.fields import Fields
from scoring.scorers import rules_loader
from scoring.transaction import Transaction
from tests.rule_set import DOCUMENT
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


OWN: dict[str, Any] = {
    "country": {"type": "string", "max_length": 2},
    "currency": {"type": "string", "one_of": ["PLN", "EUR"], "required": True},
    "brand": {"type": "string", "one_of": ["Visa", "Stra\u00dfe"], "case": "ignore"},
    "rate": {"type": "number", "minimum": -1.5, "maximum": 2},
    "share": {"type": "number", "minimum": 0},
    "step": {"type": "number", "one_of": [0.5, 1]},
    "items": {"type": "integer", "minimum": 0},
    "floor": {"type": "integer", "maximum": 9},
    "port": {"type": "integer", "minimum": 1, "maximum": 3, "one_of": [1, 3]},
    "serial": {"type": "integer"},
    "card_present": {"type": "boolean"},
    "at": {"type": "time"},
}


def fields(declared: dict[str, Any] = OWN, **changes: Any) -> Fields:
    return rules_loader.from_document({**DOCUMENT, "fields": declared, **changes}).fields


def read(document: dict[str, Any], declared: Fields) -> Transaction:
    return declared.read({"amount": 1, "currency": "PLN", **document})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("country", ""),
        ("country", "PL"),
        ("country", "🂡🂡"),
        ("currency", "EUR"),
        ("brand", "VISA"),
        ("brand", "STRASSE"),
        ("rate", -1.5),
        ("rate", 2),
        ("share", 0),
        ("share", 1e308),
        ("step", 0.5),
        ("step", 1.0),
        ("items", 0),
        ("items", 2**63 - 1),
        ("floor", -(2**63)),
        ("port", 3),
        ("serial", -(2**63)),
        ("card_present", False),
        *(
            ("at", time)
            for time in (
                "2026-11-25T08:30:00Z",
                "2026-11-25t08:30:00z",
                "2026-11-25T08:30:00.123456789+01:00",
                "2024-02-29T23:59:59-23:59",
                "0001-01-01T00:00:00+23:59",
                "9999-12-31T23:59:59-23:59",
            )
        ),
    ],
)
def test_valid_value_of_a_declared_field(name: str, value: Any) -> None:
    assert read({name: value}, fields()).values[name] == value


INTEGER_64 = "Field 'serial' must be an integer of 64 bits"
TIME = "Field 'at' must be a time with an offset in RFC 3339, such as '2026-11-25T08:30:00+01:00'"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("country", 7, "Field 'country' must be a string"),
        ("country", None, "Field 'country' must be a string"),
        ("country", "\ud83c", "Field 'country' must be valid Unicode text"),
        ("country", "POL", "Field 'country' must have at most 2 characters"),
        ("currency", "pln", "Field 'currency' must be one of 'PLN', 'EUR'"),
        ("brand", "Amex", "Field 'brand' must be one of 'Visa', 'Stra\u00dfe'"),
        ("rate", "1", "Field 'rate' must be a number"),
        ("rate", True, "Field 'rate' must be a number"),
        ("rate", math.inf, "Field 'rate' must be a finite number"),
        ("rate", -1.51, "Field 'rate' must be at least -1.5"),
        ("rate", 2.01, "Field 'rate' must be at most 2"),
        ("share", -5e-324, "Field 'share' must not be negative"),
        ("step", 0.75, "Field 'step' must be one of 0.5, 1"),
        ("items", -1, f"Field 'items' must be an integer from 0 to {2**63 - 1}"),
        ("items", 2**63, f"Field 'items' must be an integer from 0 to {2**63 - 1}"),
        ("floor", 10, f"Field 'floor' must be an integer from {-(2**63)} to 9"),
        ("port", 4, "Field 'port' must be an integer from 1 to 3"),
        ("port", 2, "Field 'port' must be one of 1, 3"),
        ("serial", 2**63, INTEGER_64),
        ("serial", 1.0, INTEGER_64),
        ("serial", True, INTEGER_64),
        ("card_present", "true", "Field 'card_present' must be true or false"),
        ("card_present", 1, "Field 'card_present' must be true or false"),
        *(
            ("at", time, TIME)
            for time in (
                None,
                1_764_000_000,
                "",
                "2026-11-25",
                "2026-11-25T08:30:00",
                "2026-11-25 08:30:00Z",
                "2026-11-25T08:30Z",
                "2026-11-25T08:30:00+0100",
                "2026-11-25T08:30:00+24:00",
                "2026-11-25T24:00:00Z",
                "2026-11-25T08:30:60Z",
                "2026-02-29T08:30:00Z",
                "0000-01-01T00:00:00Z",
                "2026-W48-3T08:30:00Z",
                "20261125T083000Z",
                "2026-11-25T08:30:00,5Z",
                "2026-11-25T08:30:00.Z",
                "2026-11-25T08:30:00Z\n",
                "\u0662026-11-25T08:30:00Z",
            )
        ),
    ],
)
def test_invalid_value_of_a_declared_field(name: str, value: Any, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({name: value}, fields())
    assert str(caught.value) == error


def test_missing_required_field_comes_first() -> None:
    with pytest.raises(InvalidRequest, match="Missing required field 'currency'"):
        fields().read({"amount": -1, "country": 7})
    with pytest.raises(InvalidRequest, match="Field 'country' must be a string"):
        fields().read({"country": 7, "amount": -1, "currency": "PLN"})


def test_facts_are_what_rules_compare() -> None:
    declared = fields(defaults={"hour": 3, "brand": "VISA"})
    sent = {"at": "2026-11-25T08:30:00+01:00", "country": "pl", "unknown": 1}
    transaction = read(sent, declared)
    assert transaction.values == {"amount": 1, "currency": "PLN", "at": sent["at"], "country": "pl"}
    at = datetime(2026, 11, 25, 8, 30, tzinfo=timezone(timedelta(hours=1)))
    assert transaction.facts == {**transaction.values, "at": at, "hour": 3, "brand": "visa"}
    assert transaction.unknown == ("unknown",)


@pytest.mark.parametrize(
    ("narrowed", "document", "error"),
    [
        ({"amount": {"maximum": 10}}, {"amount": 11}, "Field 'amount' must be at most 10"),
        ({"amount": {"minimum": 5}}, {"amount": 4}, "Field 'amount' must be at least 5"),
        ({"hour": {"minimum": 6}}, {"amount": 1, "hour": 5}, "Field 'hour' must be an integer from 6 to 23"),
        ({"hour": {"required": True}}, {"amount": 1}, "Missing required field 'hour'"),
        ({"store": {"max_length": 3}}, {"amount": 1, "store": "abcd"}, "Field 'store' must have at most 3 characters"),
        (
            {"category": {"one_of": ["food"], "case": "ignore"}},
            {"amount": 1, "category": "Foods"},
            "Field 'category' must be one of 'food'",
        ),
        ({"tx_id": {"max_length": 3}}, {"amount": 1, "tx_id": "TX01"}, "Field 'tx_id' must have at most 3 characters"),
        ({"tx_id": {"max_length": 3}}, {"amount": 1, "tx_id": ""}, "Field 'tx_id' must have 1 to 128 characters"),
        (
            {"tx_id": {"one_of": ["a"]}},
            {"amount": 1, "tx_id": "\n"},
            "Field 'tx_id' must not contain control characters",
        ),
    ],
)
def test_narrowed_built_in_field(narrowed: dict[str, Any], document: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fields(narrowed, defaults={}).read(document)
    assert str(caught.value) == error


def test_unknown_fields_can_be_refused() -> None:
    declared = fields(unknown_fields="refuse")
    assert read({"country": "PL"}, declared).unknown == ()
    for name, shown in (("Country", "'Country'"), ("x\n" * 50, repr("x\n" * 32)), ("\ud83c", r"'\ud83c'")):
        with pytest.raises(InvalidRequest) as caught:
            read({name: "PL"}, declared)
        assert str(caught.value) == f"Unknown field {shown}"


def test_long_list_of_values_is_shortened() -> None:
    values = [f"{number}" * 100 for number in range(10, 30)]
    with pytest.raises(InvalidRequest) as caught:
        fields({"code": {"type": "string", "one_of": values}}).read({"amount": 1, "code": "x"})
    text = str(caught.value)
    assert text.endswith(f"{values[9][:64]!r}, ...")
    assert len(text) < 800


@given(st.dictionaries(st.sampled_from(list(OWN)) | st.text(), JSON_VALUES, max_size=3))
def test_any_value_of_a_declared_field_is_valid_or_an_invalid_request(document: dict[str, Any]) -> None:
    try:
        transaction = read(document, fields())
    except InvalidRequest as error:
        assert str(error).isprintable()
    else:
        json.dumps(transaction.values, allow_nan=False).encode()
