"""Call AWS while a caller waits: with a time limit, with retries, and never beyond the function's own timeout.

:class:`Service` does what a boto3 client would do: same signatures, same retry policy. It starts in a fraction of the
time and memory, and it limits a whole exchange, where botocore's ``read_timeout`` limits each read: a response that
trickles would keep a boto3 client for as long as it likes.
"""

import json
import random
import time
from contextlib import suppress
from typing import Any

from scoring import settings, telemetry
from scoring.connection import Connection
from scoring.errors import CallFailed, SettingsError, StoreUnavailable
from scoring.signature import Signer

# An SDK's defaults are made for batch jobs (60 s a read); an answer that is waited for has less.
CONNECT_SECONDS = 0.2
READ_SECONDS = 1
ATTEMPTS = 2
# The longest pause before a second attempt: where the first one was throttled, and where it failed otherwise.
_THROTTLED_PAUSE = 1.0
_PAUSE = 0.025

# Seconds that one call takes at most, name resolution apart. A connection takes its time twice, the second for TLS.
CALL_SECONDS = ATTEMPTS * (2 * CONNECT_SECONDS + READ_SECONDS) + (ATTEMPTS - 1) * _THROTTLED_PAUSE

# The text of a 503 in the containers of `sam local`, which have no store without the emulator.
_START_EMULATOR = "The store cannot be reached; start the emulator with 'make emulator' and send the request again"
# Logged as the reason for a 200 that is not a response of the operation.
UNEXPECTED = "UnexpectedResponse"

# Twice what the largest stored decision takes in a response to its own transaction.
_MAX_RESPONSE_BYTES = 1024 * 1024

# Seconds that a handler needs besides its calls.
_MARGIN = 0.2

# The policy by which AWS's SDKs try again ("Retry behavior" of the AWS SDKs and Tools Reference Guide, mode standard),
# and the figures of botocore 1.44: what is worth it, and the quota, which many failures use up and successes restore.
_OK = 200
_NO_REPLY = 0
_TRANSIENT_STATUSES = frozenset({_NO_REPLY, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "RequestTimeoutException"})
_THROTTLING_STATUS = 429
_THROTTLING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_QUOTA = 500
_RETRY_COST = 14
_THROTTLED_RETRY_COST = 5


class Service:
    """A client of one AWS service that speaks JSON, over one connection, for one call at a time.

    Parameters
    ----------
    name
        As in its endpoint, such as ``dynamodb``.
    target
        What comes before the operation in ``X-Amz-Target``, such as ``DynamoDB_20120810``.
    max_response_bytes
        Longer responses are refused.

    Raises
    ------
    SettingsError
        Region, credentials or endpoint are missing or cannot be used.
    """

    def __init__(self, name: str, target: str, max_response_bytes: int) -> None:
        account = settings.account()
        self._target = target
        self._signer = Signer(name, account)
        url = settings.endpoint(name, account.region)
        try:
            self._connection = Connection(url, account.ca_bundle, CONNECT_SECONDS, READ_SECONDS, max_response_bytes)
        except OSError as error:
            raise SettingsError(f"The certificates in {account.ca_bundle!r} (AWS_CA_BUNDLE) cannot be read") from error
        self._quota = _QUOTA

    def connect(self) -> None:
        """Connect ahead of the first call, which tells of it where that is not possible."""
        with suppress(OSError):
            self._connection.open()

    def call(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Call an operation and return its response, both as in the API reference, in :data:`CALL_SECONDS` at most.

        The response is a JSON object. Whether it is one of the operation is for the caller to check.

        Raises
        ------
        CallFailed
            The service refused, or did not respond in time. The request may still have been applied.
        """
        body = json.dumps(parameters, separators=(",", ":")).encode()
        attempts, spent = 1, 0
        while True:
            try:
                answer = self._attempt(operation, body)
            except CallFailed as failure:
                cost, longest_pause = _price_of_another(failure)
                if attempts == ATTEMPTS or not 0 < cost <= self._quota:
                    raise
            else:
                self._quota = min(self._quota + (spent or 1), _QUOTA)
                return answer
            attempts, spent = attempts + 1, cost
            self._quota -= cost
            time.sleep(random.uniform(0, longest_pause))

    def _attempt(self, operation: str, body: bytes) -> Any:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = self._signer.headers(self._connection.host, f"{self._target}.{operation}", body, now)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
        try:
            # In one piece: what is written in two may travel in two.
            status, answer = self._connection.exchange(head.encode() + body)
        except OSError as error:
            raise CallFailed(type(error).__name__) from error
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            # The response did not come from AWS: a proxy or a load balancer, for example.
            raise CallFailed(f"HTTP {status}", status)
        if status != _OK:
            code = str(document.get("__type") or f"HTTP {status}")
            raise CallFailed(code.rpartition("#")[2], status, document)
        return document


def dynamodb(max_response_bytes: int = _MAX_RESPONSE_BYTES) -> Service:
    """Return a client of DynamoDB."""
    return Service("dynamodb", "DynamoDB_20120810", max_response_bytes)


def sqs() -> Service:
    """Return a client of SQS."""
    return Service("sqs", "AmazonSQS", _MAX_RESPONSE_BYTES)


def deadline(context: Any) -> float:
    """When the function must have its answer, on the clock of :func:`time.monotonic`: just before Lambda stops it."""
    remaining: int = context.get_remaining_time_in_millis()
    return time.monotonic() + remaining / 1000 - _MARGIN


def is_time_for_a_call(until: float) -> bool:
    """Whether a call that is begun now ends before then."""
    return time.monotonic() <= until - CALL_SECONDS


def unavailable(what: str, why: str, decision_id: str | None = None) -> StoreUnavailable:
    """Log that the store or the outbox could not be used, and return the error to raise."""
    telemetry.error(f"{what} unavailable", reason=why, decision_id=decision_id)
    return StoreUnavailable(_START_EMULATOR) if settings.SAM_LOCAL else StoreUnavailable()


def _price_of_another(failure: CallFailed) -> tuple[int, float]:
    """What another attempt takes of the quota, and the longest pause before it in seconds; 0 where it is in vain."""
    if failure.status == _THROTTLING_STATUS or failure.reason in _THROTTLING_CODES:
        return _THROTTLED_RETRY_COST, _THROTTLED_PAUSE
    if failure.status in _TRANSIENT_STATUSES or failure.reason in _TRANSIENT_CODES:
        return _RETRY_COST, _PAUSE
    return 0, 0
