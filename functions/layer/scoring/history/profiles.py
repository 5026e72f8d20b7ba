"""Profiles: what is kept of the transactions with one value of a field, in at most 849 bytes.

A profile has the number and the mean amount of all transactions, and a ring of the 64 latest by time. Of equal times,
those that were decided last are kept. An entry of the ring has 13 bytes, big-endian:

===== ==========================================================================================================
bytes content
===== ==========================================================================================================
5     time: seconds since 1970 plus 2^39, so that the bytes sort as the times do
5     amount: the first 5 bytes of a double; it is read with the mark as its last 3, without unpacking it first
3     mark: a hash of the distinct value; 0 if there is none
===== ==========================================================================================================

Two different values have equal marks once in 2^24 - 1 pairs. ``is_new`` compares a value with at most 64 others, so it
is wrongly false for at most 64 / (2^24 - 1), or 1 in 262,000, and never wrongly true.
"""

import bisect
import functools
import hashlib
import struct
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from scoring.errors import InvalidProfile
from scoring.history import History

MAX_ENTRIES = 64
HOUR_SECONDS, DAY_SECONDS, WEEK_SECONDS = 3_600, 86_400, 604_800
# The times from year 1 to 9999 fit.
MAX_TIME = 2**39
MARK_BYTES = 3

_FORMAT = 1
# Format, number of transactions, mean amount
_HEAD = struct.Struct(">BQd")
_ENTRY_BYTES, _TIME_BYTES, _AMOUNT_BYTES = 13, 5, 5
_DOUBLE = struct.Struct(">d")
# An entry's first 8 bytes as a number: its time and so many bits of its amount
_AMOUNT_BITS = 24
# An amount keeps 29 significant bits, so it changes by less than 4e-9 of its value. Rounding to 8 significant digits,
# which changes 5e-9 or more, undoes that: 999,999.99 is read exactly, and so are sums up to there.
_SHOWN_DIGITS = 8
# Smaller amounts are read as 0: the last bytes of a 0 are those of its mark.
_SMALLEST = 1e-300
_MAX_MARK = 2**24 - 1
_NO_MARK = bytes(MARK_BYTES)


class Features(TypedDict):
    """The history of a transaction: the transactions decided before it, of the same value, and not later in time.

    Attributes
    ----------
    count_1h, count_24h, count_7d
        Number within the last hour, day and week: ``t - window < time <= t``, at most 64.
    sum_24h, max_24h
        Sum and maximum of the amounts of the last day; 0 if there are none.
    seconds_since_last
        Whole seconds since the latest; None if there is none.
    amount_ratio
        Amount divided by the mean amount of all transactions decided before, whatever their time; None if there are
        none or the mean is 0.
    distinct_24h
        Number of distinct values in the last day.
    is_new
        Whether no known transaction, of the last day or earlier, has this one's value; None if it has no value.
    """

    count_1h: int
    count_24h: int
    count_7d: int
    sum_24h: float
    max_24h: float
    seconds_since_last: int | None
    amount_ratio: float | None
    distinct_24h: int
    is_new: bool | None


class Key(NamedTuple):
    """Key of a profile.

    Attributes
    ----------
    subject
        Name of the field and a hash of its value, as in ``customer_id#9f86d081884c7d659a2feaa0c55ad015``. So a profile
        has neither personal data nor a key of unlimited length.
    distinct
        Name of the field whose distinct values are counted.
    """

    subject: str
    distinct: str


class Observation(NamedTuple):
    """A transaction as a profile records it.

    Attributes
    ----------
    key
        Key of the profile.
    time
        Whole seconds since 1970.
    amount
        Amount, at least 0.
    mark
        Hash of the distinct value in 3 bytes, which are zero if the transaction has none.
    """

    key: Key
    time: int
    amount: float
    mark: bytes


def subject(field: str, value: str | int) -> str:
    """Return the part of a key that stands for a value of a field."""
    return f"{field}#{hashlib.sha256(str(value).encode()).hexdigest()[:32]}"


def key(history: History, facts: Mapping[str, Any]) -> Key:
    """Return the key of a transaction's profile; the transaction must have the field ``history.by``."""
    return Key(subject(history.by, facts[history.by]), history.distinct)


def observe(history: History, facts: Mapping[str, Any], time: int) -> Observation:
    """Return what a profile records of a transaction that has the field ``history.by``."""
    found = key(history, facts)
    value = facts.get(history.distinct)
    return Observation(found, time, float(facts["amount"]), _NO_MARK if value is None else _mark_of(found, value))


