"""Inside an execution environment: import the handler, then one event after the other until the pipe closes.

Speaks JSON lines: in, ``{"event", "request_id"}``; out, what the handler returns or how it failed. A handler, or the
import of one, that takes longer than the timeout of the function ends the process by SIGALRM, whoever is watching.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TIMEOUT_SECONDS = float(os.environ["AWS_LAMBDA_FUNCTION_TIMEOUT"])


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
    sys.stdout = os.fdopen(sys.stdout.fileno(), "w", buffering=1, encoding="utf-8", closefd=False)
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    with time_limit():
        handler = getattr(importlib.import_module(module), name)
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
