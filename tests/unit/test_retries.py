"""The retry policy, in the client that applies it, compared with botocore's."""

import io
import json
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

from scoring.aws import retries
from scoring.aws.connection import ResponseError
from scoring.errors import CallFailed
from tests.unit.fakes import Outcome, connected_client

OK: Outcome = (200, b"{}")
CANCELLATION = json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"}).encode()


def error_response(code: str, status: int = 400) -> Outcome:
    return status, json.dumps({"__type": f"com.amazon.coral.service#{code}"}).encode()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses between attempts instead of making them; each is half of the maximum."""
    seconds: list[float] = []
    monkeypatch.setattr("scoring.aws.client.random.uniform", lambda minimum, maximum: (minimum + maximum) / 2)
    monkeypatch.setattr("scoring.aws.client.time.sleep", seconds.append)
    return seconds


# Outcome of an attempt, reason of the failure, and maximum back-off in seconds; None if not retryable.
OUTCOMES = [
    (ConnectionResetError(), "ConnectionResetError", 0.025),
    (TimeoutError(), "TimeoutError", 0.025),
    (ConnectionRefusedError(), "ConnectionRefusedError", 0.025),
    (OSError(), "OSError", 0.025),
    (ResponseError(), "ResponseError", 0.025),
    (error_response("InternalServerError", 500), "InternalServerError", 0.025),
    (error_response("ServiceUnavailable", 503), "ServiceUnavailable", 0.025),
    (error_response("RequestTimeout", 408), "RequestTimeout", 0.025),
    ((502, b"<html>"), "HTTP 502", 0.025),
    ((500, b""), "HTTP 500", 0.025),
    ((503, b"[]"), "HTTP 503", 0.025),
    (error_response("ThrottlingException"), "ThrottlingException", 1.0),
    (error_response("ProvisionedThroughputExceededException"), "ProvisionedThroughputExceededException", 1.0),
    (error_response("TransactionInProgressException"), "TransactionInProgressException", 1.0),
    ((429, b""), "HTTP 429", 1.0),
    (error_response("ValidationException"), "ValidationException", None),
    (error_response("AccessDeniedException"), "AccessDeniedException", None),
    ((400, CANCELLATION), "TransactionCanceledException", None),
    ((400, b"{}"), "HTTP 400", None),
    ((404, b"not found"), "HTTP 404", None),
    ((200, b"<html>"), "HTTP 200", None),
    ((301, b""), "HTTP 301", None),
]


@pytest.mark.parametrize(("outcome", "reason", "max_backoff"), OUTCOMES, ids=str)
def test_retryable_failure_is_retried_once(
    outcome: Outcome, reason: str, max_backoff: float | None, pauses: list[float]
) -> None:
    dynamodb, connection = connected_client(outcome, outcome, OK)
    with pytest.raises(CallFailed, match=f"^{reason}$") as caught:
        dynamodb.call("GetItem", {})
    assert caught.value.reason == reason
    assert caught.value.status == (outcome[0] if isinstance(outcome, tuple) else 0)
    assert pauses == ([] if max_backoff is None else [max_backoff / 2])
    assert len(connection.requests) == 1 + len(pauses)

    dynamodb, _ = connected_client(outcome, OK)
    if max_backoff is not None:
        assert dynamodb.call("GetItem", {}) == {}


def test_both_attempts_send_the_same_body(pauses: list[float]) -> None:
    dynamodb, connection = connected_client(TimeoutError(), OK)
    dynamodb.call("TransactWriteItems", {"ClientRequestToken": "t"})
    bodies = [request.partition(b"\r\n\r\n")[2] for request in connection.requests]
    assert bodies == [b'{"ClientRequestToken":"t"}'] * 2


class Boto3Client:
    """A boto3 client with the same policy and the given outcomes; its pauses are the maximum."""

    def __init__(self, patch: pytest.MonkeyPatch, outcomes: list[Outcome]) -> None:
        patch.setattr(standard.ExponentialBackoff.__init__, "__defaults__", (20, lambda: 1, None, None))
        self.outcomes = list(outcomes)
        config = Config(retries={"mode": "standard", "total_max_attempts": retries.MAX_ATTEMPTS})
        self._client = boto3.client("dynamodb", config=config)
        events = self._client.meta.events
        events.register("before-send.dynamodb", self._respond)  # type: ignore[arg-type]  # may return a response

    def call(self, *_: Any) -> None:
        try:
            self._client.list_tables()
        except ClientError as error:
            raise CallFailed(error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise CallFailed(type(error).__name__) from error

    def _respond(self, request: Any, **_: Any) -> AWSResponse:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise ConnectionClosedError(endpoint_url=request.url)
        status, body = outcome
        return AWSResponse(request.url, status, HTTPHeaders(), HTTPResponse(io.BytesIO(body), preload_content=False))


@given(
    outcomes=st.lists(
        st.just(OK)
        | st.sampled_from([TimeoutError(), ConnectionResetError()])
        | st.builds(
            error_response,
            st.sampled_from(
                [*retries._THROTTLING_CODES, *retries._TRANSIENT_CODES, "ValidationException", "UnknownException"]
            ),
            st.sampled_from([400, 403, 404, 408, 429, 500, 501, 502, 503, 504, 505]),
        ),
        min_size=1,
        max_size=12,
    ),
    times=st.integers(1, 20),
)
@settings(max_examples=50)
def test_attempts_and_back_off_are_those_of_botocore(outcomes: list[Outcome], times: int) -> None:
    """Repeated outcomes use up the retry quota."""
    outcomes = [*outcomes * times, OK]
    ours, connection = connected_client(*outcomes)
    with pytest.MonkeyPatch.context() as patch:
        pauses: list[float] = []
        patch.setattr("time.sleep", pauses.append)
        patch.setattr("scoring.aws.client.random.uniform", lambda _, maximum: maximum)
        theirs = Boto3Client(patch, outcomes)
        while len(connection.outcomes) > 1:
            results = []
            for client in (ours, theirs):
                pauses.clear()
                try:
                    client.call("ListTables", {})
                except CallFailed:
                    results.append(("failed", *pauses))
                else:
                    results.append(("done", *pauses))
            assert results[0] == results[1], outcomes
            assert len(connection.outcomes) == len(theirs.outcomes)
