"""Forget a customer: delete the profiles and list entries that are kept about a ``customer_id``.

Decisions, and what else is stored of a transaction, expire on their own.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from scoring import settings, store
from scoring.history import profiles
from scoring.lists import Lists, folded
from scoring.lookups import MAX_ENTRY_LENGTH
from scoring.store import Store

if TYPE_CHECKING:
    from scoring.scorer import Scorer

FIELD = "customer_id"


class Forgotten(NamedTuple):
    """Number of profiles and of list entries that were deleted."""

    profiles: int
    list_entries: int


class Customers:
    """Stored data about customers, without their transactions.

    Parameters
    ----------
    dynamodb
        The store.
    configuration
        Names of the tables.
    """

    def __init__(self, dynamodb: Store, configuration: settings.Settings) -> None:
        self._store = dynamodb
        self._profiles_table = configuration.profiles_table
        self._lists = Lists(dynamodb, configuration.lists_table)

    def forget(self, customer_id: str, scorer: "Scorer", deadline: float) -> Forgotten:
        """Delete the profiles of a customer, and the entries in lists that rules search for customers.

        If the field ignores case, this also deletes what was stored before it did, in the case of ``customer_id``.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not confirm in time. Part of it may be deleted; the rest is when the call is repeated.
        """
        declared = [field for field in scorer.fields.declared if field.name == FIELD]
        values = dict.fromkeys([folded(customer_id, declared), customer_id])
        lists = [name for name, fields in scorer.list_fields.items() if any(field.name == FIELD for field in fields)]
        return Forgotten(
            profiles=sum([self._delete_profiles(value, deadline) for value in values]),
            list_entries=sum(
                [
                    self._lists.delete(name, value, deadline)
                    for value in values
                    # No list contains a longer value, and DynamoDB refuses its key.
                    if len(value) <= MAX_ENTRY_LENGTH
                    for name in lists
                ]
            ),
        )

    def _delete_profiles(self, value: str, deadline: float) -> int:
        request: dict[str, Any] = {
            "TableName": self._profiles_table,
            "KeyConditionExpression": "#subject = :subject",
            "ExpressionAttributeValues": {":subject": {"S": profiles.subject(FIELD, value)}},
            "ProjectionExpression": "#subject, #distinct",
            "ExpressionAttributeNames": {"#subject": "subject", "#distinct": "distinct"},
        }
        keys = list(self._store.query(request, deadline))
        return sum([self._store.delete(self._profiles_table, key, deadline) is not None for key in keys])


def connect() -> Customers:
    """Connect to the tables; an invalid environment variable raises SettingsError."""
    return Customers(store.connect(), settings.read())
