"""Alarms and dashboard, compared with the metrics that the service and AWS emit."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from scoring import telemetry
from scoring.assessment import RISK_LEVELS
from scoring.errors import NotRecorded
from tests import events
from tests.local import cloudformation, template
from tests.unit.conftest import Functions, MetricLines
from tests.unit.log_lines import Metric, metrics
from tests.unit.test_stream import kafka_event, kafka_record

STACK = cloudformation.LOCAL_NAME

# Metrics of AWS services: dimension, type of the resource and names. Source: the pages "Types of metrics for Lambda
# functions", "HTTP API metrics", "Available CloudWatch metrics for Amazon SQS" and "DynamoDB metrics and dimensions" of
# the AWS documentation.
AWS_METRICS = {
    "AWS/Lambda": ("FunctionName", "AWS::Serverless::Function", {"Errors", "Throttles", "IteratorAge", "OffsetLag"}),
    "AWS/ApiGateway": ("ApiId", "AWS::Serverless::HttpApi", {"Count", "Latency", "4xx", "5xx"}),
    "AWS/SQS": (
        "QueueName",
        "AWS::SQS::Queue",
        {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
    ),
    "AWS/DynamoDB": (
        "TableName",
        "AWS::DynamoDB::Table",
        {
            *("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"),
            *("ReadThrottleEvents", "WriteThrottleEvents", "TransactionConflict"),
        },
    ),
}


def emitted_metrics(invoke: Functions, dynamodb: Any, new_metric_lines: MetricLines) -> set[Metric]:
    """Invoke the functions so that they emit every metric, and return all of them."""
    for name in ("score-low", "score-medium", "score-high", "score-critical", "score-missing-amount"):
        invoke("ScoreFunction", events.load(name))
    invoke("ScoreFunction", events.post('{"amount": 5, "unknown": 1}'))
    invoke("BatchFunction", events.post('[{"amount": 5}, {"amount": -1}]'))
    invoke("StreamFunction", kafka_event(kafka_record({"amount": -1})))
    dynamodb.delete_table(TableName="DecisionsTable")
    with pytest.raises(NotRecorded):
        invoke("StreamFunction", kafka_event(kafka_record({"amount": 5})))
    invoke("ScoreFunction", events.post('{"amount": 5}'))
    invoke("ReconcileFunction", events.load("reconcile"))
    broken = events.load("alert")
    broken["Records"][0]["dynamodb"]["NewImage"].pop("answer")
    invoke("AlertFunction", broken)
    return {key for line in new_metric_lines() for key, _, _ in metrics(line)}


def filter_metrics() -> set[Metric]:
    """Return the metrics of all metric filters."""
    return {
        (one["MetricNamespace"], one["MetricName"], frozenset())
        for properties in template.stack().properties_of("AWS::Logs::MetricFilter").values()
        for one in properties["MetricTransformations"]
    }


def alarms() -> Iterator[tuple[str, Metric]]:
    """Yield each alarm's name and metric."""
    for name, properties in template.stack().properties_of("AWS::CloudWatch::Alarm").items():
        dimensions = frozenset((one["Name"], one["Value"]) for one in properties.get("Dimensions", []))
        yield name, (properties["Namespace"], properties["MetricName"], dimensions)


def widgets() -> list[dict[str, Any]]:
    """Return the properties of each widget of the dashboard."""
    body = json.loads(template.stack().properties("Dashboard")["DashboardBody"])
    return [widget["properties"] for widget in body["widgets"]]


def widget_metrics() -> Iterator[tuple[str, Metric]]:
    """Yield title and metric of each widget; ``*`` is a dimension value that a search leaves open."""
    for widget in widgets():
        for row in widget["metrics"]:
            if isinstance(row[0], dict):
                if search := re.match(r"SEARCH\('\{(.+?)\} (.+)', '\w+', \d+\)$", row[0]["expression"]):
                    namespace, *names = search[1].split(",")
                    terms = dict(re.findall(r'(\w+)="(.+?)"', search[2]))
                    dimensions = frozenset((name, terms.get(name, "*")) for name in names)
                    yield widget["title"], (namespace, terms["MetricName"], dimensions)
                continue
            namespace, name, *rest = (part for part in row if isinstance(part, str))
            yield widget["title"], (namespace, name, frozenset(zip(rest[::2], rest[1::2], strict=True)))


def test_alarms_and_dashboard_use_existing_metrics(
    invoke: Functions, dynamodb: Any, new_metric_lines: MetricLines
) -> None:
    resources = template.load()["Resources"]
    emitted = emitted_metrics(invoke, dynamodb, new_metric_lines)
    # A search leaves one dimension value open.
    emitted |= {
        (namespace, name, frozenset({*dimensions - {one}, (one[0], "*")}))
        for namespace, name, dimensions in emitted
        for one in dimensions
    }
    used = [*alarms(), *widget_metrics()]
    for where, (namespace, name, dimensions) in used:
        if namespace == telemetry.NAMESPACE:
            assert (namespace, name, dimensions) in emitted, where
        elif namespace not in AWS_METRICS:
            assert (namespace, name, dimensions) in filter_metrics(), where
        else:
            dimension, kind, names = AWS_METRICS[namespace]
            assert name in names, where
            ((named, resource),) = dimensions
            assert (named, resources[resource]["Type"]) == (dimension, kind), where
    assert {name for _, (namespace, name, _) in used if namespace == telemetry.NAMESPACE} == {
        name for _, name, _ in emitted
    }
    assert filter_metrics() <= {metric for _, metric in used}


