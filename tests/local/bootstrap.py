"""The program in an execution environment: imports the handler, then runs it for one event after another.

For each event, it reads a JSON line ``{"event", "request_id"}`` and writes a JSON line with the handler's result or
error. If the import or an event takes longer than the function's timeout, SIGALRM ends the process. If the import
raises a ``ConfigurationError``, for an invalid rule set for example, every event gets that error.

The argument is the format of the function's log lines on standard error: ``json``, or ``text`` for people.
"""

import importlib
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

TIMEOUT_SECONDS = float(os.environ["AWS_LAMBDA_FUNCTION_TIMEOUT"])
# Fields of log lines, those of Powertools included, that are not shown as name=value
COMMON_FIELDS = {"level", "message", "timestamp", "service", "location", "exception", "exception_name", "stack_trace"}


@dataclass
class LambdaContext:
    """The commonly used part of Lambda's context object."""

    aws_request_id: str
    deadline: float
    function_name: str = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    invoked_function_arn: str = f"arn:aws:lambda:us-east-1:123456789012:function:{function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function times out."""
        return max(0, int((self.deadline - time.time()) * 1000))


def main() -> None:
    """Serve events until standard input closes, as it does when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # The output of a handler is its log, unbuffered by line.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    log = os.fdopen(sys.stdout.fileno(), "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stdout = ReadableLog(log) if sys.argv[1] == "text" else log
    with time_limit():
        handler = load_handler()
    for line in sys.stdin:
        request = json.loads(line)
        context = LambdaContext(request["request_id"], time.time() + TIMEOUT_SECONDS)
        try:
            with time_limit():
                result = handler(json.loads(request["event"]), context)
        except Exception as error:  # noqa: BLE001  as on Lambda, any exception is a result
            traceback.print_exc()
            result = {"errorType": type(error).__name__, "errorMessage": str(error)}
        results.write(json.dumps(result) + "\n")
        results.flush()


def load_handler() -> Callable[[Any, LambdaContext], Any]:
    """Import the handler; if the configuration is invalid, return a handler that returns that error."""
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    try:
        handler: Callable[[Any, LambdaContext], Any] = getattr(importlib.import_module(module), name)
    except Exception as error:
        errors = sys.modules.get("scoring.errors")
        if errors is None or not isinstance(error, errors.ConfigurationError):
            raise
        result = {"errorType": "Runtime.ConfigurationError", "errorMessage": str(error)}
        return lambda *_: result
    return handler


class ReadableLog(io.TextIOBase):
    """Standard output of a function, with JSON log lines formatted as text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_line = ""

    def write(self, text: str) -> int:
        *lines, self._last_line = (self._last_line + text).split("\n")
        for line in lines:
            self._stream.write(readable(line))
        return len(text)

    def flush(self) -> None:
        self._stream.write(self._last_line)
        self._last_line = ""
        self._stream.flush()


def readable(line: str) -> str:
    """Format a JSON log line as text, and leave any other line unchanged.

    Metrics and published alerts are omitted: the console prints the decision with the request, and the alert itself.
    """
    try:
        entry = json.loads(line)
    except ValueError:
        return line + "\n"
    if isinstance(entry, dict) and ("_aws" in entry or entry.get("message") == "alert published"):
        return ""
    if not isinstance(entry, dict) or not {"level", "message"} <= entry.keys():
        return line + "\n"
    trace = entry.get("exception", "")
    fields = [
        f"{name}={value}" for name, value in entry.items() if name not in COMMON_FIELDS and value not in (None, "")
    ]
    head = [time.strftime("%H:%M:%S"), entry["level"], str(entry["message"]), *fields]
    return "  ".join(head) + (f"\n{trace}\n" if trace else "\n")


@contextmanager
def time_limit() -> Iterator[None]:
    """Make the kernel end this process if the block takes longer than the function's timeout."""
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
