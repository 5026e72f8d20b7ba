"""Lists of values that rules search: check requests to change or read them, and store their entries.

An entry is one item. Decisions read it by its key, so a change applies to the next decision.
"""

import json
import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from scoring import http_api, settings, store, strict_json
from scoring.errors import InvalidRequest
from scoring.fields import Field, reader
from scoring.lookups import MAX_ENTRY_LENGTH
from scoring.store import Store
from scoring.transaction import check_id

MAX_REASON_LENGTH = 500
DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
# Lambda returns at most 6 MB (AWS Lambda quotas); the difference is for the rest of the response.
MAX_PAGE_BYTES = 5_500_000

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LIMIT = re.compile(r"[0-9]{1,4}")
_BODY_FIELDS = frozenset({"reason", "expires_at"})
# Query parameters of a signature. API Gateway checks them.
_SIGNATURE_PREFIX = "x-amz-"

_expiry = reader(Field("expires_at", "time"))


class ListEntry(NamedTuple):
    """An entry of a list.

    Attributes
    ----------
    entry
        The value.
    added_at, expires_at
        Seconds since 1970. An entry without ``expires_at`` does not expire.
    reason
        Why the value is on the list; may be None.
    """

    entry: str
    added_at: int
    reason: str | None = None
    expires_at: int | None = None

    def is_expired(self, now: float) -> bool:
        """Return whether the entry no longer counts; DynamoDB deletes it later."""
        return self.expires_at is not None and self.expires_at <= now

    def document(self) -> dict[str, Any]:
        """Return the entry as responses contain it."""
        return {
            "entry": self.entry,
            **({} if self.reason is None else {"reason": self.reason}),
            **({} if self.expires_at is None else {"expires_at": _rfc3339(self.expires_at)}),
            "added_at": _rfc3339(self.added_at),
        }


class Page(NamedTuple):
    """Some entries of a list in the order of their UTF-8, and the last of them if there are more."""

    entries: list[ListEntry]
    next: str | None


def read_name(event: http_api.Event) -> str:
    """Return the name of the list in the path; InvalidRequest if it is invalid."""
    name = http_api.path_parameter(event, "name") or ""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "Field 'name' must have 1 to 40 lower-case letters, digits and underscores, and begin with a letter"
        )
    return name


def read_entry(event: http_api.Event, fields: Iterable[Field]) -> str:
    """Return the entry in the path as rules search for it: case-folded if the fields of its list ignore case.

    Raises
    ------
    InvalidRequest
        It is not a string of 1 to 256 characters, or contains control characters or lone surrogates. Case-folding can
        add characters.
    """
    value = check_id("entry", http_api.path_parameter(event, "entry"), MAX_ENTRY_LENGTH)
    return check_id("entry", folded(value, fields), MAX_ENTRY_LENGTH)


def folded(value: str, fields: Iterable[Field]) -> str:
    """Return a value as rules compare it, given the fields that can have it."""
    return value.casefold() if any(field.ignores_case for field in fields) else value