def test_every_function_table_and_queue_is_monitored() -> None:
    resources = template.load()["Resources"]
    used = {(where, value) for where, (_, _, dimensions) in [*alarms(), *widget_metrics()] for _, value in dimensions}
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Serverless::Function":
            assert {("Errors of functions", name), ("Throttles of functions", name)} <= used
        if resource["Type"] in {"AWS::DynamoDB::Table", "AWS::SQS::Queue"}:
            assert name in {value for _, value in used}


def test_dashboard_layout() -> None:
    levels = {dict(metric[2]).get("risk_level") for title, metric in widget_metrics() if title == "Decisions"}
    assert levels == set(RISK_LEVELS)
    share = next(widget for widget in widgets() if widget["title"].startswith("Share"))
    ids = {row[-1]["id"] for row in share["metrics"][1:]}
    (expression,) = (row[0]["expression"] for row in share["metrics"][:1])
    assert set(re.findall(r"FILL\((\w+), 0\)", expression)) == ids == {level.lower() for level in RISK_LEVELS}
    text = template.stack().properties("Dashboard")["DashboardBody"]
    cells = re.findall(r'"x": (\d+), "y": (\d+), "width": 8, "height": 6', text)
    assert len(cells) == len(set(cells)) == len(widgets())


# Metric, statistic, period in seconds, number of periods, comparison and threshold of each alarm.
ALARMS = {
    "ScoreErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "ScoreThrottlesAlarm": ("Throttles", "Sum", 300, 1, ">", 0),
    "BatchErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "ReconcileErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "ServerErrorsAlarm": ("5xx", "Sum", 300, 1, ">=", 5),
    "ThrottledRequestsAlarm": ("ThrottledRequests", "Sum", 300, 1, ">=", 5),
    # A table may throttle for some minutes while it scales, and the ledger retries, so one period is not enough.
    "DecisionsWriteThrottlesAlarm": ("WriteThrottleEvents", "Sum", 300, 3, ">=", 10),
    "DecisionsReadThrottlesAlarm": ("ReadThrottleEvents", "Sum", 300, 3, ">=", 10),
    "StatsWriteThrottlesAlarm": ("WriteThrottleEvents", "Sum", 300, 3, ">=", 10),
    "StatsReadThrottlesAlarm": ("ReadThrottleEvents", "Sum", 300, 3, ">=", 10),
    "LatencyAlarm": ("Latency", "p99", 300, 3, ">", 1000),
    "UnrecordedAlarm": ("UnrecordedDecisions", "Sum", 60, 3, ">", 0),
    "OutboxAgeAlarm": ("OutboxAge", "Maximum", 60, 1, ">", 300),
    "OutboxBacklogAlarm": ("ApproximateAgeOfOldestMessage", "Maximum", 60, 1, ">", 300),
    "OutboxDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
    "StreamErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "StreamFailuresAlarm": ("StreamFailures", "Sum", 60, 3, ">", 0),
    "StreamLagAlarm": ("OffsetLag", "Maximum", 300, 3, ">", 10_000),
    "StreamDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
    "AlertErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "AlertsFailedAlarm": ("AlertsFailed", "Sum", 300, 1, ">", 0),
    # Milliseconds
    "AlertAgeAlarm": ("IteratorAge", "Maximum", 60, 1, ">", 300_000),
    "AlertDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
}
# Dimension value of each alarm: a function, API, table, queue or stack.
SUBJECTS = {
    "ScoreErrorsAlarm": "ScoreFunction",
    "ScoreThrottlesAlarm": "ScoreFunction",
    "BatchErrorsAlarm": "BatchFunction",
    "ReconcileErrorsAlarm": "ReconcileFunction",
    "ServerErrorsAlarm": "Api",
    "DecisionsWriteThrottlesAlarm": "DecisionsTable",
    "DecisionsReadThrottlesAlarm": "DecisionsTable",
    "StatsWriteThrottlesAlarm": "StatsTable",
    "StatsReadThrottlesAlarm": "StatsTable",
    "LatencyAlarm": STACK,
    "UnrecordedAlarm": STACK,
    "OutboxAgeAlarm": STACK,
    "OutboxBacklogAlarm": "OutboxQueue",
    "OutboxDeadLetterAlarm": "OutboxDeadLetterQueue",
    "StreamErrorsAlarm": "StreamFunction",
    "StreamFailuresAlarm": STACK,
    "StreamLagAlarm": "StreamFunction",
    "StreamDeadLetterAlarm": "StreamDeadLetterQueue",
    "AlertErrorsAlarm": "AlertFunction",
    "AlertsFailedAlarm": STACK,
    "AlertAgeAlarm": "AlertFunction",
    "AlertDeadLetterAlarm": "AlertDeadLetterQueue",
}


def test_alarms() -> None:
    found = template.stack().properties_of("AWS::CloudWatch::Alarm")
    comparisons = {"GreaterThanThreshold": ">", "GreaterThanOrEqualToThreshold": ">="}
    assert {
        name: (
            properties["MetricName"],
            properties.get("ExtendedStatistic") or properties["Statistic"],
            properties["Period"],
            properties["EvaluationPeriods"],
            comparisons[properties["ComparisonOperator"]],
            properties["Threshold"],
        )
        for name, properties in found.items()
    } == ALARMS
    assert {name: value for name, (_, _, dimensions) in alarms() for _, value in dimensions} == SUBJECTS
    for properties in found.values():
        assert properties["AlarmActions"] == properties["OKActions"] == [template.stack().resources["AlarmTopic"]]
        assert properties["TreatMissingData"] == "notBreaching"
        assert "ActionsEnabled" not in properties
        # "What happened; what it means, or where to look."
        assert ";" in properties["AlarmDescription"]
