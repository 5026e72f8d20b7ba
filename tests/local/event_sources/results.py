"""Partial responses: which items of a batch have failed, according to the result of the function."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def failed(result: str, identifiers: Sequence[Any], mapping: Mapping[str, Any]) -> list[Any]:
    """Return the identifiers of the items that failed.

    All have failed if the function has, or if it names an item that is not in the batch. A mapping without
    ``ReportBatchItemFailures`` ignores what the function returns.
    """
    content = json.loads(result)
    if not content:
        return []
    if "errorType" in content:
        return list(identifiers)
    if "ReportBatchItemFailures" not in mapping.get("FunctionResponseTypes", []):
        return []
    named = [failure.get("itemIdentifier") for failure in content.get("batchItemFailures") or []]
    return named if all(identifier in identifiers for identifier in named) else list(identifiers)
