"""Parse the log lines of the functions: decisions, and metrics in CloudWatch's embedded metric format."""

import json
from collections.abc import Iterator
from typing import Any

DECISION_METRICS = {"Decisions", "Latency", "DegradedDecisions", "UnknownFields", "UnrecordedDecisions"}
# Metrics with a line of their own, and the dimension of each in addition to ``service``
DIMENSIONS = {"RuleHits": "rule", "RejectedRequests": "reason"}

# Namespace, name, and the dimensions with their values.
Metric = tuple[str, str, frozenset[tuple[str, str]]]


def parse(log: str) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Return the fields of each decision, and metric and dimension value of each other line.

    Fails if a line is neither, or has more fields than expected.
    """
    decisions, counts = [], []
    for text in log.splitlines():
        line = json.loads(text)
        assert line.pop("_aws")
        assert line.pop("service")
        if line.pop("message", None) == "decision":
            assert line.pop("request_id")
            decisions.append({name: value for name, value in line.items() if name not in DECISION_METRICS})
        else:
            (metric,) = DIMENSIONS.keys() & line.keys()
            assert line.pop(metric) == 1
            counts.append((metric, line.pop(DIMENSIONS[metric])))
            assert not line
    return decisions, counts


def metrics(line: dict[str, Any]) -> Iterator[tuple[Metric, str, float]]:
    """Yield each metric that CloudWatch extracts from a line, with its unit and value."""
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = frozenset((name, line[name]) for name in names)
            assert all(value.isascii() and value.strip() for _, value in dimensions)
            for metric in directive["Metrics"]:
                yield (directive["Namespace"], metric["Name"], dimensions), metric["Unit"], line[metric["Name"]]
