"""The emulator behaves like AWS in what the fault tests rely on."""

import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.faults.harness import THREADS, Harness

SHARD = {"shard": {"N": "0"}}


@pytest.fixture
def dynamodb(wire: Harness) -> Any:
    """DynamoDB without the proxy, its counter deleted."""
    wire.dynamodb.delete_item(TableName="StatsTable", Key=SHARD)
    return wire.dynamodb


def put_and_count(decision_id: str, amount: int = 1) -> list[Any]:
    """Return the actions of the ledger: put a new item and increment a counter."""
    return [
        {
            "Put": {
                "TableName": "DecisionsTable",
                "Item": {"tx_id": {"S": "emulator"}, "decision_id": {"S": decision_id}, "amount": {"N": str(amount)}},
                "ConditionExpression": "attribute_not_exists(decision_id)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        },
        {
            "Update": {
                "TableName": "StatsTable",
                "Key": SHARD,
                "UpdateExpression": "ADD #total :one",
                "ExpressionAttributeNames": {"#total": "total"},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        },
    ]


def total(dynamodb: Any) -> int:
    item = dynamodb.get_item(TableName="StatsTable", Key=SHARD, ConsistentRead=True).get("Item", {})
    return int(item.get("total", {"N": "0"})["N"])


def test_concurrent_updates_are_all_applied(dynamodb: Any) -> None:
    update = put_and_count("")[1]["Update"]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: dynamodb.update_item(**update), range(2000)))
    assert total(dynamodb) == 2000


def test_one_of_concurrent_conflicting_transactions_is_applied(dynamodb: Any) -> None:
    ids = [str(number) for number in range(60)]

    def attempt(decision_id: str) -> str:
        try:
            dynamodb.transact_write_items(TransactItems=put_and_count(decision_id))
        except dynamodb.exceptions.TransactionCanceledException as error:
            reasons = error.response["CancellationReasons"]
            assert [reason["Code"] for reason in reasons] == ["ConditionalCheckFailed", "None"]
            assert reasons[0]["Item"]["decision_id"] == {"S": decision_id}
            return "refused"
        return "applied"

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = Counter(pool.map(attempt, ids * 8))
    assert outcomes == {"applied": len(ids), "refused": len(ids) * 7}
    assert total(dynamodb) == len(ids)


def test_token_applies_its_transaction_once(dynamodb: Any) -> None:
    token = str(uuid.uuid4())
    for _ in range(3):
        dynamodb.transact_write_items(TransactItems=put_and_count("token"), ClientRequestToken=token)
    assert total(dynamodb) == 1
    with pytest.raises(ClientError) as caught:
        dynamodb.transact_write_items(TransactItems=put_and_count("token", amount=2), ClientRequestToken=token)
    assert caught.value.response["Error"]["Code"] == "IdempotentParameterMismatchException"
    assert total(dynamodb) == 1


def test_undeleted_message_reappears_until_it_is_dead_lettered(wire: Harness) -> None:
    sqs = wire.sqs
    dead = sqs.create_queue(QueueName="Dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 2}}'
    queue = sqs.create_queue(QueueName="Live", Attributes={"VisibilityTimeout": "1", "RedrivePolicy": policy})[
        "QueueUrl"
    ]
    sqs.send_message(QueueUrl=queue, MessageBody="x")

    def received(url: str) -> list[str]:
        return [message["Body"] for message in sqs.receive_message(QueueUrl=url).get("Messages", [])]

    assert (received(queue), received(queue)) == (["x"], [])
    time.sleep(1.1)
    assert (received(queue), received(dead)) == (["x"], [])
    time.sleep(1.1)
    assert (received(queue), received(dead)) == ([], ["x"])
