"""Requests under the rule set for card payments: declared fields, reasons, warnings and refusals.

The cases in ``REFUSING_CASES`` follow the same rule set with ``"unknown_fields": "refuse"``, a required currency and no
defaults.
"""

from collections.abc import Mapping
from typing import Any

from tests import card_rules
from tests.corpus import (
    INJECTED,
    LOW,
    MANY_DIGITS,
    MISSING,
    NOT_FINITE,
    NOT_NUMBER,
    TOO_DEEP,
    Case,
    bad,
    decided,
    hit,
    ignored,
    score,
)

REFUSING_DOCUMENT: dict[str, Any] = {
    **card_rules.DOCUMENT,
    "unknown_fields": "refuse",
    "fields": {
        **card_rules.DOCUMENT["fields"],
        "currency": {**card_rules.DOCUMENT["fields"]["currency"], "required": True},
    },
    "defaults": {},
}


def accepted(name: str, fields: str, expected: Mapping[str, Any] = LOW) -> Case:
    """Make a ``POST /score`` of a payment of 20 EUR with more fields, given as JSON."""
    return score(name, _payment(fields), 200, expected)


def invalid(name: str, fields: str, error: str) -> Case:
    """Make a ``POST /score`` of the same payment that gets a 400."""
    return bad(name, _payment(fields), error)


def no_time(name: str, value: str) -> Case:
    """Make a ``POST /score`` whose ``local_time`` is the string ``value``, or other JSON."""
    return invalid(name, f'"local_time": {value}', BAD_TIME)


def night(name: str, time: str) -> Case:
    """Make a ``POST /score`` whose ``local_time`` is at night."""
    return accepted(name, f'"local_time": "{time}"', decided(10, "LOW", hit("night", 10, {"local_time": time})))


def _payment(fields: str) -> str:
    return f'{{"amount": 20, "currency": "EUR", {fields}}}'


NO_CURRENCY = "Missing required field 'currency'"
BAD_CURRENCY = "Field 'currency' must be one of 'EUR', 'PLN', 'USD'"
BAD_ENTRY_MODE = "Field 'entry_mode' must be one of 'chip', 'contactless', 'magstripe', 'manual', 'online'"
BAD_BOOLEAN = "Field 'card_present' must be true or false"
BAD_ATTEMPTS = f"Field 'attempts_last_hour' must be an integer from 0 to {2**63 - 1}"
BAD_INSTALLMENTS = "Field 'installments' must be an integer of 64 bits"
WRONG_INSTALLMENTS = "Field 'installments' must be one of 1, 3, 6, 12"
BAD_TIME = "Field 'local_time' must be a time with an offset in RFC 3339, such as '2026-11-25T08:30:00+01:00'"
TOO_SMALL = "Field 'amount' must be at least 0.01"
TOO_GREAT = "Field 'amount' must be at most 1000000"
LONG_COUNTRY = "Field 'card_country' must have at most 2 characters"

ATTEMPTS = decided(20, "HIGH", hit("many attempts", 20, {"attempts_last_hour": 2**63 - 1}, level="at least HIGH"))
LARGE = hit("large amount", 25, {"currency": "EUR", "amount": 1_000_000})
UNAUTHENTICATED = hit(
    "unauthenticated online payment", 15, {"card_present": False, "authenticated": False, "amount": 1_000_000}
)
SMALL = hit("small authenticated payment", 0, {"authenticated": True, "amount": 20})
CHIP = hit("chip at a terminal", -20, {"card_present": True, "entry_mode": "chip"})

