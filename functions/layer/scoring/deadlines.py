"""Deadlines on the clock of :func:`time.monotonic`, so that a function responds before Lambda stops it."""

import time
from typing import Any

# Reserved for the work of a handler after its last call.
MARGIN_SECONDS = 0.2


def of(context: Any) -> float:
    """Return the time by which the function must respond, from Lambda's context object."""
    remaining_ms: int = context.get_remaining_time_in_millis()
    return time.monotonic() + remaining_ms / 1000 - MARGIN_SECONDS


def allows(deadline: float, seconds: float) -> bool:
    """Return whether work of this length, started now, ends before the deadline."""
    return time.monotonic() + seconds <= deadline
