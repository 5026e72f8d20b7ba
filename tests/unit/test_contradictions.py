"""Rules that can never hit: tables of examples, and comparison with a search of all values."""

import contextlib
import itertools
import time
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contradictions
from scoring.errors import InvalidRequest
from scoring.scorers import rules_loader
from tests import generated_rule_sets
from tests.rule_set import DOCUMENT

FIELDS = {
    "country": {"type": "string", "case": "ignore", "max_length": 2},
    "home": {"type": "string"},
    "currency": {"type": "string", "one_of": ["PLN", "EUR"], "required": True},
    "ratio": {"type": "number"},
    "huge": {"type": "number"},
    "items": {"type": "integer", "minimum": 1, "maximum": 9},
    "score": {"type": "integer"},
    "size": {"type": "integer", "one_of": [1, 2, 4]},
    "card_present": {"type": "boolean"},
    "at": {"type": "time"},
    "code": {"type": "string", "max_length": 10},
}
HISTORIES = {"customer": {"by": "customer_id", "distinct": "store"}}
FIRST, SECOND = "2026-11-25T08:30:00Z", "2026-11-25T08:30:00.000002Z"


def is_(field: str, operator: str, value: Any = None, **names: Any) -> dict[str, Any]:
    """Return a comparison."""
    found = {"field": field, "operator": operator, **names}
    return found if value is None else {**found, "value": value}


def all_(*parts: Any) -> dict[str, Any]:
    return {"all": list(parts)}


def any_(*parts: Any) -> dict[str, Any]:
    return {"any": list(parts)}


def not_(part: Any) -> dict[str, Any]:
    return {"not": part}


def document(*when: Any) -> dict[str, Any]:
    """Return a rule set of one rule."""
    rules = [{"label": "R", "points": 1, "when": list(when)}]
    return {**DOCUMENT, "fields": FIELDS, "histories": HISTORIES, "rules": rules}


def find(*when: Any) -> list[tuple[str, ...]]:
    """Return the fields that keep a rule with these conditions from ever hitting: a list of at most one item."""
    written = document(*when)
    return [names for _, names in contradictions.find(written, rules_loader.from_document(written))]


