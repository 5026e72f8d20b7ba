"""Read items by their keys with ``BatchGetItem``."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# DynamoDB API Reference
MAX_KEYS = 100

# Maximum back-off before unprocessed keys are read again; it doubles each time, up to the limit.
_FIRST_BACKOFF_SECONDS = 0.05
_MAX_BACKOFF_SECONDS = 1.0


def read(
    call: Callable[[dict[str, Any]], dict[str, Any]], keys: Mapping[str, list[dict[str, Any]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the existing items, each with the name of its table, read consistently.

    Parameters
    ----------
    call
        Calls ``BatchGetItem`` with these parameters and returns its response.
    keys
        Keys by table, at most :data:`MAX_KEYS` in all.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        The response is malformed.
    """
    unread: Any = {table: {"Keys": some, "ConsistentRead": True} for table, some in keys.items() if some}
    max_backoff = _FIRST_BACKOFF_SECONDS
    while unread:
        page = call({"RequestItems": unread})
        requested, unread = unread, page["UnprocessedKeys"]
        for table in requested:
            # A table may be missing only if keys are unprocessed; otherwise, the response is malformed.
            items = page["Responses"].get(table, []) if unread else page["Responses"][table]
            if not isinstance(items, list):
                raise TypeError
            for item in items:
                yield table, item
        if unread:
            time.sleep(random.uniform(0, max_backoff))
            max_backoff = min(2 * max_backoff, _MAX_BACKOFF_SECONDS)
