"""History as its description says, computed apart from :mod:`scoring.history.profiles`.

A plain loop over the latest transactions with the same value, in exact arithmetic, without profiles.
"""

import bisect
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

HOUR, DAY, WEEK = 60 * 60, 24 * 60 * 60, 7 * 24 * 60 * 60
KNOWN = 64
LARGEST = Fraction(1.7976931348623157e308)
NUMBERS = ("sum_24h", "max_24h", "amount_ratio")
TOLERANCE = Fraction(1, 10**6)
# Less than any amount of money. Doubles this small have few significant bits.
NEGLIGIBLE = Fraction(1, 10**290)


class Event(NamedTuple):
    """A transaction: its time in whole seconds, amount, and distinct value or None."""

    time: int
    amount: float
    value: str | int | None = None


def _history(known: Sequence[Event], count: int, total: Fraction, event: Event) -> dict[str, Any]:
    """Return the history of a transaction, given the known ones, and the count and total amount of all before it.

    Numbers are exact fractions.
    """
    earlier = [one for one in known if one.time <= event.time]
    within = {window: [one for one in earlier if one.time > event.time - window] for window in (HOUR, DAY, WEEK)}
    day = within[DAY]
    values = {one.value for one in day if one.value is not None}
    return {
        "count_1h": len(within[HOUR]),
        "count_24h": len(day),
        "count_7d": len(within[WEEK]),
        "sum_24h": min(sum((Fraction(one.amount) for one in day), Fraction(0)), LARGEST),
        "max_24h": max((Fraction(one.amount) for one in day), default=Fraction(0)),
        "seconds_since_last": min((event.time - one.time for one in earlier), default=None),
        "amount_ratio": min(Fraction(event.amount) * count / total, LARGEST) if total else None,
        "distinct_24h": len(values),
        "is_new": None if event.value is None else event.value not in {one.value for one in earlier},
    }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the names of the parts that differ: numbers by more than a millionth, all others at all."""
    return [
        name
        for name in expected.keys() | found.keys()
        if not (
            _close(found.get(name), expected[name])
            if name in NUMBERS and expected.get(name) is not None
            else found.get(name, ...) == expected.get(name, ...) and type(found[name]) is type(expected[name])
        )
    ]


def _close(found: Any, expected: Fraction) -> bool:
    if not isinstance(found, float):
        return False
    return abs(Fraction(found) - expected) <= max(expected * TOLERANCE, NEGLIGIBLE)


def histories(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return the history of each of the transactions with one value, in the order of their decisions."""
    found = []
    by_time: list[Event] = []
    total = Fraction(0)
    for event in events:
        found.append(_history(by_time[-KNOWN:], len(by_time), total, event))
        # Of equal times, the one decided last comes last.
        bisect.insort(by_time, event, key=lambda one: one.time)
        total += Fraction(event.amount)
    return found
