"""Profiles as they are stored, decoded apart from :mod:`scoring.history.profiles`."""

import hashlib
from typing import Any, NamedTuple

HEAD_BYTES, ENTRY_BYTES = 17, 13


class Entry(NamedTuple):
    """A transaction in a profile; the mark is 0 if it has no distinct value."""

    time: int
    amount_bits: bytes
    mark: int


class Profile(NamedTuple):
    """The number of all transactions, and the entries of the latest ones, earliest first."""

    number: int
    entries: list[Entry]


def decoded(packed: bytes) -> Profile:
    """Decode a profile."""
    assert packed[0] == 1
    assert (len(packed) - HEAD_BYTES) % ENTRY_BYTES == 0
    entries = [packed[start : start + ENTRY_BYTES] for start in range(HEAD_BYTES, len(packed), ENTRY_BYTES)]
    return Profile(
        int.from_bytes(packed[1:9], "big"),
        [Entry(int.from_bytes(one[:5], "big") - 2**39, one[5:10], int.from_bytes(one[10:], "big")) for one in entries],
    )


def of_customer(dynamodb: Any, customer: str) -> Profile:
    """Return the profile of a customer in the store."""
    digest = hashlib.sha256(customer.encode()).hexdigest()[:32]
    key = {"subject": {"S": f"customer_id#{digest}"}, "distinct": {"S": "store"}}
    item = dynamodb.get_item(TableName="ProfilesTable", Key=key, ConsistentRead=True).get("Item")
    return decoded(item["profile"]["B"]) if item else Profile(0, [])
