"""How the functions call AWS: how long they wait, how often they try, when they must have ended."""

import time
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# botocore's defaults are made for batch jobs (60 s a read) and changed in 1.44; an answer that is waited for has less.
CLIENT_CONFIG = Config(
    connect_timeout=0.2,
    read_timeout=1,
    retries={"mode": "standard", "total_max_attempts": 2},
)

# Seconds that one call takes at most: two attempts up to their timeouts, and between them up to a second's pause, the
# longest that botocore makes before a second attempt (where the first one was throttled).
CALL_SECONDS = 2 * (0.2 + 1) + 1

# Seconds that a handler needs besides its calls.
_MARGIN = 0.2


def deadline(context: Any) -> float:
    """When the function must have its answer, on the clock of :func:`time.monotonic`: just before Lambda stops it."""
    remaining: int = context.get_remaining_time_in_millis()
    return time.monotonic() + remaining / 1000 - _MARGIN


def reason(error: ClientError | BotoCoreError) -> str:
    """What went wrong, by one name: the service's own error code, or the class of botocore's error."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
