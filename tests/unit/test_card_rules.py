"""The rule set for card payments decides as ``events/card-rules.json`` describes."""

import json
from typing import Any

import jsonschema_rs
import pytest

from events import rows
from functions.offline import replay
from scoring import decision
from scoring.assessment import RISK_LEVELS
from scoring.decision import StoredResponse
from scoring.lookups import Entry, Known
from tests import card_rules
from tests.card_rules import DOCUMENT, RULE_SET, SAMPLES

BLOCKED, TESTING, ATTEMPTS, LARGE, UNUSUAL = (
    "blocked country",
    "card testing",
    "many attempts",
    "large amount",
    "far above usual amount",
)
FOREIGN_IP, QUASI_CASH, RESALABLE, NO_CHIP, NIGHT = (
    "foreign IP address",
    "quasi-cash",
    "resalable goods",
    "card data not from the chip",
    "night",
)
UNAUTHENTICATED, THROWAWAY, CHIP, SMALL = (
    "unauthenticated online payment",
    "throwaway account",
    "chip at a terminal",
    "small authenticated payment",
)

BLOCKED_CUSTOMER, MANY_CARDS, SUDDEN, SPREE, NEW_STORE = (
    "blocked customer",
    "many cards from one address",
    "sudden large amount",
    "spending spree",
    "new store at night",
)

# By tx_id: score, level, the rules that hit, and the rule that set the level, if any.
EXPECTED: dict[str, tuple[int, str, list[str], str]] = {
    "PAY-01": (0, "LOW", [CHIP], ""),
    "PAY-02": (0, "LOW", [], ""),
    "PAY-03": (25, "LOW", [FOREIGN_IP, SMALL], SMALL),
    "PAY-04": (25, "MEDIUM", [FOREIGN_IP], ""),
    "PAY-05": (0, "LOW", [], ""),
    "PAY-06": (20, "HIGH", [ATTEMPTS], ATTEMPTS),
    "PAY-07": (25, "CRITICAL", [BLOCKED, FOREIGN_IP], BLOCKED),
    "PAY-08": (120, "CRITICAL", [LARGE, UNUSUAL, FOREIGN_IP, RESALABLE, NIGHT, UNAUTHENTICATED], ""),
    "PAY-09": (20, "MEDIUM", [NO_CHIP], ""),
    "PAY-10": (0, "LOW", [], ""),
    "PAY-11": (25, "MEDIUM", [QUASI_CASH], ""),
    "PAY-12": (30, "MEDIUM", [RESALABLE, UNAUTHENTICATED], ""),
    "PAY-13": (0, "LOW", [], ""),
    "PAY-14": (35, "MEDIUM", [LARGE, UNUSUAL, CHIP], ""),
    "PAY-15": (60, "MEDIUM", [LARGE, UNUSUAL, RESALABLE, NIGHT, CHIP], CHIP),
    "PAY-16": (10, "LOW", [NIGHT], ""),
    "PAY-17": (20, "MEDIUM", [THROWAWAY], ""),
    "PAY-18": (60, "HIGH", [FOREIGN_IP, UNAUTHENTICATED, THROWAWAY], ""),
    "PAY-19": (0, "LOW", [], ""),
    # A floor wins over a ceiling.
    "PAY-20": (20, "HIGH", [ATTEMPTS, SMALL], ATTEMPTS),
    # After PAY-05, by the same customer
    **{f"PAY-{number}": (0, "LOW", [], "") for number in range(21, 25)},
    "PAY-25": (40, "CRITICAL", [TESTING], TESTING),
    # From one address
    **{f"PAY-{number}": (0, "LOW", [], "") for number in range(26, 30)},
    "PAY-30": (30, "HIGH", [MANY_CARDS], MANY_CARDS),
    # By one customer
    "PAY-31": (0, "LOW", [], ""),
    "PAY-32": (0, "LOW", [], ""),
    "PAY-33": (50, "HIGH", [SUDDEN, NEW_STORE], ""),
    "PAY-34": (55, "HIGH", [SPREE, NEW_STORE], ""),
    "PAY-35": (0, "LOW", [], ""),
}


