"""How the functions call AWS: how long they wait, how often they try, and when they must have ended."""

import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scoring.errors import StoreUnavailable
from scoring.telemetry import logger

# botocore's defaults are made for batch jobs (60 s a read) and changed in 1.44; an answer that is waited for has less.
_CONNECT_SECONDS = 0.2
_READ_SECONDS = 1
_ATTEMPTS = 2
# The longest that botocore of itself makes before a second attempt, where the first one was throttled.
_PAUSE_SECONDS = 1

CLIENT_CONFIG = Config(
    connect_timeout=_CONNECT_SECONDS,
    read_timeout=_READ_SECONDS,
    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
)

# Seconds that one call takes at most, name resolution apart.
CALL_SECONDS = _ATTEMPTS * (_CONNECT_SECONDS + _READ_SECONDS) + (_ATTEMPTS - 1) * _PAUSE_SECONDS

# Seconds that a handler needs besides its calls.
_MARGIN = 0.2


def client(service: str) -> Any:
    """A boto3 client whose calls take :data:`CALL_SECONDS` at most."""
    made = boto3.client(service, config=CLIENT_CONFIG)  # type: ignore[call-overload]  # an overload per service
    made.meta.events.register_first(f"needs-retry.{service}", _ignore_wish_for_a_pause)
    return made


def deadline(context: Any) -> float:
    """When the function must have its answer, on the clock of :func:`time.monotonic`: just before Lambda stops it."""
    remaining: int = context.get_remaining_time_in_millis()
    return time.monotonic() + remaining / 1000 - _MARGIN


def is_time_for_a_call(until: float) -> bool:
    """Whether a call that is begun now ends before then."""
    return time.monotonic() <= until - CALL_SECONDS


def reason(error: ClientError | BotoCoreError) -> str:
    """What went wrong, by one name: the service's own error code, or the class of botocore's error."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def unavailable(what: str, why: str, decision_id: str | None = None) -> StoreUnavailable:
    """Log that the store or the outbox could not be used, and return the error to raise."""
    logger.error(f"{what} unavailable", extra={"reason": why, "decision_id": decision_id})
    return StoreUnavailable()


def _ignore_wish_for_a_pause(response: Any, **_: Any) -> None:
    """Drop the header by which a service makes botocore wait for up to 5 s more before it tries again."""
    if response is not None:
        response[0].headers.pop("x-amz-retry-after", None)
