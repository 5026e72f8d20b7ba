"""AWS calls that fail as told, in the client itself; on the wire they fail in tests/faults."""

from typing import Any

import pytest
from botocore.exceptions import ClientError


def canceled(*codes: str) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    response: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(response, "TransactWriteItems")


def failing(monkeypatch: pytest.MonkeyPatch, client: Any, operation: str, *errors: Exception) -> list[dict[str, Any]]:
    """Have the first calls of an operation fail with these errors; returns the parameters of every call."""
    calls: list[dict[str, Any]] = []
    real = getattr(client, operation)
    left = list(errors)

    def call(**parameters: Any) -> Any:
        calls.append(parameters)
        if left:
            error = left.pop(0)
            if isinstance(error, ClientError):
                raise client.exceptions.from_code(error.response["Error"]["Code"])(error.response, operation)
            raise error
        return real(**parameters)

    monkeypatch.setattr(client, operation, call)
    return calls