CARD_CASES = [
    # Required fields
    bad("no amount", '{"card": "tok_1"}', MISSING),
    bad("no amount and an invalid field", '{"card_present": 1}', MISSING),
    bad("two invalid fields", '{"card_present": 1, "amount": -1, "currency": "EUR"}', BAD_BOOLEAN),
    bad("currency null", '{"amount": 20, "currency": null}', "Field 'currency' must be a string"),
    score("Currency", '{"amount": 20, "Currency": "EUR"}', 200, {**LOW, **ignored("'Currency'")}),
    score("no currency", '{"amount": 20}', 200, LOW),
    score("currency alone", '{"amount": 20, "currency": "EUR"}', 200, LOW),
    # Strings
    bad("currency in lower case", '{"amount": 20, "currency": "eur"}', BAD_CURRENCY),
    bad("currency of another country", '{"amount": 20, "currency": "GBP"}', BAD_CURRENCY),
    bad("currency empty", '{"amount": 20, "currency": ""}', BAD_CURRENCY),
    bad("currency and a space", '{"amount": 20, "currency": "EUR "}', BAD_CURRENCY),
    bad("currency an array", '{"amount": 20, "currency": ["EUR"]}', "Field 'currency' must be a string"),
    invalid("entry_mode in capitals", '"entry_mode": "CHIP"', BAD_ENTRY_MODE),
    invalid("card a number", '"card": 4111111111111111', "Field 'card' must be a string"),
    invalid("card null", '"card": null', "Field 'card' must be a string"),
    invalid("card true", '"card": true', "Field 'card' must be a string"),
    invalid("card with a lone surrogate", '"card": "\\ud83c"', "Field 'card' must be valid Unicode text"),
    invalid("card of 65 characters", f'"card": "{"x" * 65}"', "Field 'card' must have at most 64 characters"),
    invalid("card of 60,000 characters", f'"card": "{"x" * 60_000}"', "Field 'card' must have at most 64 characters"),
    accepted("card of 64 characters", f'"card": "{"🂡" * 64}"'),
    accepted("card empty", '"card": ""'),
    accepted("card with a header", f'"card": "\\r\\nSet-Cookie: {INJECTED}=1"'),
    invalid("card_country of 3 characters", '"card_country": "POL"', LONG_COUNTRY),
    accepted("card_country of 2 characters that fold to 4", '"card_country": "ßß"'),
    # Case
    accepted("countries that differ in case", '"card_country": "pl", "ip_country": "PL"'),
    accepted("countries that fold to the same text", '"card_country": "ß", "ip_country": "SS"'),
    accepted(
        "countries that differ",
        '"card_country": "pl", "ip_country": "De"',
        decided(
            25,
            "MEDIUM",
            hit("foreign IP address", 25, {"card_present": False, "ip_country": "De", "card_country": "pl"}),
        ),
    ),
    accepted(
        "card_country in lower case",
        '"card_country": "kp"',
        decided(0, "CRITICAL", hit("blocked country", 0, {"card_country": "kp"}, level="at least CRITICAL")),
    ),
    # Booleans
    invalid("card_present in quotes", '"card_present": "true"', BAD_BOOLEAN),
    invalid("card_present 1", '"card_present": 1', BAD_BOOLEAN),
    invalid("card_present 0", '"card_present": 0', BAD_BOOLEAN),
    invalid("card_present null", '"card_present": null', BAD_BOOLEAN),
    invalid("card_present an array", '"card_present": [true]', BAD_BOOLEAN),
    # Numbers
    invalid("usual_amount in quotes", '"usual_amount": "90"', "Field 'usual_amount' must be a number"),
    invalid("usual_amount true", '"usual_amount": true', "Field 'usual_amount' must be a number"),
    invalid("usual_amount null", '"usual_amount": null', "Field 'usual_amount' must be a number"),
    invalid("usual_amount negative", '"usual_amount": -0.01', "Field 'usual_amount' must not be negative"),
    invalid("usual_amount 1e400", '"usual_amount": 1e400', "Field 'usual_amount' must be a finite number"),
    accepted("usual_amount 1e308", '"usual_amount": 1e308'),
    # Built-in fields
    invalid("customer_id empty", '"customer_id": ""', "Field 'customer_id' must have 1 to 128 characters"),
    invalid("customer_id a number", '"customer_id": 1001', "Field 'customer_id' must be a string"),
    accepted("customer_id and customer", '"customer_id": "C1", "customer": 1', {**LOW, **ignored("'customer'")}),
    # The second field that a history is kept by
    invalid("ip a number", '"ip": 16909060', "Field 'ip' must be a string"),
    invalid("ip null", '"ip": null', "Field 'ip' must be a string"),
    invalid("ip of 46 characters", f'"ip": "{"1" * 46}"', "Field 'ip' must have at most 45 characters"),
    accepted("ip of 45 characters", '"ip": "0000:0000:0000:0000:0000:FFFF:255.255.255.255"'),
    accepted("ip empty", '"ip": ""'),
    accepted("ip with a header", f'"ip": "\\r\\nSet-Cookie: {INJECTED}=1"'),
    accepted("ip, card, customer_id and store", '"ip": "::1", "card": "tok_1", "customer_id": "C2", "store": "A"'),
    invalid(
        "timestamp without an offset", '"timestamp": "2020-11-25T08:30:00"', BAD_TIME.replace("local_time", "timestamp")
    ),
    accepted(
        "the hour of timestamp",
        '"timestamp": "2020-11-25T02:30:00+01:00"',
        decided(10, "LOW", hit("night", 10, {"local_time": None, "hour": 2})),
    ),
    # Narrowed built-in fields
    bad("amount 0", '{"amount": 0, "currency": "EUR"}', TOO_SMALL),
    bad("amount 0.009", '{"amount": 0.009, "currency": "EUR"}', TOO_SMALL),
    bad("amount -1", '{"amount": -1, "currency": "EUR"}', TOO_SMALL),
    bad("amount 1000000.01", '{"amount": 1000000.01, "currency": "EUR"}', TOO_GREAT),
    bad("amount 1e400", '{"amount": 1e400, "currency": "EUR"}', NOT_FINITE),
    bad("amount true", '{"amount": true, "currency": "EUR"}', NOT_NUMBER),
    score("amount 0.01", '{"amount": 0.01, "currency": "EUR"}', 200, LOW),
    score(
        "amount 1000000", '{"amount": 1000000, "currency": "EUR"}', 200, decided(40, "MEDIUM", LARGE, UNAUTHENTICATED)
    ),
    invalid("hour 24", '"hour": 24', "Field 'hour' must be an integer from 0 to 23"),
    invalid(
        "category of 41 characters", f'"category": "{"x" * 41}"', "Field 'category' must have at most 40 characters"
    ),
    accepted("tx_id of 128 characters", f'"tx_id": "{"x" * 128}"', {**LOW, "tx_id": "x" * 128}),
    accepted("category of 40 characters", f'"category": "{"x" * 40}"'),
    invalid("store of 101 characters", f'"store": "{"x" * 101}"', "Field 'store' must have at most 100 characters"),
    # Integers
    invalid("attempts_last_hour -1", '"attempts_last_hour": -1', BAD_ATTEMPTS),
    invalid("attempts_last_hour 3.0", '"attempts_last_hour": 3.0', BAD_ATTEMPTS),
    invalid("attempts_last_hour 1e1", '"attempts_last_hour": 1e1', BAD_ATTEMPTS),
    invalid("attempts_last_hour in quotes", '"attempts_last_hour": "3"', BAD_ATTEMPTS),
    invalid("attempts_last_hour true", '"attempts_last_hour": true', BAD_ATTEMPTS),
    invalid("attempts_last_hour null", '"attempts_last_hour": null', BAD_ATTEMPTS),
    invalid("attempts_last_hour 2^63", '"attempts_last_hour": 9223372036854775808', BAD_ATTEMPTS),
    accepted("attempts_last_hour 2^63 - 1", '"attempts_last_hour": 9223372036854775807', ATTEMPTS),
    invalid("attempts_last_hour of 400 digits", f'"attempts_last_hour": {"1" * 400}', BAD_ATTEMPTS),
    invalid("attempts_last_hour of 5,000 digits", f'"attempts_last_hour": {"1" * 5_000}', MANY_DIGITS),
    accepted("attempts_last_hour -0", '"attempts_last_hour": -0'),
    invalid("installments 2^63", '"installments": 9223372036854775808', BAD_INSTALLMENTS),
    invalid("installments -2^63 - 1", '"installments": -9223372036854775809', BAD_INSTALLMENTS),
    invalid("installments -2^63", '"installments": -9223372036854775808', WRONG_INSTALLMENTS),
    invalid("installments 2", '"installments": 2', WRONG_INSTALLMENTS),
    invalid("installments 3.0", '"installments": 3.0', BAD_INSTALLMENTS),
    invalid("installments true", '"installments": true', BAD_INSTALLMENTS),
    # Times
    night("local_time in UTC", "2026-11-25T02:30:00Z"),
    night("local_time with a lower-case t and z", "2026-11-25t02:30:00z"),
    night("local_time with an unknown offset", "2026-11-25T23:00:00-00:00"),
    night("local_time with the greatest offset", "2026-11-25T05:59:59+23:59"),
    night("local_time with 30 fraction digits", f"2026-11-25T00:00:00.{'1234567890' * 3}+01:00"),
    night("local_time on a leap day", "2024-02-29T00:00:00+01:00"),
    night("local_time in the year 1", "0001-01-01T00:00:00+23:59"),
    no_time("local_time in the year 0", '"0000-01-01T00:00:00Z"'),
    no_time("local_time in the year 10000", '"10000-01-01T00:00:00Z"'),
    no_time("local_time without an offset", '"2026-11-25T02:30:00"'),
    no_time("local_time without a time", '"2026-11-25"'),
    no_time("local_time without a date", '"02:30:00Z"'),
    no_time("local_time without seconds", '"2026-11-25T02:30Z"'),
    no_time("local_time with a space for T", '"2026-11-25 02:30:00Z"'),
    no_time("local_time without separators", '"20261125T023000Z"'),
    no_time("local_time at 24:00", '"2026-11-25T24:00:00Z"'),
    no_time("local_time with a leap second", '"2016-12-31T23:59:60Z"'),
    no_time("local_time with an offset of 24 hours", '"2026-11-25T02:30:00+24:00"'),
    no_time("local_time with an offset without a colon", '"2026-11-25T02:30:00+0100"'),
    no_time("local_time with an offset with seconds", '"2026-11-25T02:30:00+01:00:30"'),
    no_time("local_time with a decimal comma", '"2026-11-25T02:30:00,5Z"'),
    no_time("local_time with a decimal point alone", '"2026-11-25T02:30:00.Z"'),
    no_time("local_time on 29 February 2026", '"2026-02-29T02:30:00Z"'),
    no_time("local_time in a 13th month", '"2026-13-01T02:30:00Z"'),
    no_time("local_time with a line break", '"2026-11-25T02:30:00Z\\n"'),
    no_time("local_time in Arabic-Indic digits", '"٢٠٢٦-11-25T02:30:00Z"'),
    no_time("local_time as seconds since 1970", "1795573800"),
    no_time("local_time null", "null"),
    no_time("local_time empty", '""'),
    accepted(
        "times that only their offsets put in order",
        '"account_created": "2026-11-25T12:00:00+02:00", "local_time": "2026-11-25T11:00:00+00:00"',
    ),
    accepted(
        "equal times with different offsets",
        '"account_created": "2026-11-25T12:00:00+02:00", "local_time": "2026-11-25T11:00:00+01:00"',
        decided(
            20,
            "MEDIUM",
            hit(
                "throwaway account",
                20,
                {"account_created": "2026-11-25T12:00:00+02:00", "local_time": "2026-11-25T11:00:00+01:00"},
            ),
        ),
    ),
    accepted(
        "the first and the last time",
        '"account_created": "0001-01-01T12:00:00+23:59", "local_time": "9999-12-31T12:59:59-23:59"',
    ),
    # Reasons and levels
    accepted(
        "a condition that fails because a field is missing",
        '"card_present": true, "entry_mode": "magstripe"',
        decided(
            20,
            "MEDIUM",
            hit(
                "card data not from the chip",
                20,
                {"card_present": True, "entry_mode": "magstripe", "card_country": None},
            ),
        ),
    ),
    accepted(
        "a field that must be missing",
        '"hour": 5',
        decided(10, "LOW", hit("night", 10, {"local_time": None, "hour": 5})),
    ),
    accepted(
        "a long value in a reason",
        f'"email": "{"x" * 60}@MAILINATOR.com"',
        decided(20, "MEDIUM", hit("throwaway account", 20, {"email": "x" * 60 + "@MA…"})),
    ),
    accepted("a score below 0", '"card_present": true, "entry_mode": "chip"', decided(0, "LOW", CHIP)),
    accepted("a ceiling above the level", '"authenticated": true', decided(0, "LOW", SMALL)),
    accepted(
        "a ceiling that sets the level",
        '"authenticated": true, "merchant_category": "6051"',
        decided(25, "LOW", hit("quasi-cash", 25, {"merchant_category": "6051"}), SMALL | {"level": "at most LOW"}),
    ),
    accepted(
        "a floor above a ceiling",
        '"authenticated": true, "attempts_last_hour": 10',
        decided(20, "HIGH", hit("many attempts", 20, {"attempts_last_hour": 10}, level="at least HIGH"), SMALL),
    ),
    accepted(
        "a floor below the score and a higher one",
        '"ip_country": "IR", "attempts_last_hour": 10',
        decided(
            20,
            "CRITICAL",
            hit("blocked country", 0, {"ip_country": "IR"}, level="at least CRITICAL"),
            hit("many attempts", 20, {"attempts_last_hour": 10}),
        ),
    ),
    score(
        "a floor that the score reaches",
        '{"amount": 1000000, "currency": "EUR", "attempts_last_hour": 10}',
        200,
        decided(60, "HIGH", hit("many attempts", 20, {"attempts_last_hour": 10}), LARGE, UNAUTHENTICATED),
    ),
    accepted(
        "a group in a group",
        '"category": "Gift cards", "local_time": "2026-11-29T12:00:00+01:00"',
        decided(
            15,
            "LOW",
            hit("resalable goods", 15, {"category": "Gift cards", "local_time": "2026-11-29T12:00:00+01:00"}),
        ),
    ),
    score(
        "a multiple of another field",
        '{"amount": 100, "currency": "EUR", "usual_amount": 19.5}',
        200,
        decided(30, "MEDIUM", hit("far above usual amount", 30, {"amount": 100, "usual_amount": 19.5})),
    ),
    score(
        "a default in a reason",
        '{"amount": 2500, "card_present": true}',
        200,
        decided(25, "MEDIUM", hit("large amount", 25, {"currency": "EUR", "amount": 2500})),
    ),
    accepted("a disabled rule", '"account_created": "2025-10-15T12:00:00+02:00"'),
    # Unknown fields
    accepted(
        "a misspelt field",
        '"card_country": "PL", "ip_contry": "RO", "Card_Present": true',
        {**LOW, **ignored("'ip_contry'", "'Card_Present'")},
    ),
    accepted(
        "a warning with a floor",
        '"card_country": "KP", "country": "PL"',
        {
            **decided(0, "CRITICAL", hit("blocked country", 0, {"card_country": "KP"}, level="at least CRITICAL")),
            **ignored("'country'"),
        },
    ),
]