def decide(document: dict[str, Any], known: Known | None = None) -> StoredResponse:
    """Decide by profiles and lists, and add the transaction to the profiles."""
    made = decision.decide(document, "k1", RULE_SET)
    return (made.lookups.decide(known or Known({}, frozenset())) if made.lookups else made).response


def test_document() -> None:
    assert len(DOCUMENT["rules"]) == 20
    assert [rule["label"] for rule in DOCUMENT["rules"] if not rule.get("enabled", True)] == ["bonus campaign"]
    assert all({"description", "owner", "tags"} <= rule.keys() for rule in DOCUMENT["rules"])
    assert all("description" in field for field in DOCUMENT["fields"].values())
    schema = json.loads((card_rules.FILE.parent / DOCUMENT["$schema"]).read_text(encoding="utf-8"))
    jsonschema_rs.Draft202012Validator(schema).validate(DOCUMENT)


def test_samples() -> None:
    found: dict[str, tuple[int, str, list[str], str]] = {}
    known = Known({}, frozenset())
    for document in SAMPLES:
        response = decide(document, known)
        level = "".join(reason["rule"] for reason in response.get("reasons", []) if "level" in reason)
        found[response["tx_id"]] = response["score"], response["risk_level"], response["triggered_rules"], level
    assert found == EXPECTED


def test_backtest_decides_samples_alike() -> None:
    path = card_rules.FILE.parent / "card-transactions.jsonl"
    types = {field.name: field.type for field in RULE_SET.fields.declared}
    reader = replay.Reader([RULE_SET], "")
    found = {}
    for row in rows.read(path, lambda: types):
        transaction = reader.read(replay.content(row))
        score, level, hits, *_ = RULE_SET.assess(transaction)
        found[transaction.values["tx_id"]] = score, level, list(hits)
    assert found == {tx_id: expected[:3] for tx_id, expected in EXPECTED.items()}


def test_samples_cover_the_rule_set() -> None:
    """Every rule hits and misses, every level occurs, every declared field is sent, and one unknown field."""
    hits = [labels for _, _, labels, _ in EXPECTED.values()]
    # The list is empty.
    for label in set(RULE_SET.labels) - {BLOCKED_CUSTOMER}:
        assert 0 < sum(label in labels for labels in hits) < len(SAMPLES)
    assert {level for _, level, _, _ in EXPECTED.values()} == set(RISK_LEVELS)
    sent = {name for document in SAMPLES for name in document}
    assert sent - {field.name for field in RULE_SET.fields.declared} == {"ip_contry"}
    assert DOCUMENT["fields"].keys() <= sent
    warnings = [response["warnings"] for response in map(decide, SAMPLES) if "warnings" in response]
    assert warnings == [["Unknown field 'ip_contry' was ignored"]]


@pytest.mark.parametrize(
    ("field", "listed", "label", "risk_level"),
    [
        ("customer_id", ("blocked_customers", "C1"), BLOCKED_CUSTOMER, "CRITICAL"),
        ("customer_id", ("blocked_customers", "C2"), None, "LOW"),
        ("card", ("blocked_customers", "C1"), None, "LOW"),
    ],
)
def test_block_list(field: str, listed: tuple[str, str], label: str | None, risk_level: str) -> None:
    response = decide({"amount": 20, field: "C1"}, Known({}, frozenset([Entry(*listed)])))
    assert (response["risk_level"], response["triggered_rules"]) == (risk_level, [label] if label else [])


def at(time: str, amount: float = 50, **fields: Any) -> dict[str, Any]:
    """Return a payment of customer C1 on 26 November 2025, or on a day such as "27T10:00:00"."""
    day = time if "T" in time else f"26T{time}"
    return {"amount": amount, "customer_id": "C1", "timestamp": f"2025-11-{day}+01:00", **fields}


