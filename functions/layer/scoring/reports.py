"""What the ledger holds, read back: the totals of all decisions, and the decisions of one transaction.

For people and dashboards, who can wait for a boto3 client to start.
"""

import json
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scoring import aws, settings
from scoring.ledger import LEVEL_PREFIX, RULE_PREFIX
from scoring.rules import RISK_LEVELS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

MAX_FOUND = 100

# botocore's defaults changed in 1.44: all of them stand here.
CLIENT_CONFIG = Config(
    connect_timeout=aws.CONNECT_SECONDS,
    read_timeout=aws.READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": aws.ATTEMPTS},
)

_BATCH_GET_LIMIT = 100
_LONGEST_PAUSE = 0.1


class Totals(NamedTuple):
    """The counters, added up over all shards.

    Attributes
    ----------
    total
        Decisions ever recorded.
    high
        Those of level HIGH or CRITICAL.
    by_risk_level
        Every level of :data:`scoring.rules.RISK_LEVELS`; the sum is ``total``.
    by_rule
        Hits of each rule that ever hit, by its label.
    """

    total: int
    high: int
    by_risk_level: dict[str, int]
    by_rule: dict[str, int]


class Reports:
    """Reads decisions and counters; one instance for the life of an execution environment.

    Parameters
    ----------
    client
        A ``boto3.client("dynamodb")``.
    configuration
        Names of the tables, number of shards.
    """

    def __init__(self, client: "DynamoDBClient", configuration: settings.Settings) -> None:
        self._client = client
        self._settings = configuration

    def totals(self, deadline: float) -> Totals:
        """Add up all shards, each read consistently.

        Parameters
        ----------
        deadline
            On the clock of :func:`time.monotonic`; nothing is begun that could end later.

        Raises
        ------
        StoreUnavailable
            A shard could not be read; zeros are never made up.
        """
        numbers: dict[str, int] = {}
        try:
            for item in self._shards(deadline):
                for name, value in item.items():
                    if name != "shard":
                        numbers[name] = numbers.get(name, 0) + int(value["N"])
        except (ClientError, BotoCoreError) as error:
            raise aws.unavailable("store", _reason(error)) from error
        return Totals(
            total=numbers.get("total", 0),
            high=numbers.get("high", 0),
            by_risk_level={level: numbers.get(LEVEL_PREFIX + level, 0) for level in RISK_LEVELS},
            by_rule={
                name.removeprefix(RULE_PREFIX): number
                for name, number in sorted(numbers.items())
                if name.startswith(RULE_PREFIX)
            },
        )

    def find(self, tx_id: str, deadline: float) -> list[dict[str, Any]]:
        """Answers that were given for a transaction, newest first, at most :data:`MAX_FOUND`.

        Parameters
        ----------
        tx_id
            Of the transaction, or the decision id where the transaction had none.
        deadline
            As in :meth:`totals`.

        Raises
        ------
        StoreUnavailable
            DynamoDB did not answer in time, or has more decisions of this transaction than can be read in it.
        """
        answers: list[dict[str, Any]] = []
        pages = self._client.get_paginator("query").paginate(
            TableName=self._settings.decisions_table,
            KeyConditionExpression="tx_id = :tx_id",
            ExpressionAttributeValues={":tx_id": {"S": tx_id}},
            ProjectionExpression="answer",
            ConsistentRead=True,
        )
        try:
            # The sort key is no time, so the newest are known only when all have been read.
            for page in pages:
                answers.extend(json.loads(item["answer"]["S"]) for item in page["Items"])
                if not aws.is_time_for_a_call(deadline):
                    raise aws.unavailable("store", "TooManyDecisions")
        except (ClientError, BotoCoreError) as error:
            raise aws.unavailable("store", _reason(error)) from error
        answers.sort(key=lambda answer: (answer["evaluated_at"], answer["decision_id"]), reverse=True)
        return answers[:MAX_FOUND]

    def _shards(self, deadline: float) -> Iterator[dict[str, "AttributeValueTypeDef"]]:
        table = self._settings.stats_table
        keys = [{"shard": {"N": str(shard)}} for shard in range(self._settings.stats_shards)]
        for start in range(0, len(keys), _BATCH_GET_LIMIT):
            wanted: Any = {table: {"Keys": keys[start : start + _BATCH_GET_LIMIT], "ConsistentRead": True}}
            while wanted:
                if not aws.is_time_for_a_call(deadline):
                    raise aws.unavailable("store", "TotalsNotInTime")
                page = self._client.batch_get_item(RequestItems=wanted)
                yield from page["Responses"].get(table, [])
                wanted = page["UnprocessedKeys"]
                if wanted:
                    time.sleep(random.uniform(0, _LONGEST_PAUSE))


def connect() -> Reports:
    """Open the ledger that the environment variables name, for reading.

    Raises
    ------
    SettingsError
        A variable is missing or wrong.
    """
    return Reports(client(), settings.read())


def client() -> "DynamoDBClient":
    """A boto3 client that waits, and tries again, as :mod:`scoring.aws` does."""
    made = boto3.client("dynamodb", config=CLIENT_CONFIG)
    made.meta.events.register_first("needs-retry.dynamodb", _ignore_wish_for_a_pause)
    return made


def _ignore_wish_for_a_pause(response: Any, **_: Any) -> None:
    """Drop the header by which a service makes botocore wait for up to 5 s more before it tries again."""
    if response is not None:
        response[0].headers.pop("x-amz-retry-after", None)


def _reason(error: ClientError | BotoCoreError) -> str:
    """What went wrong, by one name: the service's own error code, or the class of botocore's error."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