REFUSING_CASES = [
    accepted("no unknown field", '"card_country": "PL", "customer_id": "C1"'),
    bad("no currency", '{"amount": 20}', NO_CURRENCY),
    bad("neither amount nor currency", '{"card": "tok_1"}', MISSING),
    bad("a missing field and an invalid one", '{"amount": -1, "card_present": 1}', NO_CURRENCY),
    bad("Currency", '{"amount": 20, "Currency": "EUR"}', NO_CURRENCY),
    invalid("customer", '"customer": 1', "Unknown field 'customer'"),
    invalid("a fact of the history", '"customer.count_1h": 9', "Unknown field 'customer.count_1h'"),
    invalid("an unknown field", '"ip_contry": "RO"', "Unknown field 'ip_contry'"),
    invalid("an unknown field null", '"ip_contry": null', "Unknown field 'ip_contry'"),
    invalid("two unknown fields", '"b": 1, "a": 1', "Unknown field 'b'"),
    invalid("a field in capitals", '"HOUR": 3', "Unknown field 'HOUR'"),
    invalid("an empty name", '"": 1', "Unknown field ''"),
    invalid("a name of 65 characters", f'"{"x" * 65}": 1', f"Unknown field '{'x' * 64}'"),
    invalid("a name with a header", f'"\\r\\nX: {INJECTED}": 1', f"Unknown field '\\r\\nX: {INJECTED}'"),
    invalid("a name with a lone surrogate", '"\\ud83c": 1', r"Unknown field '\ud83c'"),
    invalid("an unknown field before an invalid one", '"x": 1, "hour": 24', "Unknown field 'x'"),
    invalid(
        "an invalid field before an unknown one", '"hour": 24, "x": 1', "Field 'hour' must be an integer from 0 to 23"
    ),
    bad("an unknown field and a missing one", '{"x": 1, "amount": 20}', NO_CURRENCY),
    bad("an unknown field and no amount", '{"amuont": 20, "currency": "EUR"}', MISSING),
    invalid("an unknown field 30,000 deep", '"x": ' + "[" * 30_000 + "]" * 30_000, TOO_DEEP),
]
