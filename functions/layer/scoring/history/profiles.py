"""Profiles: what is kept of the transactions with one value of a field, in at most 849 bytes.

A profile has the number and the mean amount of all transactions, and a ring of the 64 latest by time. Of equal times,
those that were decided last are kept. An entry of the ring has 13 bytes, big-endian:

===== ================================================================
bytes content
===== ================================================================
5     time in seconds since 1970, signed
5     amount: a double, rounded to its first 5 bytes
3     mark: a hash of the distinct value; 0 if there is none
===== ================================================================

Two different values have equal marks once in 2^24 - 1 pairs. ``is_new`` compares a value with at most 64 others, so it
is wrongly false for at most 64 / (2^24 - 1), or 1 in 262,000, and never wrongly true.
"""

import hashlib
import struct
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from scoring.errors import InvalidProfile
from scoring.history import History

MAX_ENTRIES = 64
HOUR_SECONDS, DAY_SECONDS, WEEK_SECONDS = 3_600, 86_400, 604_800

_FORMAT = 1
# Format, number of transactions, mean amount
_HEAD = struct.Struct(">BQd")
# Upper byte and rest of the time, of the amount, and of the mark
_ENTRY = struct.Struct(">bIBIBH")
_DOUBLE, _BITS = struct.Struct(">d"), struct.Struct(">Q")
# An amount is rounded to 29 significant bits, and read to 8 significant digits: 999,999.99 is read exactly.
_LOST_BITS = 24
_HALF_AMOUNT = 1 << (_LOST_BITS - 1)
_AMOUNT_DIGITS = 8
# The largest finite double without its last bits
_MAX_AMOUNT = 0x7FEFFFFFFF
_MAX_MARK = 2**24 - 1


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
        Whether this transaction's value is none of those; None if it has no value.
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
        Name of the field and a hash of its value, as in ``customer_id#9f86d081884c7d65``, so that a profile has
        neither personal data nor a key of unlimited length.
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
        Hash of the distinct value, 1 to 2^24 - 1; 0 if the transaction has none.
    """

    key: Key
    time: int
    amount: float
    mark: int


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
    return Observation(found, time, float(facts["amount"]), 0 if value is None else _mark_of(found, value))


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
    count, mean, entries = _unpack(profile)
    time, amount = observation.time, observation.amount
    position = len(entries)
    while position and _time(entries[position - 1]) > time:
        position -= 1
    features = _features(entries[:position], observation)
    if count and mean:
        features["amount_ratio"] = min(amount / mean, sys.float_info.max)
    entries.insert(position, _entry(observation))
    packed = [_ENTRY.pack(*entry) for entry in entries[-MAX_ENTRIES:]]
    # The difference of two amounts cannot overflow, unlike their sum.
    return features, _HEAD.pack(_FORMAT, count + 1, mean + (amount - mean) / (count + 1)) + b"".join(packed)


def latest(profile: bytes | None) -> int | None:
    """Return the time of the latest transaction in a profile; None if there is none."""
    entries = _unpack(profile)[2]
    return _time(entries[-1]) if entries else None


# As _ENTRY unpacks it
_Entry = tuple[int, int, int, int, int, int]


def _unpack(profile: bytes | None) -> tuple[int, float, list[_Entry]]:
    """Return the number of transactions, their mean amount, and the entries in the order of time."""
    if profile is None:
        return 0, 0.0, []
    try:
        version, count, mean = _HEAD.unpack_from(profile)
        entries: list[_Entry] = [*_ENTRY.iter_unpack(profile[_HEAD.size :])]
    except struct.error as error:
        raise InvalidProfile(f"The profile cannot be unpacked: {error}") from error
    if version != _FORMAT:
        raise InvalidProfile(f"The profile has the unknown format {version}")
    return count, mean, entries


def _features(entries: list[_Entry], observation: Observation) -> Features:
    """Return the history, given the entries up to the time of the transaction, without ``amount_ratio``."""
    time = observation.time
    ages = [time - _time(entry) for entry in entries]
    count_24h = sum([age < DAY_SECONDS for age in ages])
    of_day = entries[len(entries) - count_24h :]
    amounts = [_amount(entry) for entry in of_day]
    marks = {_mark(entry) for entry in of_day} - {0}
    return {
        "count_1h": sum([age < HOUR_SECONDS for age in ages]),
        "count_24h": count_24h,
        "count_7d": sum([age < WEEK_SECONDS for age in ages]),
        "sum_24h": min(float(f"{sum(amounts):.12g}"), sys.float_info.max),
        "max_24h": max(amounts, default=0.0),
        "seconds_since_last": ages[-1] if ages else None,
        "amount_ratio": None,
        "distinct_24h": len(marks),
        "is_new": observation.mark not in marks if observation.mark else None,
    }


def _entry(observation: Observation) -> _Entry:
    (bits,) = _BITS.unpack(_DOUBLE.pack(abs(observation.amount)))
    amount = min((bits + _HALF_AMOUNT) >> _LOST_BITS, _MAX_AMOUNT)
    time, mark = observation.time, observation.mark
    return time >> 32, time & 0xFFFFFFFF, amount >> 32, amount & 0xFFFFFFFF, mark >> 16, mark & 0xFFFF


def _time(entry: _Entry) -> int:
    return (entry[0] << 32) + entry[1]


def _amount(entry: _Entry) -> float:
    (double,) = _DOUBLE.unpack(_BITS.pack(((entry[2] << 32) + entry[3]) << _LOST_BITS))
    return float(f"{double:.{_AMOUNT_DIGITS}g}")


def _mark(entry: _Entry) -> int:
    return (entry[4] << 16) + entry[5]


def _mark_of(found: Key, value: str | int) -> int:
    """Return the mark of a distinct value. It depends on the key, so that no two values collide in every profile."""
    digest = hashlib.sha256(f"{found.subject}#{value}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _MAX_MARK + 1