def several(number: int, amount: float = 50, **fields: Any) -> list[dict[str, Any]]:
    """Return payments from 10:00:00 on, one per second."""
    return [at(f"10:00:{second:02}", amount, **fields) for second in range(number)]


def cards(number: int) -> list[dict[str, Any]]:
    return [
        at(f"10:{minute:02}:00", customer_id=f"C{minute}", card=f"tok_{minute}", ip="::1") for minute in range(number)
    ]


@pytest.mark.parametrize(
    ("earlier", "payment", "expected"),
    [
        # Each rule, just below and just above its limits
        (several(5, 5), at("10:59:59", 5), [TESTING]),
        (several(5, 5), at("11:00:00", 5), []),
        (several(4, 5), at("10:59:59", 5), []),
        (several(5, 5), at("10:59:59", 5.01), []),
        ([*several(5, 5), at("09:00:00", 5.01)], at("10:59:59", 5), []),
        (several(5, 5), at("10:59:59", 5, card_present=True), []),
        (several(5, 5, customer_id="C2", ip="::1"), at("10:59:59", 5, ip="::1"), [TESTING]),
        (several(5, 5, customer_id="C2", ip="::1"), at("10:59:59", 5, ip="::2"), []),
        (several(10), at("10:30:00"), [ATTEMPTS]),
        (several(9), at("10:30:00"), []),
        (cards(4), at("11:00:00", card="tok_9", ip="::1"), [MANY_CARDS]),
        (cards(4), at("11:00:00", card="tok_3", ip="::1"), []),
        (cards(4), at("11:00:00", ip="::1"), []),
        (cards(3), at("11:00:00", card="tok_9", ip="::1"), []),
        ([at("01T10:00:00", 100)], at("20:00:00", 501, card_present=True), [SUDDEN]),
        ([at("01T10:00:00", 100)], at("20:00:00", 500, card_present=True), []),
        ([at("01T10:00:00", 101)], at("20:00:00", 505, card_present=True), []),
        ([at("01T10:00:00", 100)], at("20:00:00", 501, card_present=True, usual_amount=300), []),
        (several(2, 500.01), at("27T09:00:00", 251, card_present=True), [SPREE]),
        (several(2, 500.01), at("27T09:00:00", 250, card_present=True), []),
        (several(2, 500), at("27T09:00:00", 251, card_present=True), []),
        (several(2, 500.01), at("27T11:00:00", 251, card_present=True), []),
        ([at("21:00:00", store="A")], at("22:00:00", 201, store="B"), [NEW_STORE]),
        ([at("21:00:00", store="A")], at("27T03:59:59", 201, store="B"), [NEW_STORE, NIGHT]),
        ([at("21:00:00", store="A")], at("27T04:00:00", 201, store="B"), [NIGHT]),
        ([at("21:00:00", store="A")], at("21:59:59", 201, store="B"), []),
        ([at("21:00:00", store="A")], at("22:00:00", 200, store="B"), []),
        ([at("21:00:00", store="A")], at("22:00:00", 201, store="A"), []),
        ([at("21:00:00", store="A")], at("22:00:00", 201), []),
        ([at("20T12:00:00", store="A"), at("21:00:00", store="B")], at("22:00:00", 201, store="A"), []),
        ([], at("22:00:00", 201, store="B"), []),
    ],
)
def test_velocity(earlier: list[dict[str, Any]], payment: dict[str, Any], expected: list[str]) -> None:
    known = Known({}, frozenset())
    for document in earlier:
        decide(document, known)
    assert decide(payment, known)["triggered_rules"] == expected


def test_list_of_shared_addresses() -> None:
    known = Known({}, frozenset([Entry("shared_addresses", "2001:db8::17")]))
    responses = [decide(at("10:00:00", ip="2001:DB8::17", card=f"tok_{number}"), known) for number in range(6)]
    assert {tuple(response["triggered_rules"]) for response in responses} == {()}


