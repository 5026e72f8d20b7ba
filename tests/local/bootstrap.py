"""Inside an execution environment: import the handler, then one event after the other until the pipe closes.

Speaks JSON lines: in, ``{"event", "request_id"}``; out, what the handler returns or how it failed. A handler, or the
import of one, that takes longer than the timeout of the function ends the process by SIGALRM, whoever is watching.
If the import raises a ``ConfigurationError``, such as for a rule set that is not valid, every event gets that error.

The only argument is the format of the log lines on standard error: ``json`` leaves them as they are, ``text`` makes
them readable for people.
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
# Fields of log lines, also of Powertools, that are left out or shown in another way.
COMMON_FIELDS = {"level", "message", "timestamp", "service", "location", "exception", "exception_name", "stack_trace"}


@dataclass
class LambdaContext:
    """The part of Lambda's context object that Python functions ask for."""

    aws_request_id: str
    deadline: float
    function_name: str = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    invoked_function_arn: str = f"arn:aws:lambda:us-east-1:123456789012:function:{function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        return max(0, int((self.deadline - time.time()) * 1000))


def main() -> None:
    """Serve events until standard input closes, which it does when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # What a handler prints is its log, each line at once.
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
                answer = handler(json.loads(request["event"]), context)
        except Exception as error:  # noqa: BLE001  whatever a handler raises is its answer
            traceback.print_exc()
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def load_handler() -> Callable[[Any, LambdaContext], Any]:
    """Import the handler, or make one that returns the error in the configuration."""
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    try:
        handler: Callable[[Any, LambdaContext], Any] = getattr(importlib.import_module(module), name)
    except Exception as error:
        errors = sys.modules.get("scoring.errors")
        if errors is None or not isinstance(error, errors.ConfigurationError):
            raise
        answer = {"errorType": "Runtime.ConfigurationError", "errorMessage": str(error)}
        return lambda *_: answer
    return handler


class ReadableLog(io.TextIOBase):
    """Standard output of a function, with its JSON log lines made readable.

    Lines with metrics, such as those of decisions, are left out: the line of the request has what a person needs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._stream.write(readable(line))
        return len(text)

    def flush(self) -> None:
        self._stream.write(self._begun)
        self._begun = ""
        self._stream.flush()


def readable(line: str) -> str:
    """Format a log line for people; empty for metrics, unchanged if it is no log line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line + "\n"
    if not isinstance(entry, dict):
        return line + "\n"
    if "_aws" in entry:
        return ""
    if "level" not in entry or "message" not in entry:
        return line + "\n"
    trace = entry.get("exception", "")
    fields = [
        f"{name}={value}" for name, value in entry.items() if name not in COMMON_FIELDS and value not in (None, "")
    ]
    head = [time.strftime("%H:%M:%S"), entry["level"], str(entry["message"]), *fields]
    return "  ".join(head) + (f"\n{trace}\n" if trace else "\n")


@contextmanager
def time_limit() -> Iterator[None]:
    """Have the kernel end this process where the block takes longer than the function may."""
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
