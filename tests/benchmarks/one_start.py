"""Inside a measured process: import the function, decide once, then many times, and tell what that took.

    python -P -S one_start.py EVENTS WARM_UP REPORT

Events are JSON lines. The first is the first decision, the next WARM_UP are not timed, the others are timed together.
Processor time is user and system time of all threads since the process began, as the kernel counts it.

Nothing that is not built into Python is imported before ``app`` is, and after it only ``json``, which all functions
import themselves.
"""

import sys
import time

_REQUEST_ID = "6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53"
_REMAINING = 10_000


class Context:
    """The part of Lambda's context object that the functions use."""

    aws_request_id = _REQUEST_ID
    function_name = "ScoreFunction"
    function_version = "$LATEST"
    memory_limit_in_mb = "512"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:ScoreFunction"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        return _REMAINING


def main() -> None:
    """Measure."""
    events_file, warm_up, report_file = sys.argv[1:]
    from app import lambda_handler  # type: ignore[import-not-found]  # noqa: PLC0415  the import is measured

    imported = time.process_time()
    import json  # noqa: PLC0415  see above

    with open(events_file, encoding="utf-8") as lines:  # noqa: PTH123  pathlib would be an import more
        event, context = json.loads(next(lines)), Context()
        start = time.process_time()
        answers = [lambda_handler(event, context)]
        first = time.process_time() - start
        memory = _most_memory()
        # Not before, since they would be in the memory of the first.
        events = [json.loads(line) for line in lines]

    timed = int(warm_up)
    answers += [lambda_handler(event, context) for event in events[:timed]]
    start = time.process_time()
    answers += [lambda_handler(event, context) for event in events[timed:]]
    warm = time.process_time() - start

    report = {"imported": imported, "first": first, "warm": warm, "memory": memory, "answers": answers}
    with open(report_file, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(report, file)


def _most_memory() -> int:
    """The most bytes that were resident so far.

    Not ``ru_maxrss``: of a process that was started by a larger one, it is the size of that one.
    """
    with open("/proc/self/status", encoding="ascii") as lines:  # noqa: PTH123
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
