"""What the functions log, read back: lines of decisions, and lines that count something."""

import json
from typing import Any

METRICS_OF_A_DECISION = {"Decisions", "Latency", "UnrecordedDecisions"}
# The dimension of each metric that has a line of its own
COUNTS = {"RuleHits": "rule", "RejectedRequests": "reason"}


def read(log: str) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The decisions that a log tells of, each by its fields, and what else it counts: metric and dimension.

    Fails where a line is neither, or has anything more.
    """
    decisions, counts = [], []
    for text in log.splitlines():
        line = json.loads(text)
        assert line.pop("_aws")
        assert line.pop("service")
        if line.pop("message", None) == "decision":
            assert line.pop("request_id")
            decisions.append({name: value for name, value in line.items() if name not in METRICS_OF_A_DECISION})
        else:
            (metric,) = COUNTS.keys() & line.keys()
            assert line.pop(metric) == 1
            counts.append((metric, line.pop(COUNTS[metric])))
            assert not line
    return decisions, counts