TRUE, FALSE = is_("card_present", "==", True), is_("card_present", "==", False)
PL, DE, FR = (is_("home", "==", country) for country in ("PL", "DE", "FR"))
NEVER = [
    # Numbers
    ("amount", [is_("amount", ">", 5), is_("amount", "<", 3)]),
    ("amount", [is_("amount", ">", 5), is_("amount", "<=", 5)]),
    ("amount", [is_("amount", "between", [5, 3])]),
    ("amount", [is_("amount", "<", 0)]),
    ("amount", [is_("amount", "==", 1), is_("amount", "==", 2)]),
    ("amount", [is_("amount", "in", [1, 2]), is_("amount", "not in", [2, 1.0, 3])]),
    ("amount", [is_("amount", ">", 2**53), is_("amount", "<", 2**53 + 1)]),
    ("ratio", [is_("ratio", ">", 0), is_("ratio", "<", 5e-324)]),
    # Integers
    ("items", [is_("items", ">", 2), is_("items", "<", 3)]),
    ("items", [is_("items", "==", 2.5)]),
    ("items", [is_("items", ">", 9)]),
    ("items", [is_("items", "between", [2.1, 2.9])]),
    ("items", [is_("items", "not in", list(range(1, 10)))]),
    ("score", [is_("score", ">", 2**63 - 1)]),
    ("score", [is_("score", "<", -1e30)]),
    ("size", [is_("size", "==", 3)]),
    ("size", [is_("size", ">", 2), is_("size", "!=", 4)]),
    ("hour", [is_("hour", ">", 23)]),
    ("hour", [is_("hour", "between", [22, 5]), is_("hour", "between", [6, 21])]),
    ("hour", [is_("hour", "between", [22, 5]), is_("hour", ">", 5), is_("hour", "<", 22)]),
    # Booleans
    ("card_present", [TRUE, FALSE]),
    ("card_present", [is_("card_present", "is present"), not_(any_(TRUE, FALSE))]),
    # Missing fields
    ("home", [is_("home", "is missing"), is_("home", "!=", "PL")]),
    ("home", [is_("home", "is missing"), is_("home", "is present")]),
    ("amount", [is_("amount", "is missing")]),
    ("hour", [is_("hour", "is missing")]),
    ("currency", [not_(is_("currency", "is present"))]),
    ("home", [is_("home", "is missing"), is_("home", "!=", other="country")]),
    ("home", [is_("home", "is missing"), is_("country", "!=", "PL"), is_("country", "==", other="home")]),
    # Text
    ("home", [PL, DE]),
    ("home", [PL, is_("home", "==", "pl")]),
    ("home", [is_("home", "in", ["PL", "DE"]), is_("home", "starts with", "X")]),
    ("home", [is_("home", "starts with", "ab"), is_("home", "starts with", "b")]),
    ("home", [is_("home", "starts with", "ab"), not_(is_("home", "contains", "b"))]),
    ("home", [is_("home", "ends with", "ab"), is_("home", "ends with", "a")]),
    ("home", [is_("home", "contains", "abc"), not_(is_("home", "contains", "bc"))]),
    ("country", [is_("country", "==", "PL"), is_("country", "!=", "pl")]),
    ("country", [is_("country", "starts with", "P"), not_(is_("country", "contains", "p"))]),
    ("code", [is_("code", "==", "x" * 11)]),
    ("code", [is_("code", "contains", "x" * 11)]),
    ("currency", [is_("currency", "==", "USD")]),
    ("currency", [is_("currency", "not in", ["EUR", "PLN", "USD"])]),
    ("tx_id", [is_("tx_id", "==", "")]),
    ("tx_id", [is_("tx_id", "contains", "\n")]),
    # Times
    ("at", [is_("at", ">", FIRST), is_("at", "<", FIRST)]),
    ("at", [is_("at", ">", "2026-11-25T09:00:00+01:00"), is_("at", "<=", "2026-11-25T08:00:00Z")]),
    ("at", [is_("at", "between", [SECOND, FIRST])]),
    ("at", [is_("at", ">", "2026-11-25T08:30:00.000001Z"), is_("at", "<", SECOND)]),
    ("at", [is_("at", ">", 5, of="hour"), is_("at", "<", 6, of="hour")]),
    ("at", [is_("at", "in", ["saturday", "sunday"], of="weekday"), is_("at", "==", "monday", of="weekday")]),
    ("at", [is_("at", "not in", ["monday", "tuesday", "wednesday", "thursday", "friday"], of="weekday"),
            not_(is_("at", "in", ["saturday", "sunday"], of="weekday")), is_("at", "is present")]),
    # 2026-11-25 is a Wednesday; no offset makes it a Saturday.
    ("at", [is_("at", "==", FIRST), is_("at", "==", "saturday", of="weekday")]),
    # The largest offset makes it a Thursday.
    ("at", [is_("at", "between", [FIRST, "2026-11-25T20:30:00Z"]), is_("at", "==", "friday", of="weekday")]),
    # History
    ("customer.count_1h", [is_("customer.count_1h", ">", 64)]),
    ("customer.count_7d", [is_("customer.count_7d", "<", 0)]),
    ("customer.count_24h", [is_("customer.count_24h", ">", 2), is_("customer.count_24h", "<", 3)]),
    ("customer.distinct_24h", [is_("customer.distinct_24h", ">=", 65)]),
    ("customer.sum_24h", [is_("customer.sum_24h", "<", 0)]),
    ("customer.amount_ratio", [is_("customer.amount_ratio", "is missing"), is_("customer.amount_ratio", ">", 5)]),
    ("customer.seconds_since_last", [is_("customer.seconds_since_last", "==", 0.5)]),
    ("customer.is_new", [is_("customer.is_new", "==", True), is_("customer.is_new", "!=", True)]),
    ("customer.max_24h", [is_("customer.max_24h", "is missing"), is_("amount", ">", other="customer.max_24h")]),
    # Lists
    ("home", [is_("home", "in list", "a"), is_("home", "not in list", "a")]),
    ("home", [is_("home", "in list", "a"), is_("home", "is missing")]),
    ("home", [is_("home", "not in list", "a"), not_(is_("home", "is present"))]),
    ("home", [is_("home", "in list", "a"), not_(is_("home", "in list", "a"))]),
    ("home", [PL, is_("home", "in list", "a"), is_("home", "not in list", "b"), DE]),
    ("country", [is_("country", "in list", "a"), is_("country", "in list", "b"), is_("country", "not in list", "a")]),
    ("currency", [is_("currency", "in list", "a"), is_("currency", "==", "USD")]),
    ("home", [any_(is_("home", "in list", "a"), is_("home", "in list", "b")), is_("home", "not in list", "a"),
              is_("home", "not in list", "b")]),
    ("home code", [any_(is_("home", "in list", "a"), is_("code", "in list", "a")), is_("home", "not in list", "a"),
                   is_("code", "not in list", "a")]),
    # Groups
    ("amount", [any_(is_("amount", ">", 5), is_("amount", "==", 0)), is_("amount", "between", [1, 5])]),
    ("amount", [not_(is_("amount", ">=", 0))]),
    ("amount", [not_(any_(is_("amount", ">", 5), PL)), is_("amount", ">", 6)]),
    ("amount", [all_(all_(is_("amount", ">", 5)), PL), is_("amount", "<", 5)]),
    ("amount home", [any_(is_("amount", "<", 3), DE), is_("amount", ">", 5), PL]),
    ("amount home", [not_(all_(is_("amount", ">", 5), PL)), is_("amount", "==", 6), PL]),
    ("amount home", [any_(all_(is_("amount", "<", 3), any_(is_("amount", ">", 4), DE)), FR),
                     PL]),
]  # fmt: skip
POSSIBLE = [
    [is_("amount", ">=", 5), is_("amount", "<=", 5)],
    [is_("amount", ">", 5), is_("amount", "<", 5.000000000000002)],
    [is_("amount", ">", 1.7976931348623157e308)],
    [is_("amount", ">", 2**53), is_("amount", "<", 2**53 + 2)],
    [is_("ratio", "<", -1e300)],
    [is_("ratio", "not in", [0, 1, -1])],
    [is_("items", ">", 2), is_("items", "<", 4)],
    [is_("items", "between", [2.1, 3.9])],
    [is_("items", "not in", list(range(2, 10)))],
    [is_("items", "<", 1e300)],
    [is_("score", ">", 2**63 - 2)],
    [is_("score", ">", -1e30), is_("score", "<", 1e30)],
    [is_("hour", "between", [22, 5]), is_("hour", "between", [5, 21])],
    [is_("hour", "is present")],
    [not_(TRUE), not_(FALSE)],
    [is_("home", "is missing"), not_(PL)],
    [is_("home", "is missing"), not_(is_("home", "==", other="country"))],
    [PL, is_("home", "!=", "pl")],
    [is_("home", "==", "")],
    [is_("home", "starts with", "ab"), is_("home", "starts with", "a"), is_("home", "ends with", "ab")],
    [is_("home", "starts with", "ab"), is_("home", "!=", "ab"), not_(is_("home", "contains", "abc"))],
    [is_("home", "starts with", "a"), is_("home", "ends with", "b"), not_(is_("home", "contains", "ab"))],
    [not_(is_("home", "contains", character)) for character in "abcdefghijklmnopqrstuvwxyz !~"],
    # "ß" has one character and is "ss" in folded case.
    [is_("country", "==", "ssss")],
    [is_("country", "contains", "ssss")],
    [is_("country", "starts with", "P"), is_("country", "ends with", "L"), is_("country", "contains", "pl")],
    [is_("code", "starts with", "x" * 10), is_("code", "ends with", "x" * 10), is_("code", "contains", "xx")],
    [is_("tx_id", "contains", "x" * 128)],
    [is_("at", ">", FIRST), is_("at", "<", SECOND)],
    [is_("at", "==", FIRST), is_("at", "==", "2026-11-25T09:30:00+01:00")],
    [is_("at", "==", FIRST), is_("at", "==", "tuesday", of="weekday"), is_("at", "==", 8, of="hour")],
    [is_("at", "==", FIRST), is_("at", "==", "thursday", of="weekday"), is_("at", "==", 8, of="hour")],
    [is_("at", "==", FIRST), is_("at", "==", 19, of="hour")],
    [is_("at", ">", FIRST), is_("at", "==", "saturday", of="weekday"), is_("at", "==", 3, of="hour")],
    [is_("at", "<", FIRST), is_("at", "==", "sunday", of="weekday"), is_("at", "==", 23, of="hour")],
    [is_("at", "==", "friday", of="weekday"), is_("at", "between", [22, 5], of="hour")],
    [is_("at", ">", "9999-12-31T23:59:59.999999Z")],
    [is_("at", "<", "0001-01-01T00:00:00Z")],
    [is_("customer.count_1h", ">=", 64)],
    [is_("customer.count_1h", "==", 0)],
    [is_("customer.amount_ratio", ">", 1e308)],
    [is_("customer.seconds_since_last", ">", 10**11)],
    [is_("customer.is_new", "is missing"), not_(is_("customer.is_new", "==", True))],
    [is_("amount", ">", other="customer.max_24h", times=3), is_("customer.count_1h", "==", 0)],
    # What one number says about another is not examined.
    [is_("customer.count_1h", ">", 5), is_("customer.count_24h", "<", 5)],
    [is_("home", "in list", "a")],
    [is_("home", "not in list", "a"), PL],
    [is_("home", "in list", "a"), is_("home", "not in list", "b")],
    [is_("home", "in list", "a"), is_("code", "not in list", "a")],
    # The lists may be unknown.
    [not_(is_("home", "in list", "a")), not_(is_("home", "not in list", "a"))],
    [not_(is_("home", "in list", "a")), not_(is_("home", "not in list", "a")), PL],
    [is_("home", "is missing"), not_(is_("home", "in list", "a"))],
    [is_("currency", "in list", "a"), is_("currency", "not in list", "b"), is_("currency", "==", "PLN")],
    [is_("store", "==", "in list"), is_("store", "in list", "x")],
    # Comparisons of two fields are not examined.
    [is_("amount", ">", other="ratio"), is_("amount", "<", other="ratio")],
    [is_("amount", ">", other="amount")],
    [any_(is_("amount", "<", 3), PL), is_("amount", ">", 5)],
    [any_(is_("amount", "<", 3), is_("amount", ">", other="ratio")), is_("amount", ">", 5)],
    [not_(all_(is_("amount", ">", 5), PL)), is_("amount", ">", 5)],
]  # fmt: skip