ONLINE = {"amount": 50, "currency": "EUR"}
TERMINAL = {**ONLINE, "card_present": True}


@pytest.mark.parametrize(
    ("document", "score", "risk_level", "triggered_rules"),
    [
        # Each rule, just below and just above its limits
        ({**ONLINE, "card_country": "ir"}, 0, "CRITICAL", [BLOCKED]),
        ({**ONLINE, "card_country": "IQ"}, 0, "LOW", []),
        ({**ONLINE, "attempts_last_hour": 9}, 0, "LOW", []),
        ({**ONLINE, "attempts_last_hour": 10}, 20, "HIGH", [ATTEMPTS]),
        ({**TERMINAL, "amount": 2000}, 0, "LOW", []),
        ({**TERMINAL, "amount": 2000.01}, 25, "MEDIUM", [LARGE]),
        ({**TERMINAL, "amount": 2000.01, "currency": "USD"}, 25, "MEDIUM", [LARGE]),
        ({"amount": 2000.01, "card_present": True}, 25, "MEDIUM", [LARGE]),
        ({**TERMINAL, "amount": 8000, "currency": "PLN"}, 0, "LOW", []),
        ({**TERMINAL, "amount": 8000.01, "currency": "PLN"}, 25, "MEDIUM", [LARGE]),
        ({**ONLINE, "amount": 100, "usual_amount": 20}, 0, "LOW", []),
        ({**ONLINE, "amount": 100, "usual_amount": 19.99}, 30, "MEDIUM", [UNUSUAL]),
        ({**ONLINE, "amount": 99.99, "usual_amount": 1}, 0, "LOW", []),
        ({**ONLINE, "amount": 250, "usual_amount": 0}, 30, "MEDIUM", [UNUSUAL]),
        ({**ONLINE, "card_country": "PL", "ip_country": "pl"}, 0, "LOW", []),
        ({**ONLINE, "card_country": "PL", "ip_country": "DE"}, 25, "MEDIUM", [FOREIGN_IP]),
        ({**ONLINE, "ip_country": "DE"}, 0, "LOW", []),
        ({**TERMINAL, "card_country": "PL", "ip_country": "DE"}, 0, "LOW", []),
        ({**ONLINE, "merchant_category": "4829"}, 25, "MEDIUM", [QUASI_CASH]),
        ({**ONLINE, "merchant_category": "4828"}, 0, "LOW", []),
        ({**TERMINAL, "amount": 1000.01, "category": "JEWELLERY"}, 15, "LOW", [RESALABLE]),
        ({**TERMINAL, "amount": 1000, "category": "jewellery"}, 0, "LOW", []),
        ({**TERMINAL, "amount": 1000.01, "category": "food"}, 0, "LOW", []),
        ({**ONLINE, "category": "gift cards", "local_time": "2026-11-29T22:59:59+01:00"}, 15, "LOW", [RESALABLE]),
        ({**ONLINE, "category": "gift cards", "local_time": "2026-11-27T22:59:59+01:00"}, 0, "LOW", []),
        ({**ONLINE, "category": "electronics", "local_time": "2026-11-29T12:00:00+01:00"}, 0, "LOW", []),
        ({**TERMINAL, "entry_mode": "manual"}, 20, "MEDIUM", [NO_CHIP]),
        ({**TERMINAL, "entry_mode": "manual", "card_country": "us"}, 0, "LOW", []),
        ({**ONLINE, "entry_mode": "manual"}, 0, "LOW", []),
        ({**ONLINE, "local_time": "2026-11-25T22:59:59+01:00"}, 0, "LOW", []),
        ({**ONLINE, "local_time": "2026-11-25T23:00:00+01:00"}, 10, "LOW", [NIGHT]),
        ({**ONLINE, "local_time": "2026-11-25T05:59:59-08:00"}, 10, "LOW", [NIGHT]),
        ({**ONLINE, "local_time": "2026-11-25T06:00:00-08:00"}, 0, "LOW", []),
        ({**ONLINE, "hour": 23}, 10, "LOW", [NIGHT]),
        ({**ONLINE, "hour": 6}, 0, "LOW", []),
        ({**ONLINE, "hour": 3, "local_time": "2026-11-25T12:00:00+01:00"}, 0, "LOW", []),
        ({**ONLINE, "amount": 250.01}, 15, "LOW", [UNAUTHENTICATED]),
        ({**ONLINE, "amount": 250}, 0, "LOW", []),
        ({**ONLINE, "amount": 250.01, "authenticated": True}, 0, "LOW", []),
        ({**TERMINAL, "amount": 250.01}, 0, "LOW", []),
        ({**ONLINE, "email": "x@guerrillamail.com"}, 20, "MEDIUM", [THROWAWAY]),
        ({**ONLINE, "email": "x@mailinator.com.example.org"}, 0, "LOW", []),
        (
            {**ONLINE, "account_created": "2026-11-25T10:00:00+01:00", "local_time": "2026-11-25T11:00:00+02:00"},
            20,
            "MEDIUM",
            [THROWAWAY],
        ),
        (
            {**ONLINE, "account_created": "2026-11-25T09:59:59+01:00", "local_time": "2026-11-25T11:00:00+02:00"},
            0,
            "LOW",
            [],
        ),
        ({**ONLINE, "account_created": "2025-10-15T12:00:00+02:00"}, 0, "LOW", []),
        ({**TERMINAL, "entry_mode": "chip", "attempts_last_hour": 10}, 0, "HIGH", [ATTEMPTS, CHIP]),
        ({**ONLINE, "amount": 29.99, "authenticated": True}, 0, "LOW", [SMALL]),
        ({**ONLINE, "amount": 30, "authenticated": True}, 0, "LOW", []),
        # Levels, at and below each threshold
        ({**ONLINE, "merchant_category": "7995", "amount": 251}, 40, "MEDIUM", [QUASI_CASH, UNAUTHENTICATED]),
        (
            {**ONLINE, "merchant_category": "7995", "amount": 251, "hour": 0},
            50,
            "HIGH",
            [QUASI_CASH, NIGHT, UNAUTHENTICATED],
        ),
        (
            {**TERMINAL, "entry_mode": "magstripe", "amount": 2500, "usual_amount": 20},
            75,
            "HIGH",
            [LARGE, UNUSUAL, NO_CHIP],
        ),
        (
            {**ONLINE, "merchant_category": "6051", "amount": 2500, "usual_amount": 20, "authenticated": True},
            80,
            "CRITICAL",
            [LARGE, UNUSUAL, QUASI_CASH],
        ),
        (
            {**TERMINAL, "entry_mode": "chip", "card_country": "KP", "merchant_category": "7995"},
            5,
            "CRITICAL",
            [BLOCKED, QUASI_CASH, CHIP],
        ),
    ],
)
def test_decision(document: dict[str, Any], score: int, risk_level: str, triggered_rules: list[str]) -> None:
    response = decide(document)
    assert (response["score"], response["risk_level"]) == (score, risk_level)
    assert response["triggered_rules"] == triggered_rules


def test_reasons() -> None:
    response = decide(next(document for document in SAMPLES if document["tx_id"] == "PAY-15"))
    assert response.get("reasons") == [
        {"rule": LARGE, "points": 25, "because": {"currency": "PLN", "amount": 12000.0}},
        {"rule": UNUSUAL, "points": 30, "because": {"amount": 12000.0, "usual_amount": 500}},
        {"rule": RESALABLE, "points": 15, "because": {"category": "jewellery", "amount": 12000.0}},
        {"rule": NIGHT, "points": 10, "because": {"local_time": "2025-11-26T23:30:00+01:00"}},
        {
            "rule": CHIP,
            "points": -20,
            "because": {"card_present": True, "entry_mode": "chip"},
            "level": "at most MEDIUM",
        },
    ]
