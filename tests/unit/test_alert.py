"""The alert function: publish what the stream delivers, retry singly, and report the first failure."""

import io
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.local import template
from tests.rule_set import decide
from tests.unit.conftest import Functions, MetricLines

Publish = Callable[..., str | None]

NUMBERS = ["9", "10", "11", "100", "1000"]


def record(number: str, decision_id: str, **changes: Any) -> dict[str, Any]:
    """Return a stream record of a CRITICAL decision."""
    transaction = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
    image = {
        "tx_id": {"S": "TX003"},
        "decision_id": {"S": decision_id},
        "transaction": {"S": json.dumps(transaction)},
        "answer": {"S": json.dumps(decide(transaction, decision_id).response)},
        "score": {"N": "7"},
        **changes,
    }
    return {"eventName": "INSERT", "dynamodb": {"SequenceNumber": number, "NewImage": image}}


def records(count: int) -> list[dict[str, Any]]:
    """Return records with the sequence numbers 1, 2, ... and the decision ids k1, k2, ..."""
    return [record(str(number), f"k{number}") for number in range(1, count + 1)]


class FakeSns:
    """SNS that accepts messages, except those for which ``refuse`` is true."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.accepted: list[str] = []
        self.refuse: Callable[[str, str], bool] = lambda _operation, _decision_id: False
        self.error: Exception | None = None

    def publish_batch(self, *, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]) -> Any:  # noqa: N803
        assert TopicArn == "arn:aws:sns:us-east-1:000000000000:AlertTopic"
        ids = {entry["Id"]: json.loads(entry["Message"])["decision_id"] for entry in PublishBatchRequestEntries}
        self.calls.append(list(ids.values()))
        if self.error:
            raise self.error
        refused = {number for number, decision_id in ids.items() if self.refuse("publish_batch", decision_id)}
        self.accepted += [decision_id for number, decision_id in ids.items() if number not in refused]
        return {
            "Successful": [{"Id": number, "MessageId": "m"} for number in ids if number not in refused],
            "Failed": [{"Id": number, "Code": "InternalError", "SenderFault": False} for number in refused],
        }

    def publish(self, *, TopicArn: str, Message: str, MessageAttributes: dict[str, Any]) -> Any:  # noqa: N803
        assert TopicArn
        assert MessageAttributes["risk_level"]["StringValue"] == "CRITICAL"
        decision_id = json.loads(Message)["decision_id"]
        self.calls.append([decision_id])
        if self.error:
            raise self.error
        if self.refuse("publish", decision_id):
            raise ClientError({"Error": {"Code": "InternalError"}}, "Publish")
        self.accepted.append(decision_id)
        return {"MessageId": "m"}


@pytest.fixture
def fake_sns(invoke: Functions, monkeypatch: pytest.MonkeyPatch) -> FakeSns:
    fake = FakeSns()
    monkeypatch.setattr(invoke.modules["AlertFunction"], "SNS", fake)
    return fake


@pytest.fixture
def publish(invoke: Functions) -> Publish:
    """Invoke the alert function and return the sequence number that it reports, if any."""

    def publish(*delivered: dict[str, Any]) -> str | None:
        response = invoke("AlertFunction", {"Records": list(delivered)})
        assert response.keys() == {"batchItemFailures"}
        if not response["batchItemFailures"]:
            return None
        (failure,) = response["batchItemFailures"]
        assert failure.keys() == {"itemIdentifier"}
        return str(failure["itemIdentifier"])

    return publish


@pytest.fixture
def subscribed(sns: Any, sqs: Any) -> Callable[[], Iterator[dict[str, Any]]]:
    """Subscribe a queue to the topic; return its messages."""
    queue = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=template.stack().resources["AlertTopic"], Protocol="sqs", Endpoint=arn)

    def messages() -> Iterator[dict[str, Any]]:
        while received := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in received:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                yield json.loads(message["Body"])

    return messages


def test_every_decision_is_published_with_attributes(
    publish: Publish, subscribed: Callable[[], Iterator[dict[str, Any]]], log: io.StringIO
) -> None:
    assert publish(*records(25)) is None
    messages = list(subscribed())
    alerts = [json.loads(message["Message"]) for message in messages]
    assert {alert["decision_id"] for alert in alerts} == {f"k{number}" for number in range(1, 26)}
    assert len({alert["alert_id"] for alert in alerts}) == len(alerts) == 25
    assert messages[0]["MessageAttributes"] == {
        "risk_level": {"Type": "String", "Value": "CRITICAL"},
        "score": {"Type": "Number", "Value": "7"},
        "category": {"Type": "String", "Value": "electronics"},
    }
    assert "4500" not in log.getvalue()


def test_alerts_are_published_by_ten_and_counted(
    publish: Publish, fake_sns: FakeSns, new_metric_lines: MetricLines
) -> None:
    assert publish(*records(25)) is None
    assert [len(call) for call in fake_sns.calls] == [10, 10, 5]
    (line,) = new_metric_lines()
    assert line["AlertsPublished"] == 25
    assert "AlertsFailed" not in line


def test_entries_that_failed_are_published_singly(publish: Publish, fake_sns: FakeSns) -> None:
    fake_sns.refuse = lambda operation, decision_id: operation == "publish_batch" and decision_id in {"k2", "k4"}
    assert publish(*records(5)) is None
    assert fake_sns.calls == [["k1", "k2", "k3", "k4", "k5"], ["k2"], ["k4"]]
    assert sorted(fake_sns.accepted) == ["k1", "k2", "k3", "k4", "k5"]


def test_first_failure_is_reported_and_later_batches_wait(
    publish: Publish, fake_sns: FakeSns, new_metric_lines: MetricLines, log: io.StringIO
) -> None:
    fake_sns.refuse = lambda _, decision_id: decision_id in {"k12", "k14"}
    assert publish(*records(25)) == "12"
    # The third batch would be delivered again in any case.
    assert fake_sns.calls == [[f"k{number}" for number in numbers] for numbers in (range(1, 11), range(11, 21), [12])]
    line = json.loads(log.getvalue().splitlines()[-1])
    assert (line["AlertsPublished"], line["AlertsFailed"]) == (18, 7)
    (failure,) = (line for line in map(json.loads, log.getvalue().splitlines()) if line.get("level") == "ERROR")
    assert (failure["message"], failure["decision_id"], failure["reason"]) == (
        "alert not published",
        "k12",
        "InternalError",
    )
    assert "exception" not in failure


def test_sequence_numbers_are_compared_as_numbers(publish: Publish, fake_sns: FakeSns) -> None:
    fake_sns.refuse = lambda *_: True
    delivered = [record(number, f"k{number}") for number in NUMBERS]
    assert publish(*delivered) == "9"
    assert publish(*reversed(delivered)) == "9"


def test_decision_that_was_recorded_again_is_reported_by_its_first_record(publish: Publish, fake_sns: FakeSns) -> None:
    """After it expired, for example; both alerts have the same id."""
    fake_sns.refuse = lambda *_: True
    assert publish(record("5", "k1"), record("7", "k1")) == "5"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ClientError({"Error": {"Code": "Throttled"}}, "PublishBatch"), "Throttled"),
        (EndpointConnectionError(endpoint_url="https://sns"), "EndpointConnectionError"),
    ],
)
def test_outage_fails_everything_after_two_calls(
    publish: Publish, fake_sns: FakeSns, log: io.StringIO, error: Exception, reason: str
) -> None:
    fake_sns.error = error
    assert publish(*records(100)) == "1"
    assert [len(call) for call in fake_sns.calls] == [10, 1]
    warning, failure, counted = map(json.loads, log.getvalue().splitlines())
    assert (warning["level"], warning["reason"]) == ("WARNING", reason)
    assert (failure["level"], failure["reason"]) == ("ERROR", reason)
    assert (counted["AlertsPublished"], counted["AlertsFailed"]) == (0, 100)
    assert "Traceback" not in log.getvalue()
    fake_sns.error = None
    assert publish(*records(100)) is None
    assert sorted(fake_sns.accepted) == sorted(f"k{number}" for number in range(1, 101))


def test_refused_batch_is_published_singly(publish: Publish, fake_sns: FakeSns) -> None:
    batches = fake_sns.publish_batch

    def refuse(**parameters: Any) -> Any:
        batches(**parameters)
        raise ClientError({"Error": {"Code": "InvalidParameter"}}, "PublishBatch")

    fake_sns.publish_batch = refuse  # type: ignore[method-assign]
    fake_sns.refuse = lambda operation, _: operation == "publish_batch"
    assert publish(*records(3)) is None
    assert fake_sns.accepted == ["k1", "k2", "k3"]


def test_entry_without_a_result_counts_as_failed(publish: Publish, fake_sns: FakeSns) -> None:
    fake_sns.publish_batch = lambda **_: {}  # type: ignore[method-assign]
    assert publish(*records(2)) is None
    assert fake_sns.calls == [["k1"], ["k2"]]


def test_no_call_starts_that_could_outlast_the_function(
    publish: Publish, fake_sns: FakeSns, context: SimpleNamespace
) -> None:
    context.get_remaining_time_in_millis = lambda: 12_100
    assert publish(*records(2)) == "1"
    assert fake_sns.calls == []


def test_item_that_is_not_a_decision_is_passed_over(
    publish: Publish, fake_sns: FakeSns, log: io.StringIO, new_metric_lines: MetricLines
) -> None:
    """It could never be published, and would block its shard."""
    invalid = record("2", "k2", answer={"S": "secret"})
    assert publish(record("1", "k1"), invalid, record("3", "k3")) is None
    assert fake_sns.accepted == ["k1", "k3"]
    first = json.loads(log.getvalue().splitlines()[0])
    assert (first["level"], first["message"], first["decision_id"]) == ("ERROR", "item is not a decision", "k2")
    assert "secret" not in log.getvalue()
    assert "Traceback" not in log.getvalue()
    (line,) = new_metric_lines()
    assert (line["AlertsPublished"], line["AlertsFailed"]) == (2, 1)


def test_calls_have_explicit_timeouts_within_that_of_the_function(invoke: Functions) -> None:
    app = invoke.modules["AlertFunction"]
    configuration = app.SNS.meta.config
    assert (configuration.connect_timeout, configuration.read_timeout) == (1, 2)
    assert configuration.retries == {"mode": "standard", "total_max_attempts": 2}
    # Both calls that a failing batch makes fit, with the margin for the response.
    assert template.functions()["AlertFunction"].timeout > 2 * app.CALL_SECONDS + 0.2