@pytest.mark.parametrize(("names", "when"), NEVER, ids=range(len(NEVER)))
def test_rule_that_can_never_hit(names: str, when: list[Any]) -> None:
    assert find(*when) == [tuple(names.split())]


@pytest.mark.parametrize("when", POSSIBLE, ids=range(len(POSSIBLE)))
def test_rule_that_can_hit(when: list[Any]) -> None:
    assert find(*when) == []


def test_disabled_rules_are_left_out() -> None:
    written = document(is_("amount", "<", 0))
    first, second = ({**written["rules"][0], "label": label} for label in ("first", "second"))
    written["rules"] = [{**first, "enabled": False}, second]
    assert list(contradictions.find(written, rules_loader.from_document(written))) == [("second", ("amount",))]


def test_field_with_too_many_searched_texts_is_not_judged() -> None:
    searches = [not_(is_("home", "contains", f"{number:02}")) for number in range(49)]
    assert find(*searches[:9], is_("home", "==", "00")) == [("home",)]
    assert find(*searches, is_("home", "==", "00")) == []


def test_field_with_too_many_lists_is_not_judged() -> None:
    lists = [is_("home", "in list", f"list{number}") for number in range(48)]
    assert find(*lists[:7], PL, DE) == [("home",)]
    assert find(*lists, PL, DE) == []