def update(profile: bytes | None, observation: Observation) -> tuple[Features, bytes]:
    """Return the history of a transaction and the profile that includes the transaction.

    Parameters
    ----------
    profile
        The profile before the transaction; None if there is none.
    observation
        The transaction.

    Raises
    ------
    InvalidProfile
        The profile is not from this function.
    """
    count, mean, ring = _unpack(profile)
    # As numbers, times are followed by the first 3 bytes of the amount.
    times = _column(ring, "Q5x")
    position = bisect.bisect(times, _up_to(observation.time))
    place = position * _ENTRY_BYTES
    features = _features(ring[:place], times[:position], observation)
    if count and mean:
        features["amount_ratio"] = min(observation.amount / mean, sys.float_info.max)
    ring = ring[:place] + _entry(observation) + ring[place:]
    # The difference of two amounts cannot overflow, unlike their sum.
    head = _HEAD.pack(_FORMAT, count + 1, mean + (observation.amount - mean) / (count + 1))
    return features, head + ring[-MAX_ENTRIES * _ENTRY_BYTES :]


def latest(profile: bytes | None) -> int | None:
    """Return the time of the latest transaction in a profile; None if there is none. The profile is not checked."""
    if profile is None or len(profile) < _HEAD.size + _ENTRY_BYTES:
        return None
    return int.from_bytes(profile[-_ENTRY_BYTES:][:_TIME_BYTES], "big") - MAX_TIME


def _unpack(profile: bytes | None) -> tuple[int, float, bytes]:
    """Return the number of transactions, their mean amount, and the ring."""
    if profile is None:
        return 0, 0.0, b""
    ring = profile[_HEAD.size :]
    if len(profile) < _HEAD.size or len(ring) % _ENTRY_BYTES:
        raise InvalidProfile(f"The profile cannot have {len(profile)} bytes")
    version, count, mean = _HEAD.unpack_from(profile)
    if version != _FORMAT:
        raise InvalidProfile(f"The profile has the unknown format {version}")
    return count, mean, ring


def _column(ring: bytes, part: str) -> tuple[Any, ...]:
    """Return one part of every entry of a ring."""
    return _columns(part, len(ring) // _ENTRY_BYTES).unpack(ring)


@functools.cache
def _columns(part: str, entries: int) -> struct.Struct:
    """Return what unpacks one part of every entry at once, which is several times as fast as one by one."""
    return struct.Struct(">" + part * entries)


def _features(ring: bytes, times: tuple[int, ...], observation: Observation) -> Features:
    """Return the history without ``amount_ratio``; ring and times are those up to the time of the transaction."""
    time, mark, known = observation.time, observation.mark, len(times)
    first_of_day = bisect.bisect(times, _up_to(time - DAY_SECONDS))
    of_day = ring[first_of_day * _ENTRY_BYTES :]
    amounts = _column(of_day, "5xd")
    marks = {*_column(of_day, "10x3s")}
    is_known = mark in marks or mark in _column(ring[: first_of_day * _ENTRY_BYTES], "10x3s")
    marks.discard(_NO_MARK)
    return {
        "count_1h": known - bisect.bisect(times, _up_to(time - HOUR_SECONDS)),
        "count_24h": known - first_of_day,
        "count_7d": known - bisect.bisect(times, _up_to(time - WEEK_SECONDS)),
        "sum_24h": _shown(sum(amounts)),
        "max_24h": _shown(max(amounts, default=0.0)),
        "seconds_since_last": time - ((times[-1] >> _AMOUNT_BITS) - MAX_TIME) if times else None,
        "amount_ratio": None,
        "distinct_24h": len(marks),
        "is_new": not is_known if mark != _NO_MARK else None,
    }


def _entry(observation: Observation) -> bytes:
    time = (observation.time + MAX_TIME).to_bytes(_TIME_BYTES, "big")
    return time + _DOUBLE.pack(abs(observation.amount))[:_AMOUNT_BYTES] + observation.mark


def _up_to(seconds: int) -> int:
    """Return the largest number of an entry that is not later than a time."""
    return (seconds + MAX_TIME + 1 << _AMOUNT_BITS) - 1


def _shown(amount: float) -> float:
    """Return an amount without the digits that a profile does not keep."""
    return min(float(f"{amount:.{_SHOWN_DIGITS}g}"), sys.float_info.max) if amount > _SMALLEST else 0.0


def _mark_of(found: Key, value: str | int) -> bytes:
    """Return the mark of a distinct value. It depends on the key, so that no two values collide in every profile."""
    digest = hashlib.sha256(f"{found.subject}#{value}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") % _MAX_MARK + 1).to_bytes(MARK_BYTES, "big")