def read_details(event: http_api.Event, entry: str, now: int) -> ListEntry:
    """Return an entry with the details in the body of a request, which is optional.

    Raises
    ------
    InvalidRequest, PayloadTooLarge, UnsupportedMediaType
        The body is not a JSON object of valid details. The text names the problem.
    """
    document = http_api.json_body(event) if http_api.body(event) else {}
    if not isinstance(document, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {strict_json.type_name(document)}")
    for name in document:
        if name not in _BODY_FIELDS:
            raise InvalidRequest(f"Unknown field {name[: strict_json.SHOWN_LENGTH]!r}")
    reason = check_id("reason", document["reason"], MAX_REASON_LENGTH) if "reason" in document else None
    expires_at = _future(document["expires_at"], now) if "expires_at" in document else None
    return ListEntry(entry, now, reason, expires_at)


def read_range(event: http_api.Event) -> tuple[str | None, int]:
    """Return the query parameters ``after`` and ``limit`` of a page; InvalidRequest if one is invalid."""
    query = read_query(event, "after", "limit")
    after = check_id("after", query["after"], MAX_ENTRY_LENGTH) if "after" in query else None
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise InvalidRequest(f"Field 'limit' must be an integer from 1 to {MAX_LIMIT}")
    return after, int(limit)


def read_query(event: http_api.Event, *names: str) -> dict[str, str]:
    """Return the query parameters, of which only these are known.

    Routes without parameters call this as well: if an entry has a question mark that is not escaped, the rest of it
    is a query, and the request is about another entry.

    Raises
    ------
    InvalidRequest
        A parameter is unknown or repeated.
    """
    found: dict[str, str] = {}
    for name, value in parse_qsl(event.get("rawQueryString") or "", keep_blank_values=True):
        if name.lower().startswith(_SIGNATURE_PREFIX):
            continue
        if name not in names:
            raise InvalidRequest(f"Unknown query parameter {name[: strict_json.SHOWN_LENGTH]!r}")
        if name in found:
            raise InvalidRequest(f"Field {name!r} appears more than once")
        found[name] = value
    return found


class Lists:
    """The stored entries of all lists. Every method raises StoreUnavailable if DynamoDB does not confirm in time.

    Parameters
    ----------
    dynamodb
        The store.
    table
        Name of the table.
    """

    def __init__(self, dynamodb: Store, table: str) -> None:
        self._store = dynamodb
        self._table = table

    def put(self, name: str, entry: ListEntry, deadline: float) -> None:
        """Add an entry to a list, in place of an equal one."""
        item: dict[str, Any] = {**_key(name, entry.entry), "added_at": {"N": str(entry.added_at)}}
        if entry.reason is not None:
            item["reason"] = {"S": entry.reason}
        if entry.expires_at is not None:
            item["expires_at"] = {"N": str(entry.expires_at)}
        self._store.put(self._table, item, deadline)

    def delete(self, name: str, entry: str, deadline: float) -> bool:
        """Remove an entry from a list; return whether it was on the list."""
        deleted = self._store.delete(self._table, _key(name, entry), deadline)
        return deleted is not None and not _entry(deleted).is_expired(time.time())

    def page(self, name: str, after: str | None, limit: int, deadline: float) -> Page:
        """Return entries that have not expired.

        Parameters
        ----------
        name
            Name of the list.
        after
            Return entries after this one; None for the first page.
        limit
            Maximum number of entries. A page also ends at :data:`MAX_PAGE_BYTES`.
        deadline
            No call is started that could end later.
        """
        found: list[ListEntry] = []
        now, size = time.time(), 0
        for entry in self._after(name, after, limit + 1, deadline):
            if entry.is_expired(now):
                continue
            # Encoded twice, since Lambda's response is JSON that contains the body as a string.
            size += len(json.dumps(json.dumps(entry.document())))
            if len(found) == limit or size > MAX_PAGE_BYTES:
                return Page(found, found[-1].entry)
            found.append(entry)
        return Page(found, None)

    def _after(self, name: str, after: str | None, limit: int, deadline: float) -> Iterator[ListEntry]:
        values = {":list": {"S": name}} | ({} if after is None else {":after": {"S": after}})
        request = {
            "TableName": self._table,
            "KeyConditionExpression": "#list = :list" + ("" if after is None else " AND #entry > :after"),
            # `list` is a reserved word.
            "ExpressionAttributeNames": {"#list": "list"} | ({} if after is None else {"#entry": "entry"}),
            "ExpressionAttributeValues": values,
            "Limit": limit,
        }
        # Further calls only happen if there are expired entries, perhaps many of them.
        for item in self._store.query(request, deadline, next_limit=MAX_LIMIT):
            yield _entry(item)


def connect() -> Lists:
    """Connect to the table; an invalid environment variable raises SettingsError."""
    return Lists(store.connect(), settings.read().lists_table)


def _key(name: str, entry: str) -> dict[str, Any]:
    return {"list": {"S": name}, "entry": {"S": entry}}


def _entry(item: dict[str, Any]) -> ListEntry:
    try:
        return ListEntry(
            entry=item["entry"]["S"],
            added_at=int(item["added_at"]["N"]),
            reason=item["reason"]["S"] if "reason" in item else None,
            expires_at=int(item["expires_at"]["N"]) if "expires_at" in item else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise store.malformed() from error


def _future(value: Any, now: int) -> int:
    """Return a time as whole seconds; InvalidRequest if it is not a time in the future."""
    seconds: int = math.floor(_expiry(value).timestamp())
    try:
        datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest("Field 'expires_at' must be a time from the year 1 to 9999 in UTC") from None
    if seconds <= now:
        raise InvalidRequest("Field 'expires_at' must be in the future")
    return seconds


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