def test_largest_rule_set_takes_seconds_at_most() -> None:
    texts = [is_("home", sign, f"{number:0900}") for number in range(7) for sign in ("contains", "starts with")]
    times = [is_("at", ">", f"2026-11-{day:02}T08:30:00Z") for day in range(1, 29)]
    lists = [is_("code", "in list", f"list{number}") for number in range(8)]
    hostile = [{"label": f"{number}", "points": 1, "when": [*texts, *times, *lists]} for number in range(20)]
    written = {**document(), "rules": hostile}
    rule_set = rules_loader.from_document(written)
    start = time.process_time()
    assert len(list(contradictions.find(written, rule_set))) == 20
    assert time.process_time() - start < 10


# All values of a field that conditions below can distinguish.
NOON = datetime.fromisoformat("2026-11-25T12:00:00Z")
INSTANTS = [NOON + timedelta(hours=hours) for hours in (0, 5, 80)]
MICROSECOND = timedelta(microseconds=1)
OFFSETS = [timezone(timedelta(minutes=minutes)) for minutes in (-1439, *range(-1380, 1381, 60), 1439)]
DOMAINS: dict[str, list[Any]] = {
    "ratio": [number / 4 for number in range(-8, 17)],
    "items": list(range(1, 10)),
    "hour": list(range(24)),
    "card_present": [True, False],
    "home": ["".join(text) for length in range(9) for text in itertools.product("ab-", repeat=length)],
    "customer.count_1h": list(range(65)),
    "code": ["a", "b", "x"],
    "at": [
        moment.astimezone(offset)
        for moment in (
            *(instant + distance * MICROSECOND for instant in INSTANTS for distance in (-1, 0, 1)),
            *(NOON + timedelta(hours=hours, minutes=30) for hours in range(-200, 280)),
        )
        for offset in OFFSETS
    ],
}
# Whether a code is on each of two lists, or the lists cannot be read.
LISTED = [
    {f"code in list {name}": one for name, one in zip("ab", both, strict=True) if one is not None}
    for both in itertools.product((True, False, None), repeat=2)
]
TIMES = st.sampled_from([instant.isoformat() for instant in INSTANTS])
TEXTS = st.sampled_from(["a", "b", "ab", "ba", "aa"])
HALVES = st.integers(-3, 6).map(lambda number: number / 2)
HOURS = st.integers(-1, 24)
WEEKDAYS = st.sampled_from(["monday", "tuesday", "friday", "saturday", "sunday"])


