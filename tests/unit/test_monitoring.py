"""Alarms and dashboard, compared with the metrics that the service and AWS emit."""

import functools
import itertools
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
from tests.local.cloudformation import Stack
from tests.unit.conftest import Functions, MetricLines
from tests.unit.log_lines import Metric, metrics
from tests.unit.test_stream import kafka_event, kafka_record

STACK = cloudformation.LOCAL_NAME
PARAMETERS = {
    "KafkaBootstrapServers": "b1.example.com:9092",
    "KafkaTopic": "transactions",
    "KafkaGroup": "risk-scoring",
    "KafkaMinPollers": "1",
    "KafkaMaxPollers": "2",
    "Scorer": "shadow",
}

# Metrics of AWS services, by namespace and dimension: type of the resource and names. Source: the pages "Types of
# metrics for Lambda functions", "HTTP API metrics", "Available CloudWatch metrics for Amazon SQS" and "DynamoDB metrics
# and dimensions" of the AWS documentation.
AWS_METRICS = {
    ("AWS/Lambda", "FunctionName"): (
        "AWS::Serverless::Function",
        {"Errors", "Throttles", "IteratorAge", "OffsetLag"},
    ),
    # In the metric group ErrorCount
    ("AWS/Lambda", "EventSourceMappingUUID"): ("AWS::Lambda::EventSourceMapping", {"PollingErrorCount"}),
    ("AWS/ApiGateway", "ApiId"): ("AWS::Serverless::HttpApi", {"Count", "Latency", "4xx", "5xx"}),
    ("AWS/SQS", "QueueName"): (
        "AWS::SQS::Queue",
        {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
    ),
    ("AWS/DynamoDB", "TableName"): (
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
    for name in ("score-low", "score-high", "score-critical"):
        invoke("ScoreFunction", events.load(name))
    invoke("ScoreFunction", events.post('{"amount": 5, "customer_id": "C1"}'))
    invoke("ReconcileFunction", events.load("reconcile"))
    broken = events.load("alert")
    broken["Records"][0]["dynamodb"]["NewImage"].pop("answer")
    invoke("AlertFunction", broken)
    telemetry.emit_shadow([(*levels, True) for levels in itertools.combinations(RISK_LEVELS, 2)], failures=1)
    telemetry.emit_shadow([("CRITICAL", "CRITICAL", True)], failures=0)
    return {key for line in new_metric_lines() for key, _, _ in metrics(line)}


@functools.cache
def stack() -> Stack:
    """Return a stack with all alarms."""
    return Stack.local(template.load(), PARAMETERS)


def filter_metrics() -> set[Metric]:
    """Return the metrics of all metric filters."""
    return {
        (one["MetricNamespace"], one["MetricName"], frozenset())
        for properties in stack().properties_of("AWS::Logs::MetricFilter").values()
        for one in properties["MetricTransformations"]
    }


def alarms() -> Iterator[tuple[str, Metric]]:
    """Yield each alarm's name and metric, or each of its metrics."""
    for name, properties in stack().properties_of("AWS::CloudWatch::Alarm").items():
        queries = [one["MetricStat"]["Metric"] for one in properties.get("Metrics", []) if "MetricStat" in one]
        for metric in queries or [properties]:
            dimensions = frozenset((one["Name"], one["Value"]) for one in metric.get("Dimensions", []))
            yield name, (metric["Namespace"], metric["MetricName"], dimensions)


def mapping_alarm(alert_level: str) -> dict[str, Any]:
    """Return the properties of the alarm on the event source mapping of alerts."""
    return Stack.local(template.load(), {"AlertLevel": alert_level}).properties("AlertMappingAlarm")


def widgets() -> list[dict[str, Any]]:
    """Return the properties of each widget of the dashboard."""
    body = json.loads(stack().properties("Dashboard")["DashboardBody"])
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
        elif not namespace.startswith("AWS/"):
            assert (namespace, name, dimensions) in filter_metrics(), where
        else:
            ((dimension, resource),) = dimensions
            kind, names = AWS_METRICS[namespace, dimension]
            assert name in names, where
            assert resources[resource]["Type"] == kind, where
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
    text = stack().properties("Dashboard")["DashboardBody"]
    cells = re.findall(r'"x": (\d+), "y": (\d+), "width": 8, "height": 6', text)
    assert len(cells) == len(set(cells)) == len(widgets())


# Metric, statistic, period in seconds, number of periods, comparison and threshold of each alarm on a single metric.
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
    "DegradedAlarm": ("DegradedDecisions", "Sum", 60, 3, ">", 0),
    "UnrecordedAlarm": ("UnrecordedDecisions", "Sum", 60, 3, ">", 0),
    "OutboxAgeAlarm": ("OutboxAge", "Maximum", 60, 1, ">", 300),
    "OutboxBacklogAlarm": ("ApproximateAgeOfOldestMessage", "Maximum", 60, 1, ">", 300),
    "OutboxDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
    "ShadowErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "ShadowFailuresAlarm": ("ShadowFailures", "Sum", 300, 1, ">", 0),
    # Milliseconds: half of the age at which Lambda skips a record
    "ShadowAgeAlarm": ("IteratorAge", "Maximum", 60, 1, ">", 1_800_000),
    "StreamErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "StreamFailuresAlarm": ("StreamFailures", "Sum", 300, 1, ">", 0),
    "StreamLagAlarm": ("OffsetLag", "Maximum", 300, 3, ">", 10_000),
    "StreamPollingAlarm": ("PollingErrorCount", "Sum", 300, 3, ">", 0),
    "StreamDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
    "AlertErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "AlertsFailedAlarm": ("AlertsFailed", "Sum", 300, 1, ">", 0),
    # Milliseconds
    "AlertAgeAlarm": ("IteratorAge", "Maximum", 60, 1, ">", 300_000),
    "AlertDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
}
# Dimension value of each of them: a function, API, table, queue, mapping or stack.
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
    "DegradedAlarm": STACK,
    "UnrecordedAlarm": STACK,
    "OutboxAgeAlarm": STACK,
    "OutboxBacklogAlarm": "OutboxQueue",
    "OutboxDeadLetterAlarm": "OutboxDeadLetterQueue",
    "ShadowErrorsAlarm": "ShadowFunction",
    "ShadowFailuresAlarm": STACK,
    "ShadowAgeAlarm": "ShadowFunction",
    "StreamErrorsAlarm": "StreamFunction",
    "StreamFailuresAlarm": STACK,
    "StreamLagAlarm": "StreamFunction",
    "StreamPollingAlarm": "KafkaMapping",
    "StreamDeadLetterAlarm": "StreamDeadLetterQueue",
    "AlertErrorsAlarm": "AlertFunction",
    "AlertsFailedAlarm": STACK,
    "AlertAgeAlarm": "AlertFunction",
    "AlertDeadLetterAlarm": "AlertDeadLetterQueue",
}


def test_alarms() -> None:
    found = stack().properties_of("AWS::CloudWatch::Alarm")
    single = {name: properties for name, properties in found.items() if "Metrics" not in properties}
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
        for name, properties in single.items()
    } == ALARMS
    assert found.keys() - single.keys() == {"AlertMappingAlarm"}
    subjects = {name: value for name, (_, _, dimensions) in alarms() if name in single for _, value in dimensions}
    assert subjects == SUBJECTS
    for properties in found.values():
        assert properties["AlarmActions"] == properties["OKActions"] == [stack().resources["AlarmTopic"]]
        assert properties["TreatMissingData"] == "notBreaching"
        assert "ActionsEnabled" not in properties
        # "What happened; what it means, or where to look."
        assert ";" in properties["AlarmDescription"]


