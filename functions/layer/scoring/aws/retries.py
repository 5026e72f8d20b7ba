"""The retry policy: the standard mode of AWS's SDKs, limited to two attempts.

Source: *Retry behavior* in the AWS SDKs and Tools Reference Guide, with botocore 1.44's figures for DynamoDB.
"""

from scoring.errors import CallFailed

MAX_ATTEMPTS = 2
# Retries use up the quota and successes restore it, so a client stops retrying in a long outage.
QUOTA = 500
MAX_BACKOFF_SECONDS = 0.025
MAX_THROTTLING_BACKOFF_SECONDS = 1.0

_RETRY_COST = 14
_THROTTLING_RETRY_COST = 5

_NO_RESPONSE = 0
_TRANSIENT_STATUSES = frozenset({_NO_RESPONSE, 500, 502, 503, 504})
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


def retry_cost(failure: CallFailed) -> tuple[int, float]:
    """Return the quota that a retry costs and the maximum back-off in seconds; a cost of 0 means not retryable."""
    if failure.status == _THROTTLING_STATUS or failure.reason in _THROTTLING_CODES:
        return _THROTTLING_RETRY_COST, MAX_THROTTLING_BACKOFF_SECONDS
    if failure.status in _TRANSIENT_STATUSES or failure.reason in _TRANSIENT_CODES:
        return _RETRY_COST, MAX_BACKOFF_SECONDS
    return 0, 0