def comparisons(
    field: str, operators: list[str], values: st.SearchStrategy[Any], **names: Any
) -> st.SearchStrategy[Any]:
    """Generate comparisons of a field."""
    lists = st.lists(values, min_size=1, max_size=3)
    pairs = st.tuples(values, values).map(list)
    return st.sampled_from(operators).flatmap(
        lambda sign: (pairs if sign == "between" else lists if sign in {"in", "not in"} else values).map(
            lambda value: is_(field, sign, value, **names)
        )
    )


NUMERIC = ["==", "!=", ">", ">=", "<", "<=", "in", "not in", "between"]
COMPARISONS = {
    "ratio": comparisons("ratio", NUMERIC, HALVES),
    "items": comparisons("items", NUMERIC, st.integers(-1, 11) | HALVES),
    "hour": comparisons("hour", NUMERIC, HOURS),
    "customer.count_1h": comparisons("customer.count_1h", NUMERIC, st.integers(-1, 66) | HALVES),
    "code": comparisons("code", ["==", "!=", "in list", "not in list"], st.sampled_from("ab")),
    "card_present": comparisons("card_present", ["==", "!="], st.booleans()),
    "home": comparisons("home", ["==", "!=", "in", "not in", "starts with", "ends with", "contains"], TEXTS),
    "at": comparisons("at", ["==", "!=", ">", ">=", "<", "<=", "between"], TIMES)
    | comparisons("at", NUMERIC, HOURS, of="hour")
    | comparisons("at", ["==", "!=", "in", "not in"], WEEKDAYS, of="weekday"),
}


