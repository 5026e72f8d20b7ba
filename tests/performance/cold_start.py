"""Measure a process from the inside: the import of the function, its first invocation, then many more.

    python -P -S cold_start.py EVENTS WARM_UP REPORT

EVENTS holds JSON lines. The first event is the first invocation, the next WARM_UP are not timed, the others are timed
together. Times are processor times, user and system, of all threads since the process started.

Only built-in modules are imported before ``app``, and only ``json``, which every implementation imports, after it.
"""

import sys
import time


class Context:
    """The part of Lambda's context object that the functions use."""

    aws_request_id = "6f1d0d6c-5b07-4d5e-9f0a-7c1f4f0b1f53"
    function_name = "ScoreFunction"
    function_version = "$LATEST"
    memory_limit_in_mb = "512"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:ScoreFunction"

    def get_remaining_time_in_millis(self) -> int:
        return 10_000


def main() -> None:
    """Handle the events and write the report."""
    events_file, warm_up, report_file = sys.argv[1:]
    from app import lambda_handler  # type: ignore[import-not-found]  # noqa: PLC0415  the import is measured

    imported = time.process_time()
    import json  # noqa: PLC0415  see above

    with open(events_file, encoding="utf-8") as lines:  # noqa: PTH123  pathlib would be another import
        event, context = json.loads(next(lines)), Context()
        start = time.process_time()
        responses = [lambda_handler(event, context)]
        first = time.process_time() - start
        memory = _peak_memory()
        # Read only now, because they would count as memory of the first invocation.
        events = [json.loads(line) for line in lines]

    timed = int(warm_up)
    responses += [lambda_handler(event, context) for event in events[:timed]]
    start = time.process_time()
    responses += [lambda_handler(event, context) for event in events[timed:]]
    warm = time.process_time() - start

    report = {"imported": imported, "first": first, "warm": warm, "memory": memory, "responses": responses}
    with open(report_file, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(report, file)


def _peak_memory() -> int:
    """Return the peak resident memory in bytes.

    ``ru_maxrss`` would include the size of the parent process.
    """
    with open("/proc/self/status", encoding="ascii") as lines:  # noqa: PTH123
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
