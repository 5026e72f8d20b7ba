"""A client of AWS services that starts fast and limits the time of every call.

:class:`Client` signs as a boto3 client does and retries once, at a fraction of the start time and memory. Its time
limit covers a whole exchange. botocore's ``read_timeout`` covers a single read, so a response that trickles in could
take forever.
"""

import json
import random
import time
from contextlib import suppress
from typing import Any

from scoring import settings, strict_json
from scoring.aws.connection import Connection
from scoring.aws.retries import MAX_ATTEMPTS, MAX_THROTTLING_BACKOFF_SECONDS, QUOTA, retry_cost
from scoring.aws.signature import Signer
from scoring.errors import CallFailed, SettingsError

CONNECT_SECONDS = 0.2
READ_SECONDS = 1
# Maximum duration of a call, without name resolution. CONNECT_SECONDS counts twice: it also limits the TLS handshake.
CALL_SECONDS = MAX_ATTEMPTS * (2 * CONNECT_SECONDS + READ_SECONDS) + (MAX_ATTEMPTS - 1) * MAX_THROTTLING_BACKOFF_SECONDS

# Logged reason for a 200 that is not a response to the operation.
UNEXPECTED_RESPONSE = "UnexpectedResponse"

# Twice the size of a response that contains the largest stored decision.
_MAX_RESPONSE_BYTES = 1024 * 1024
_OK = 200


class Client:
    """A client of one AWS service with a JSON protocol, for one call at a time.

    Parameters
    ----------
    service
        Name of the service in its endpoint, such as ``dynamodb``.
    target
        Prefix of the operation in ``X-Amz-Target``, such as ``DynamoDB_20120810``.
    max_response_bytes
        Maximum size of a response body.

    Raises
    ------
    SettingsError
        Region, credentials or endpoint are missing or invalid.
    """

    def __init__(self, service: str, target: str, max_response_bytes: int) -> None:
        account = settings.account()
        self._target = target
        self._signer = Signer(service, account)
        url = settings.endpoint(service, account.region)
        try:
            self._connection = Connection(url, account.ca_bundle, CONNECT_SECONDS, READ_SECONDS, max_response_bytes)
        except OSError as error:
            raise SettingsError(f"The certificates in {account.ca_bundle!r} (AWS_CA_BUNDLE) cannot be read") from error
        self._quota = QUOTA

    def connect(self) -> None:
        """Connect ahead of the first call. Errors are ignored: the first call connects again."""
        with suppress(OSError):
            self._connection.open()

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Call an operation and return its response, in at most :data:`CALL_SECONDS` after name resolution.

        Parameters and response are as in the service's API reference. The caller checks the members of the response.

        Raises
        ------
        CallFailed
            The service refused, or did not respond in time. The request may still have been applied.
        """
        body = strict_json.encode(parameters).encode()
        attempts, spent = 1, 0
        while True:
            try:
                response = self._attempt(operation, body)
            except CallFailed as failure:
                cost, max_backoff = retry_cost(failure)
                if attempts == MAX_ATTEMPTS or not 0 < cost <= self._quota:
                    raise
            else:
                self._quota = min(self._quota + (spent or 1), QUOTA)
                return response
            attempts, spent = attempts + 1, cost
            self._quota -= cost
            time.sleep(random.uniform(0, max_backoff))

    def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = self._signer.headers(self._connection.host, f"{self._target}.{operation}", body, now)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
        try:
            # One write, so that the request is not split over two packets.
            status, content = self._connection.exchange(head.encode() + body)
        except OSError as error:
            raise CallFailed(type(error).__name__) from error
        try:
            response = json.loads(content)
        except (ValueError, RecursionError):
            response = None
        if not isinstance(response, dict):
            # The response did not come from AWS: a proxy or a load balancer, for example.
            raise CallFailed(f"HTTP {status}", status)
        if status != _OK:
            code = str(response.get("__type") or f"HTTP {status}")
            raise CallFailed(code.rpartition("#")[2], status, response)
        return response


def dynamodb(max_response_bytes: int = _MAX_RESPONSE_BYTES) -> Client:
    """Return a client of DynamoDB."""
    return Client("dynamodb", "DynamoDB_20120810", max_response_bytes)


def sqs() -> Client:
    """Return a client of SQS."""
    return Client("sqs", "AmazonSQS", _MAX_RESPONSE_BYTES)