def presence(field: str) -> st.SearchStrategy[Any]:
    return st.sampled_from([is_(field, "is missing"), is_(field, "is present")])


def groups(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(parts, min_size=1, max_size=3)
    return several.map(lambda some: all_(*some)) | several.map(lambda some: any_(*some)) | parts.map(not_)


def can_hit(fields: tuple[str, ...], when: list[Any]) -> bool:
    """Try all combinations of values."""
    written = {**document(*when), "defaults": {}}
    tests = rules_loader.from_document(written).rules[0].tests
    facts = (
        [
            {},
            *({field: value, **listed} for value in DOMAINS[field] for listed in (LISTED if field == "code" else [{}])),
        ]
        for field in fields
    )
    return any(
        all(test(found) for test in tests)
        for combination in itertools.product(*facts)
        for found in [{name: value for fact in combination for name, value in fact.items()}]
    )


def is_reported(when: list[Any]) -> bool:
    written = {**document(*when), "defaults": {}}
    return bool(list(contradictions.find(written, rules_loader.from_document(written))))


@pytest.mark.parametrize("field", DOMAINS)
@given(st.data())
def test_one_field_agrees_with_a_search(field: str, data: st.DataObject) -> None:
    # At most three texts, so that the search finds one that contains them all.
    leaves = COMPARISONS[field] | presence(field)
    conditions = st.lists(leaves | groups(leaves | leaves.map(not_)), min_size=1, max_size=3)
    if field == "home":
        conditions = st.lists(leaves | leaves.map(not_), min_size=1, max_size=3) | st.lists(
            groups(leaves), min_size=1, max_size=1
        )
    when = data.draw(conditions)
    assert is_reported(when) == (not can_hit((field,), when))


FEW = ("items", "card_present", "ratio")
LEAVES = st.sampled_from(FEW).flatmap(lambda field: COMPARISONS[field] | presence(field))
CONJUNCTIONS = st.lists(LEAVES | LEAVES.map(not_), min_size=1, max_size=3)


@given(CONJUNCTIONS, st.lists(CONJUNCTIONS, min_size=1, max_size=3))
def test_one_group_of_alternatives_agrees_with_a_search(conditions: list[Any], alternatives: list[Any]) -> None:
    when = [*conditions, any_(*(all_(*parts) for parts in alternatives))]
    assert is_reported(when) == (not can_hit(FEW, when))


OTHERS = st.builds(
    lambda field, sign, other: is_(field, sign, other=other),
    st.sampled_from(["items", "ratio"]),
    st.sampled_from(NUMERIC[:6]),
    st.sampled_from(["items", "ratio"]),
)


@given(st.lists(st.recursive(LEAVES | OTHERS, groups, max_leaves=10), min_size=1, max_size=4))
def test_no_rule_that_can_hit_is_reported(when: list[Any]) -> None:
    assert not (is_reported(when) and can_hit(FEW, when))


def test_generated_rules_that_are_reported_never_hit() -> None:
    rng = Random(2026)
    reported = 0
    for _ in range(500):
        written = generated_rule_sets.generate(rng)
        rule_set = rules_loader.from_document(written)
        never = {label for label, _ in contradictions.find(written, rule_set)}
        reported += len(never)
        for transaction, known in generated_rule_sets.cases(rng, written, 100 if never else 0):
            with contextlib.suppress(InvalidRequest):
                read = generated_rule_sets.read(rule_set, transaction, known)
                assert never.isdisjoint(rule_set.assess(read).triggered_rules)
    assert reported > 50
