"""Read profiles and list entries from their tables, and make the write of a profile."""

import base64
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from scoring import settings
from scoring.decision import Decision
from scoring.history.profiles import Key
from scoring.ledger import batch_get
from scoring.lookups import Entry, Known

_SECONDS_PER_DAY = 86_400
# Stands for an item without a profile; it cannot be unpacked.
_DAMAGED = b""


def keys(decisions: Iterable[Decision]) -> tuple[list[Key], list[Entry]]:
    """Return the keys of the profiles and list entries that decisions depend on, each once, in order."""
    profiles: dict[Key, None] = {}
    entries: dict[Entry, None] = {}
    for decision in decisions:
        profiles.update(dict.fromkeys([observation.key for observation in decision.observations]))
        if decision.lookups:
            entries.update(dict.fromkeys(sorted(decision.lookups.entries)))
    return list(profiles), list(entries)


def read(
    call: Callable[[dict[str, Any]], dict[str, Any]],
    configuration: settings.Settings,
    profiles: Sequence[Key],
    entries: Sequence[Entry],
) -> Known:
    """Read profiles and list entries consistently, in one call unless DynamoDB leaves keys unprocessed.

    Parameters
    ----------
    call
        Calls ``BatchGetItem`` with these parameters and returns its response.
    configuration
        Names of the tables.
    profiles, entries
        Keys, at most 100 in all.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        The response is malformed.
    """
    requested = {
        configuration.profiles_table: [_profile_key(key) for key in profiles],
        configuration.lists_table: [{"list": {"S": entry.name}, "entry": {"S": entry.value}} for entry in entries],
    }
    known: dict[Key, bytes] = {}
    listed = []
    now = time.time()
    for table, item in batch_get.read(call, requested):
        if table == configuration.profiles_table:
            key = Key(item["subject"]["S"], item["distinct"]["S"])
            try:
                known[key] = _profile(item)
            except (KeyError, TypeError, ValueError):
                known[key] = _DAMAGED
        elif "expires_at" not in item or now < int(item["expires_at"]["N"]):
            listed.append(Entry(item["list"]["S"], item["entry"]["S"]))
    return Known(known, frozenset(listed))


def updated(known: Known, items: Mapping[Key, Any]) -> Known:
    """Return what is known with other profiles: the items, or None for a profile that does not exist any more.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        An item is malformed.
    """
    profiles = {key: profile for key, profile in known.profiles.items() if key not in items}
    return known._replace(profiles=profiles | {key: _profile(item) for key, item in items.items() if item})


def put(configuration: settings.Settings, key: Key, before: bytes | None, after: bytes) -> dict[str, Any]:
    """Return the action of a transaction that replaces a profile unless it has changed since it was read.

    The condition compares the profile itself. So a profile that was deleted and created again in the meantime, with as
    many transactions, is not overwritten.
    """
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(subject)"}
    if before is not None:
        condition = {
            "ConditionExpression": "profile = :before",
            "ExpressionAttributeValues": {":before": {"B": base64.b64encode(before).decode()}},
        }
    expires_at = int(time.time()) + configuration.profile_days * _SECONDS_PER_DAY
    return {
        "Put": {
            "TableName": configuration.profiles_table,
            "Item": {
                **_profile_key(key),
                "profile": {"B": base64.b64encode(after).decode()},
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
    return base64.b64decode(item["profile"]["B"], validate=True)
