"""Calls of DynamoDB with a deadline, for all functions except those that write decisions.

A call that DynamoDB does not confirm in time is a 503. Its log line has the reason and no data of the request.
"""

from collections.abc import Iterator
from typing import Any

from scoring import deadlines, telemetry
from scoring.aws import client
from scoring.errors import CallFailed, StoreUnavailable

# BatchGetItem returns at most 16 MB (DynamoDB API Reference).
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024

Item = dict[str, Any]


class Store:
    """DynamoDB, with a deadline for each call: a time on the clock of :func:`time.monotonic`.

    Every method raises :class:`~scoring.errors.StoreUnavailable` if DynamoDB does not confirm in time.
    """

    def __init__(self, dynamodb: client.Client) -> None:
        self._dynamodb = dynamodb

    def call(self, operation: str, parameters: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Call an operation; parameters and response are as in the API reference."""
        if not deadlines.allows(deadline, client.CALL_SECONDS):
            raise telemetry.log_unavailable("store", "NoTimeLeft")
        try:
            return self._dynamodb.call(operation, parameters)
        except CallFailed as failure:
            raise telemetry.log_unavailable("store", failure.reason) from failure

    def put(self, table: str, item: Item, deadline: float) -> None:
        """Write an item, in place of the one with the same key."""
        self.call("PutItem", {"TableName": table, "Item": item}, deadline)

    def delete(self, table: str, key: Item, deadline: float) -> Item | None:
        """Delete an item and return it; None if there is none."""
        parameters = {"TableName": table, "Key": key, "ReturnValues": "ALL_OLD"}
        deleted = self.call("DeleteItem", parameters, deadline).get("Attributes")
        if not (deleted is None or isinstance(deleted, dict)):
            raise malformed()
        return deleted or None

    def query(self, parameters: dict[str, Any], deadline: float, next_limit: int | None = None) -> Iterator[Item]:
        """Yield the items of a query, read consistently.

        Parameters
        ----------
        parameters
            As in the API reference.
        deadline
            No call is started that could end later.
        next_limit
            ``Limit`` of the second and further calls.
        """
        request = {**parameters, "ConsistentRead": True}
        while True:
            page = self.call("Query", request, deadline)
            items = page.get("Items")
            if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
                raise malformed()
            yield from items
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
            if next_limit:
                request["Limit"] = next_limit


def connect() -> Store:
    """Connect to DynamoDB; an invalid environment variable raises SettingsError."""
    dynamodb = client.dynamodb(_MAX_RESPONSE_BYTES)
    dynamodb.connect()
    return Store(dynamodb)


def malformed() -> StoreUnavailable:
    """Log that a response is malformed, and return the error to raise."""
    return telemetry.log_unavailable("store", client.UNEXPECTED_RESPONSE)
