"""Read profiles and list entries from their tables, and make the write of a profile."""

import binascii
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scoring import settings
from scoring.decision import Decision
from scoring.history.profiles import Key
from scoring.ledger import batch_get
from scoring.lookups import Entry, Known

_SECONDS_PER_DAY = 86_400
# Stands for an item without a profile; it cannot be unpacked.
_DAMAGED = b""


def read(
    call: Callable[[dict[str, Any]], dict[str, Any]],
    configuration: settings.Settings,
    decisions: Iterable[Decision],
) -> Known:
    """Read what decisions depend on, consistently, in one call unless DynamoDB leaves keys unprocessed.

    Parameters
    ----------
    call
        Calls ``BatchGetItem`` with these parameters and returns its response.
    configuration
        Names of the tables.
    decisions
        Decisions that depend on at most 100 profiles and list entries.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        The response is malformed.
    """
    profiles: dict[Key, Any] = {}
    entries: dict[Entry, Any] = {}
    for decision in decisions:
        for observation in decision.observations:
            profiles[observation.key] = _profile_key(observation.key)
        if decision.lookups:
            for name, value in decision.lookups.entries:
                entries[Entry(name, value)] = {"list": {"S": name}, "entry": {"S": value}}
    requested = {configuration.profiles_table: [*profiles.values()], configuration.lists_table: [*entries.values()]}
    known: dict[Key, bytes] = {}
    revisions: dict[Key, str] = {}
    listed = []
    now = time.time()
    for table, item in batch_get.read(call, requested):
        if table == configuration.profiles_table:
            key = Key(item["subject"]["S"], item["distinct"]["S"])
            try:
                known[key] = _profile(item)
                if "revision" in item:
                    revisions[key] = item["revision"]["S"]
            except (KeyError, TypeError, ValueError):
                known[key] = _DAMAGED
        elif "expires_at" not in item or now < int(item["expires_at"]["N"]):
            listed.append(Entry(item["list"]["S"], item["entry"]["S"]))
    return Known(known, frozenset(listed), revisions)


def updated(known: Known, items: Mapping[Key, Any]) -> Known:
    """Return what is known with other profiles: the items, or None for a profile that does not exist any more.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        An item is malformed.
    """
    profiles, revisions = known.profiles.copy(), {**known.revisions}
    for key, item in items.items():
        profiles.pop(key, None)
        revisions.pop(key, None)
        if item:
            profiles[key], revisions[key] = _profile(item), item["revision"]["S"]
    return Known(profiles, known.listed, revisions)


def put(
    configuration: settings.Settings, key: Key, profile: bytes, before: str | None, revision: str
) -> dict[str, Any]:
    """Return the action of a transaction that writes a profile unless it has changed since it was read.

    Revisions are random, unlike numbers. So a profile that was deleted and created again in the meantime is not
    overwritten.

    Parameters
    ----------
    configuration
        Name of the table, and days until the profile expires.
    key, profile
        Key and profile to write.
    before
        The revision that was read; None if there was none.
    revision
        The new revision.
    """
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(revision)"}
    if before is not None:
        condition = {
            "ConditionExpression": "revision = :before",
            "ExpressionAttributeValues": {":before": {"S": before}},
        }
    expires_at = int(time.time()) + configuration.profile_days * _SECONDS_PER_DAY
    return {
        "Put": {
            "TableName": configuration.profiles_table,
            "Item": {
                **_profile_key(key),
                "profile": {"B": binascii.b2a_base64(profile, newline=False).decode()},
                "revision": {"S": revision},
                "expires_at": {"N": str(expires_at)},
            },
            **condition,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def _profile_key(key: Key) -> dict[str, dict[str, str]]:
    return {"subject": {"S": key.subject}, "distinct": {"S": key.distinct}}


def _profile(item: dict[str, Any]) -> bytes:
    """Return the profile in an item; a malformed item raises KeyError, TypeError or ValueError."""
    return binascii.a2b_base64(item["profile"]["B"], strict_mode=True)