@pytest.mark.parametrize(("alert_level", "levels"), [("HIGH", ["HIGH", "CRITICAL"]), ("CRITICAL", ["CRITICAL"])])
def test_alarm_on_the_mapping_of_alerts_reads_the_levels_of_alerts(alert_level: str, levels: list[str]) -> None:
    queries = mapping_alarm(alert_level)["Metrics"]
    service = {"Name": "service", "Value": STACK}
    expected = {"published": ("AlertsPublished", [service]), "failed": ("AlertsFailed", [service])}
    for level in levels:
        dimensions = [service, {"Name": "risk_level", "Value": level}]
        expected[level.lower()] = "Decisions", dimensions
        expected[f"{level.lower()}_unrecorded"] = "UnrecordedDecisions", dimensions
    found = {one["Id"]: one["MetricStat"] for one in queries if "MetricStat" in one}
    assert {name: (one["Metric"]["MetricName"], one["Metric"]["Dimensions"]) for name, one in found.items()} == expected
    assert {(one["Period"], one["Stat"]) for one in found.values()} == {(900, "Sum")}
    (expression,) = (one for one in queries if "Expression" in one)
    # Without FILL, a metric without data could leave the expression without a value.
    assert set(re.findall(r"FILL\((\w+), 0\)", expression["Expression"])) == found.keys()
    assert [one["Id"] for one in queries if one["ReturnData"]] == [expression["Id"]]


# Sums of two periods, and whether the alarm fires.
@pytest.mark.parametrize(
    ("first", "second", "fires"),
    [
        ({}, {}, False),
        ({"critical": 1}, {"high": 2}, True),
        ({"critical": 1, "published": 1}, {"high": 2}, False),
        ({"critical": 1, "failed": 1}, {"high": 2}, False),
        # Made at the end of a period, alerted in the next
        ({"critical": 1}, {"published": 1}, False),
        ({"critical": 1}, {"critical": 1, "published": 1}, False),
        # In the outbox, to be alerted later
        ({"critical": 1, "critical_unrecorded": 1}, {"high": 2, "high_unrecorded": 2}, False),
        ({"critical": 1}, {"high": 2, "high_unrecorded": 1}, True),
    ],
)
def test_alarm_on_the_mapping_of_alerts(first: dict[str, float], second: dict[str, float], *, fires: bool) -> None:
    alarm = mapping_alarm("HIGH")
    (expression,) = (one["Expression"] for one in alarm["Metrics"] if "Expression" in one)
    ids = [one["Id"] for one in alarm["Metrics"]]
    functions = {
        "FILL": lambda value, default: default if value is None else value,
        "IF": lambda condition, then, otherwise: then if condition else otherwise,
    }
    values = [
        eval(expression, functions | {name: sums.get(name) for name in ids})  # noqa: S307  from the template
        for sums in (first, second)
    ]
    assert (alarm["EvaluationPeriods"], alarm["ComparisonOperator"]) == (2, "GreaterThanThreshold")
    assert all(value > alarm["Threshold"] for value in values) is fires
