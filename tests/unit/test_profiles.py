"""Profiles: the history of a transaction, compared with an oracle; sizes; values that collide."""

import hashlib
import itertools
import math
import random
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidProfile
from scoring.history import FEATURES, History, profiles
from scoring.history.profiles import Features, Key, Observation
from tests import payments
from tests.history_oracle import DAY, HOUR, KNOWN, WEEK, Event, differences, histories
from tests.profiles import decoded

CUSTOMER = History("customer", "customer_id", "store")
LARGEST = sys.float_info.max
T = 1_764_000_000
YEAR_1 = math.floor(datetime(1, 1, 1, tzinfo=UTC).timestamp())
YEAR_9999 = math.floor(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def observation(event: Event) -> Observation:
    facts = {"customer_id": "C1", "amount": event.amount} | ({} if event.value is None else {"store": event.value})
    return profiles.observe(CUSTOMER, facts, event.time)


def replayed(events: list[Event]) -> tuple[list[Features], bytes | None]:
    """Return the history of each transaction, and the last profile."""
    profile: bytes | None = None
    found = []
    for event in events:
        features, profile = profiles.update(profile, observation(event))
        found.append(features)
    return found, profile


def check(events: list[Event]) -> list[Features]:
    """Fail unless every history is that of the oracle."""
    found, profile = replayed(events)
    for index, (one, expected) in enumerate(zip(found, histories(events), strict=True)):
        assert differences(dict(one), expected) == [], (
            index,
            one,
            {name: str(part) for name, part in expected.items()},
        )
    if profile:
        assert len(profile) <= 849
        assert decoded(profile).number == len(events)
        assert [entry.time for entry in decoded(profile).entries] == sorted(event.time for event in events)[-KNOWN:]
    return found


def at(*times: int) -> list[Event]:
    return [Event(T + time, 10.0 + number, f"s{number % 3}") for number, time in enumerate(times)]


@pytest.mark.parametrize(
    "events",
    {
        "none before": at(0),
        "in order": at(0, 1, 60, 4_000, 90_000, 700_000),
        "out of order": at(0, -10, 5, -3_600, -90_000, 2, 0),
        "equal times": at(0, 0, 0, 0),
        "same again": [Event(T, 5.0, "a")] * 5,
        "clock set back": at(0, 100, 200, 50, 150, 250, 40),
        "later ones only": at(1_000, 2_000, 0),
        "borders of the hour": at(0, HOUR - 1, HOUR, HOUR + 1),
        "borders of the day": at(0, DAY - 1, DAY, DAY + 1),
        "borders of the week": at(0, WEEK - 1, WEEK, WEEK + 1),
        "64": at(*range(64)),
        "65": at(*range(65)),
        "66, backwards": at(*range(66, 0, -1)),
        "64, then an older one": at(*range(100, 164), 0, 200),
        "64 of one time, then another": at(*[0] * 64, 0, -1, 1),
        "earliest of 64 with the time of a new one": at(0, 0, *range(1, 63), 0, 0, 100),
        "1,000 in order": at(*range(0, 100_000, 100)),
        "1,000 with equal times": at(*(random.Random(2).randrange(300) for _ in range(1000))),
        "amounts of 0": [Event(T + n, 0, "a") for n in range(4)] + [Event(T + 9, 5.0, "a"), Event(T + 10, 5.0, "a")],
        "amount -0.0": [Event(T, -0.0), Event(T, 1.0), Event(T, -0.0)],
        "smallest amount": [Event(T, 5e-324), Event(T, 5e-324), Event(T, 1.0)],
        "1e308": [Event(T + n, 1e308) for n in range(5)],
        "largest amount": [Event(T + n, LARGEST) for n in range(5)],
        "ratio beyond the largest number": [Event(T, 1e-10), Event(T, LARGEST)],
        "integers": [Event(T, 10**300), Event(T, 3), Event(T, 2**63)],
        "years 1 and 9999": [Event(YEAR_1, 1.0), Event(YEAR_9999, 2.0), Event(T, 3.0), Event(YEAR_9999, 4.0)],
        "before 1970": at(-T - 1, -T, -T + 1, -T - DAY),
        "distinct value missing": [
            Event(T, 1.0),
            Event(T, 1.0, "a"),
            Event(T, 1.0),
            Event(T, 1.0, "a"),
            Event(T, 1, "b"),
        ],
        "distinct integers": [Event(T, 1.0, n % 3) for n in range(6)],
        "empty distinct value": [Event(T, 1.0, ""), Event(T, 1.0), Event(T, 1.0, ""), Event(T, 1.0, "a")],
        "distinct value of the day before": [Event(T, 1.0, "a"), Event(T + DAY, 1.0, "a"), Event(T + DAY, 1.0, "a")],
        "distinct value of 63 transactions and of years before": [
            Event(T - 10**9, 1.0, "a"),
            *[Event(T + number, 1.0) for number in range(62)],
            Event(T + 62, 1.0, "a"),
            Event(T + 63, 1.0, "a"),
        ],
        "distinct value of 64 transactions before": [
            Event(T, 1.0, "a"),
            *[Event(T + number, 1.0) for number in range(64)],
            Event(T + 64, 1.0, "a"),
        ],
        "distinct value of a later transaction": [Event(T + 1, 1.0, "a"), Event(T, 1.0, "a"), Event(T - DAY, 1.0, "a")],
    }.items(),
    ids=lambda case: case[0],
)
def test_history_is_that_of_the_oracle(events: tuple[str, list[Event]]) -> None:
    check(events[1])


@given(
    st.lists(
        st.builds(
            Event,
            st.one_of(
                st.integers(T, T + 5),
                st.builds(
                    lambda base, more: T + base + more, st.sampled_from([0, HOUR, DAY, WEEK]), st.integers(-2, 2)
                ),
                st.integers(YEAR_1, YEAR_9999),
            ),
            # Means of amounts near the smallest double have few significant bits.
            st.one_of(st.sampled_from([0.0, 0.01, 59.61, 1e308, LARGEST]), st.floats(1e-290, LARGEST)),
            st.one_of(st.none(), st.sampled_from(["a", "b", "é", ""])),
        ),
        max_size=90,
    )
)
def test_any_history_is_that_of_the_oracle(events: list[Event]) -> None:
    check(events)


def test_order_of_arrival_does_not_change_the_ring() -> None:
    """Only the mean depends on the order, by its rounding."""
    events = [Event(T + number, float(number), f"s{number}") for number in range(80)]
    shuffled = random.Random(3).sample(events, len(events))
    rings = {decoded(replayed(order)[1] or b"").entries.__repr__() for order in (events, events[::-1], shuffled)}
    assert len(rings) == 1


def test_labelled_payments() -> None:
    by_customer: dict[str, list[Event]] = {}
    for payment in payments.rows(6_000):
        time = math.floor(datetime.fromisoformat(payment["timestamp"]).timestamp())
        by_customer.setdefault(payment["customer_id"], []).append(Event(time, payment["amount"], payment["store"]))
    assert max(map(len, by_customer.values())) > KNOWN
    found = [features for events in by_customer.values() for features in check(events)]
    assert sum(features["is_new"] is False for features in found) > 10


@pytest.mark.parametrize("amount", [0.01, 0.1, 59.61, 999_999.99, 123_456.78, 0.070_000_001, 0.999_999_99, 9_999_999.7])
def test_amounts_of_8_digits_are_exact(amount: float) -> None:
    (_, features), _ = replayed([Event(T, amount), Event(T, 1.0)])
    assert (features["sum_24h"], features["max_24h"]) == (amount, amount)


def test_features_are_those_that_rules_know() -> None:
    assert FEATURES.keys() == Features.__annotations__.keys()


def test_profile_takes_at_most_a_kilobyte_with_the_longest_names() -> None:
    """DynamoDB counts names and values; a number takes a byte per two digits, and one more."""
    history = History("h", "b" * 40, "d" * 40)
    facts = {"amount": 1.5, history.by: "ü" * 65_536, history.distinct: "x"}
    profile = None
    for number in range(100):
        profile = profiles.update(profile, profiles.observe(history, facts, T + number))[1]
    assert profile
    key = profiles.key(history, facts)
    names = "subject", "distinct", "profile", "revision", "expires_at"
    revision, expires_at = 12, 6
    size = len("".join(names) + key.subject + key.distinct) + len(profile) + revision + expires_at
    assert 1_000 < size <= 1_024


def test_key_has_no_personal_data_and_is_that_of_the_fact() -> None:
    key = profiles.key(CUSTOMER, {"customer_id": "alice@example.com"})
    assert key == Key(profiles.subject("customer_id", "alice@example.com"), "store")
    assert "alice" not in str(key)
    assert len(key.subject) == len("customer_id#") + 32
    others = {
        profiles.key(history, {"customer_id": value, "card": value, "n": 5})
        for history in (CUSTOMER, CUSTOMER._replace(by="card"), CUSTOMER._replace(distinct="n"))
        for value in ("alice", "Alice", "alice ")
    }
    assert len(others) == 9


@pytest.mark.parametrize(
    "profile",
    [b"", b"\x01", bytes(17), b"\x02" + bytes(16), b"\x01" + bytes(16) + bytes(12), b"\x01" + bytes(16) + bytes(14)],
    ids=repr,
)
def test_damaged_or_newer_profile(profile: bytes) -> None:
    with pytest.raises(InvalidProfile):
        profiles.update(profile, observation(Event(T, 1.0)))


def test_latest() -> None:
    assert profiles.latest(None) is None
    assert profiles.latest(replayed(at(5, 100, 50))[1]) == T + 100


def mark(value: str, customer: str = "C1") -> bytes:
    return profiles.observe(CUSTOMER, {"customer_id": customer, "amount": 1, "store": value}, T).mark


def test_marks_are_spread_evenly() -> None:
    """``is_new`` is wrongly false if the mark is one of at most 64 others: 64 / (2^24 - 1), or 1 in 262,000."""
    assert 64 / (2**24 - 1) < 1 / 100_000
    marks = [int.from_bytes(mark(str(number)), "big") for number in range(20_000)]
    assert min(marks) > 0
    # The birthday problem: 12 pairs are expected.
    pairs = len(marks) - len(set(marks))
    assert pairs <= 30
    for bit in range(24):
        assert 0.48 < sum(one >> bit & 1 for one in marks) / len(marks) < 0.52


def test_no_value_has_the_mark_of_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = SimpleNamespace(digest=lambda: bytes(32), hexdigest=lambda: "0" * 64)
    monkeypatch.setattr(hashlib, "sha256", lambda _: zeros)
    assert mark("a") != bytes(3)


def test_colliding_values_collide_for_one_customer_only() -> None:
    seen: dict[bytes, str] = {}
    for number in itertools.count():
        value = f"store {number}"
        other = seen.setdefault(mark(value), value)
        if other != value:
            break
    features = replayed([Event(T, 1.0, other), Event(T, 1.0, value)])[0][1]
    # The only error: a new value counts as known.
    assert (features["is_new"], features["distinct_24h"]) == (False, 1)
    assert mark(value, "C2") != mark(other, "C2")


@pytest.mark.parametrize("place", range(10))
def test_bytes_of_times_and_amounts_are_no_marks(place: int) -> None:
    first, other = Event(T, 59.61, "a"), mark("b")
    profile = profiles.update(None, observation(first))[1]
    entries = profile[17:] * 2
    found = observation(Event(T, 1.0))._replace(mark=entries[place : place + 3])
    assert profiles.update(profile, found)[0]["is_new"] is True
    # A mark may follow bytes that are equal to it.
    twice = profiles.update(profile, observation(Event(T, 1.0))._replace(mark=found.mark))[1]
    assert profiles.update(twice, found)[0]["is_new"] is False
    assert profiles.update(twice, found._replace(mark=other))[0]["is_new"] is True


def test_update_is_pure() -> None:
    _, profile = replayed(at(*range(70)))
    assert profile
    before = bytes(profile)
    one: Any = profiles.update(profile, observation(Event(T, 5.0, "a")))
    assert one == profiles.update(profile, observation(Event(T, 5.0, "a")))
    assert profile == before
