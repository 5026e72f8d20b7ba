"""How AWS is called: no longer than a caller waits, as often as botocore would, and each failure by one name."""

import io
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError
from botocore.retries import standard
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from scoring import deadlines
from scoring.aws import client, retries
from scoring.aws.connection import ResponseError
from scoring.errors import CallFailed
from scoring.ledger import outbox, reader, writer

CONFLICT = {
    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    "CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict"}],
}

# What an attempt comes to: status and body of the answer, or what is raised instead
Outcome = tuple[int, bytes] | Exception

OK: Outcome = (200, b"{}")


def refused(code: str, status: int = 400) -> Outcome:
    return status, json.dumps({"__type": f"com.amazon.coral.service#{code}"}).encode()


class Line:
    """Stands in for the connection: answers one attempt after the other as told."""

    host = "dynamodb.example"

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[bytes] = []

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        self.requests.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not made; each halfway between the shortest and the longest."""
    made: list[float] = []
    monkeypatch.setattr("scoring.aws.client.random.uniform", lambda shortest, longest: (shortest + longest) / 2)
    monkeypatch.setattr("scoring.aws.client.time.sleep", made.append)
    return made


def service(*outcomes: Outcome) -> tuple[client.Client, Line]:
    made, line = client.dynamodb(), Line(*outcomes)
    made._connection = line  # type: ignore[assignment]
    return made, line


def test_a_call_is_one_signed_request(pauses: list[float]) -> None:
    dynamodb, line = service((200, b'{"Item": {}}'))
    assert dynamodb.call("GetItem", {"TableName": "T", "Key": {"id": {"S": "é"}}}) == {"Item": {}}
    head, _, body = line.requests[0].partition(b"\r\n\r\n")
    assert json.loads(body) == {"TableName": "T", "Key": {"id": {"S": "é"}}}
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST / HTTP/1.1"
    assert headers["host"] == "dynamodb.example"
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert int(headers["content-length"]) == len(body)
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=local/")
    age = time.time() - time.mktime(time.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")) + time.timezone
    assert abs(age) < 60


def test_a_call_is_dated_in_utc_wherever_the_function_thinks_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    dynamodb, line = service(OK)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        dynamodb.call("GetItem", {})
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    (said,) = re.findall(rb"x-amz-date: (\w+)", line.requests[0])
    now = datetime.strptime(said.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(now.timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    ("connect", "name", "target"),
    [
        (writer.connect, "dynamodb", "DynamoDB_20120810"),
        (reader.connect, "dynamodb", "DynamoDB_20120810"),
        (outbox.connect, "sqs", "AmazonSQS"),
    ],
)
def test_where_a_service_is_and_how_long_it_is_waited_for(
    connect: Callable[[], Any],
    name: str,
    target: str,
    function_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
) -> None:
    made: list[Any] = []
    opened: list[str] = []

    class Unopened(Line):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(OK)
            made.append(arguments)

        def open(self) -> None:
            opened.append(name)
            raise TimeoutError  # as where nobody answers while the function starts

    monkeypatch.setattr("scoring.aws.client.Connection", Unopened)
    monkeypatch.setenv("AWS_CA_BUNDLE", "/bundle.pem")
    for other in ("DYNAMODB", "SQS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{other}", f"http://{other.lower()}.example")
    found = connect()
    size = 16 * 1024 * 1024 if connect is reader.connect else 1024 * 1024
    assert made == [(f"http://{name}.example", "/bundle.pem", 0.2, 1, size)]
    # The one that every decision needs is connected to ahead.
    assert opened == (["dynamodb"] if name == "dynamodb" else [])
    (one,) = [value for value in vars(found).values() if isinstance(value, client.Client)]
    one.call("Operation", {})
    line: Any = one._connection
    head = line.requests[0].decode()
    assert f"x-amz-target: {target}.Operation\r\n" in head
    assert f"/us-east-1/{name}/aws4_request" in head


def test_both_attempts_are_the_same_call(pauses: list[float]) -> None:
    dynamodb, line = service(TimeoutError(), OK)
    dynamodb.call("TransactWriteItems", {"ClientRequestToken": "t"})
    bodies = [request.partition(b"\r\n\r\n")[2] for request in line.requests]
    assert bodies == [b'{"ClientRequestToken":"t"}'] * 2


# What an attempt may come to, what it is called, and the longest pause in seconds before the next; None for no next
OUTCOMES = [
    (ConnectionResetError(), "ConnectionResetError", 0.025),
    (TimeoutError(), "TimeoutError", 0.025),
    (ConnectionRefusedError(), "ConnectionRefusedError", 0.025),
    (OSError(), "OSError", 0.025),
    (ResponseError(), "ResponseError", 0.025),
    (refused("InternalServerError", 500), "InternalServerError", 0.025),
    (refused("ServiceUnavailable", 503), "ServiceUnavailable", 0.025),
    (refused("RequestTimeout", 408), "RequestTimeout", 0.025),
    ((502, b"<html>"), "HTTP 502", 0.025),
    ((500, b""), "HTTP 500", 0.025),
    ((503, b"[]"), "HTTP 503", 0.025),
    (refused("ThrottlingException"), "ThrottlingException", 1.0),
    (refused("ProvisionedThroughputExceededException"), "ProvisionedThroughputExceededException", 1.0),
    (refused("TransactionInProgressException"), "TransactionInProgressException", 1.0),
    ((429, b""), "HTTP 429", 1.0),
    (refused("ValidationException"), "ValidationException", None),
    (refused("AccessDeniedException"), "AccessDeniedException", None),
    ((400, json.dumps(CONFLICT).encode()), "TransactionCanceledException", None),
    ((400, b"{}"), "HTTP 400", None),
    ((404, b"not found"), "HTTP 404", None),
    ((200, b"<html>"), "HTTP 200", None),
    ((301, b""), "HTTP 301", None),
]


@pytest.mark.parametrize(("outcome", "reason", "pause"), OUTCOMES, ids=str)
def test_what_may_pass_is_tried_once_more(
    outcome: Outcome, reason: str, pause: float | None, pauses: list[float]
) -> None:
    dynamodb, line = service(outcome, outcome, OK)
    with pytest.raises(CallFailed, match=f"^{reason}$") as caught:
        dynamodb.call("GetItem", {})
    assert caught.value.reason == reason
    assert caught.value.status == (outcome[0] if isinstance(outcome, tuple) else 0)
    assert pauses == ([] if pause is None else [pause / 2])
    assert len(line.requests) == 1 + len(pauses)

    dynamodb, line = service(outcome, OK)
    if pause is not None:
        assert dynamodb.call("GetItem", {}) == {}


def test_an_answer_that_nests_without_end_is_none() -> None:
    dynamodb, _ = service((200, b"[" * 100_000))
    with pytest.raises(CallFailed, match="HTTP 200"):
        dynamodb.call("GetItem", {})


def test_what_the_service_says_besides_is_kept() -> None:
    dynamodb, _ = service((400, json.dumps(CONFLICT).encode()))
    with pytest.raises(CallFailed) as caught:
        dynamodb.call("TransactWriteItems", {})
    assert caught.value.response == CONFLICT


class Botocore:
    """A boto3 client of the same policy, whose attempts come to what is told, and whose pauses are the longest."""

    def __init__(self, patch: pytest.MonkeyPatch, outcomes: list[Outcome]) -> None:
        patch.setattr(standard.ExponentialBackoff.__init__, "__defaults__", (20, lambda: 1, None, None))
        self.outcomes = list(outcomes)
        config = Config(retries={"mode": "standard", "total_max_attempts": retries.MAX_ATTEMPTS})
        self._client = boto3.client("dynamodb", config=config)
        events = self._client.meta.events
        events.register("before-send.dynamodb", self._answer)  # type: ignore[arg-type]  # its answer is taken

    def call(self, *_: Any) -> None:
        try:
            self._client.list_tables()
        except ClientError as error:
            raise CallFailed(error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise CallFailed(type(error).__name__) from error

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise ConnectionClosedError(endpoint_url=request.url)
        return AWSResponse(
            request.url, outcome[0], HTTPHeaders(), HTTPResponse(io.BytesIO(outcome[1]), preload_content=False)
        )


@given(
    outcomes=st.lists(
        st.just(OK)
        | st.sampled_from([TimeoutError(), ConnectionResetError()])
        | st.builds(
            refused,
            st.sampled_from(
                [*retries._THROTTLING_CODES, *retries._TRANSIENT_CODES, "ValidationException", "SomethingNew"]
            ),
            st.sampled_from([400, 403, 404, 408, 429, 500, 501, 502, 503, 504, 505]),
        ),
        min_size=1,
        max_size=12,
    ),
    times=st.integers(1, 20),
)
@settings(max_examples=50)
def test_as_often_and_with_the_pauses_of_botocore(outcomes: list[Outcome], times: int) -> None:
    """Also where so many calls have failed that the quota of attempts is used up."""
    outcomes = [*outcomes * times, OK]
    ours, line = service(*outcomes)
    with pytest.MonkeyPatch.context() as patch:
        pauses: list[float] = []
        patch.setattr("time.sleep", pauses.append)
        patch.setattr("scoring.aws.client.random.uniform", lambda _, longest: longest)
        theirs = Botocore(patch, outcomes)
        while len(line.outcomes) > 1:
            results = []
            for one in (ours, theirs):
                pauses.clear()
                try:
                    one.call("ListTables", {})
                except CallFailed:
                    results.append(("failed", *pauses))
                else:
                    results.append(("done", *pauses))
            assert results[0] == results[1], outcomes
            assert len(line.outcomes) == len(theirs.outcomes)


def test_a_call_ends_within_its_seconds() -> None:
    # Two attempts, each to connect, encrypt and ask, and the longest pause between them
    assert pytest.approx(0.2 + 0.2 + 1 + 1 + 0.2 + 0.2 + 1) == client.CALL_SECONDS
    # LedgerWriter and outbox, one after the other, within the ten seconds of the function
    assert 2 * client.CALL_SECONDS < 9


def test_the_deadline_is_just_before_lambda_stops_the_function(context: SimpleNamespace) -> None:
    assert 9.5 < deadlines.of(context) - time.monotonic() < 9.9
