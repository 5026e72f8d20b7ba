"""Fakes of the client and of the connection in :mod:`scoring.aws`."""

import base64
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from scoring.aws import client
from scoring.errors import CallFailed

# Status and body of a response, or the error that an exchange raises.
Outcome = tuple[int, bytes] | Exception


class FakeConnection:
    """A connection whose exchanges have the given outcomes, in order."""

    host = "dynamodb.example"

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[bytes] = []

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        self.requests.append(request)
        status_and_body: tuple[int, bytes] = _next(self.outcomes)
        return status_and_body


class FakeClient(client.Client):
    """A client whose calls return the given responses or raise the given errors, in order."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[dict[str, Any]] = []

    def call(self, operation: str, parameters: dict[str, Any]) -> Any:  # noqa: ARG002  as in Client
        self.calls.append(dict(parameters))
        return _next(self.outcomes)


class MotoClient(client.Client):
    """A client that makes its calls with boto3, since moto intercepts boto3 only."""

    def __init__(self, boto3_client: Any) -> None:
        self._boto3_client = boto3_client

    def connect(self) -> None:
        """Do nothing; moto needs no connection."""

    def call(self, operation: str, parameters: dict[str, Any]) -> Any:
        try:
            response: dict[str, Any] = getattr(self._boto3_client, xform_name(operation))(**_decoded(parameters))
        except ClientError as error:
            body: dict[str, Any] = _encoded(error.response)
            raise CallFailed(body["Error"]["Code"], 400, body) from error
        # boto3 adds the first; moto adds the others without being asked.
        for added in ("ResponseMetadata", "ConsumedCapacity", "ItemCollectionMetrics"):
            response.pop(added, None)
        encoded: dict[str, Any] = _encoded(response)
        return encoded


def connected_client(*outcomes: Outcome) -> tuple[client.Client, FakeConnection]:
    """Return a real DynamoDB client and the fake connection that it uses."""
    connection = FakeConnection(*outcomes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "Connection", lambda *_: connection)
        return client.dynamodb(), connection


def _decoded(value: Any) -> Any:
    """Return parameters as boto3 takes them: with bytes in place of base64."""
    if isinstance(value, dict):
        return {name: base64.b64decode(one) if name == "B" else _decoded(one) for name, one in value.items()}
    return [_decoded(one) for one in value] if isinstance(value, list) else value


def _encoded(value: Any) -> Any:
    """Return a response as JSON has it: with base64 in place of bytes."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _encoded(one) for name, one in value.items()}
    return [_encoded(one) for one in value] if isinstance(value, list) else value


def _next(outcomes: list[Any]) -> Any:
    outcome = outcomes.pop(0)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
