"""Filter criteria: which records of a stream reach the function."""

import json
from collections.abc import Mapping
from typing import Any


def select(records: list[dict[str, Any]], mapping: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records that match a filter of the mapping; all if it has none."""
    criteria = mapping.get("FilterCriteria", {}).get("Filters", [])
    patterns = [json.loads(one["Pattern"]) for one in criteria]
    return [record for record in records if not patterns or any(matches(record, pattern) for pattern in patterns)]


def matches(value: Any, pattern: Any) -> bool:
    """Return whether a value matches a pattern: an object of patterns or a list of the values allowed.

    Raises
    ------
    ValueError
        The pattern has a comparison operator, such as ``prefix``, which is not supported.
    """
    if isinstance(pattern, list):
        if any(isinstance(allowed, dict) for allowed in pattern):
            raise ValueError(f"Filters support no comparison operators: {pattern}")
        return value in pattern
    return isinstance(value, dict) and all(
        name in value and matches(value[name], nested) for name, nested in pattern.items()
    )
