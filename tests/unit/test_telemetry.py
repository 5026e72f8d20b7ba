"""What is logged and counted of a request, and that alarms and dashboard ask for nothing else."""

import contextlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from scoring import telemetry
from scoring.assessment import RISK_LEVELS
from tests import events
from tests.local import cloudformation, template
from tests.rule_set import RULE_SET
from tests.unit.conftest import Functions
from tests.unit.log_lines import METRICS_OF_A_DECISION

# The lines since the last look: those that become metrics, all in CloudWatch's format
Records = Callable[[], list[dict[str, Any]]]
# Namespace, name, and the dimensions with their values
Metric = tuple[str, str, frozenset[tuple[str, str]]]

STACK = cloudformation.LOCAL_NAME

# What AWS's own services emit, and by what: the pages "Types of metrics for Lambda functions", "HTTP API metrics",
# "Available CloudWatch metrics for Amazon SQS" and "DynamoDB metrics and dimensions" of their documentation.
METRICS_OF_AWS = {
    "AWS/Lambda": ("FunctionName", "AWS::Serverless::Function", {"Errors", "Throttles"}),
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


@pytest.fixture
def records(log: io.StringIO) -> Records:
    def since_the_last_look() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        log.seek(0)
        log.truncate()
        return [line for line in lines if "_aws" in line]

    return since_the_last_look


def metrics(record: dict[str, Any]) -> Iterator[tuple[Metric, str, float]]:
    """What CloudWatch makes of a record: each metric with its unit and value."""
    for directive in record["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = frozenset((name, record[name]) for name in names)
            assert all(value.isascii() and value.strip() for _, value in dimensions)
            for metric in directive["Metrics"]:
                yield (directive["Namespace"], metric["Name"], dimensions), metric["Unit"], record[metric["Name"]]


def metric(name: str, **dimensions: str) -> Metric:
    return telemetry.NAMESPACE, name, frozenset({"service": STACK, **dimensions}.items())


def counted(lines: list[dict[str, Any]]) -> dict[Metric, float]:
    """The metrics of all lines but the latency, which no test can know."""
    return {key: value for line in lines for key, _, value in metrics(line) if key[1] != "Latency"}


def test_the_line_of_a_decision(invoke: Functions, records: Records) -> None:
    invoke("ScoreFunction", events.post('{"amount": 3141.59}', idempotency_key="k1"))
    line = records()[0]
    assert line["message"] == "decision"
    assert (line["risk_level"], line["score"], line["version"]) == ("HIGH", 3, "1.0-tests")
    assert (line["decision_id"], line["replayed"], line["recorded"]) == ("k1", False, True)
    assert line["request_id"] == "request-1"
    assert line["triggered_rules"] == ["R1: amount > 3000"]


def test_nothing_of_a_payload_is_logged(invoke: Functions, dynamodb: Any, log: io.StringIO) -> None:
    """Neither of what was decided, nor of what was refused, nor of what could not be recorded."""
    private = '{"tx_id": "TX-private", "amount": 3141.59, "store": "private store", "card": "4111-1111"}'
    bodies = [private, private, private.replace("4111-", "4112-"), private.replace("3141.", "-3141."), private + "x"]
    statuses = [invoke("ScoreFunction", events.post(body, idempotency_key="k1"))["statusCode"] for body in bodies]
    assert statuses == [200, 200, 422, 400, 400]
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all("_aws" in line for line in lines)
    dynamodb.delete_table(TableName="DecisionsTable")
    assert invoke("ScoreFunction", events.post(private))["statusCode"] == 200
    assert "store unavailable" in log.getvalue()
    assert not [word for word in ("private", "3141.59", "4111-", "4112-") if word in log.getvalue()]


def test_the_metrics_of_a_decision(invoke: Functions, records: Records) -> None:
    invoke("ScoreFunction", events.load("score-critical"))
    lines = records()
    assert counted(lines) == {
        metric("Decisions"): 1,
        metric("Decisions", risk_level="CRITICAL"): 1,
        metric("RuleHits", rule="R1: amount > 3000"): 1,
        metric("RuleHits", rule="R2: electronics > 1500"): 1,
        metric("RuleHits", rule="R3: night hour"): 1,
    }


def test_the_latency_is_that_of_the_whole_request(
    invoke: Functions, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = invoke.modules["ScoreFunction"]
    clock, record = [100.0], app.RECORDER.record

    def slowly(*arguments: Any) -> Any:
        clock[0] += 1.5
        return record(*arguments)

    monkeypatch.setattr(app, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(app.RECORDER, "record", slowly)
    invoke("ScoreFunction", events.load("score-critical"))
    latencies = {key: (unit, value) for line in records() for key, unit, value in metrics(line) if key[1] == "Latency"}
    assert latencies == {
        metric("Latency"): ("Milliseconds", 1500),
        metric("Latency", risk_level="CRITICAL"): ("Milliseconds", 1500),
    }


def test_a_record_says_what_one_of_powertools_would(records: Records, log: io.StringIO) -> None:
    answer = {"decision_id": "k", "score": 3, "risk_level": "HIGH", "triggered_rules": [], "version": "v"}
    telemetry.emit_decision({**answer, "recorded": False}, replayed=False, request_id="r", seconds=1.5)
    theirs = Metrics(namespace=telemetry.NAMESPACE, service=STACK)
    theirs.add_metric("Latency", MetricUnit.Milliseconds, 1500)
    theirs.add_metric("Decisions", MetricUnit.Count, 1)
    theirs.add_metric("UnrecordedDecisions", MetricUnit.Count, 1)
    theirs.add_dimensions(service=STACK, risk_level="HIGH")
    for name, value in {**answer, "message": "decision", "request_id": "r"}.items():
        theirs.add_metadata(name, value)
    theirs.add_metadata("replayed", value=False)
    theirs.add_metadata("recorded", value=False)
    with contextlib.redirect_stdout(log):
        theirs.flush_metrics()

    ours, record = records()
    stamps = [one["_aws"].pop("Timestamp") for one in (ours, record)]
    assert abs(stamps[0] - stamps[1]) < 60_000
    # A list of one value is that value, which queries of the log can reckon with.
    assert ours == {name: value[0] if name in METRICS_OF_A_DECISION else value for name, value in record.items()}


def test_an_error_has_the_fields_of_a_line_of_powertools(log: io.StringIO) -> None:
    telemetry.unavailable("store", reason="TimeoutError", decision_id="k1")
    Logger(service=STACK).error("store unavailable", extra={"reason": "TimeoutError", "decision_id": "k1"})
    ours, theirs = (json.loads(line) for line in log.getvalue().splitlines())
    moments = [datetime.strptime(line.pop("timestamp")[:19], "%Y-%m-%d %H:%M:%S") for line in (ours, theirs)]  # noqa: DTZ007
    assert abs((moments[0] - moments[1]).total_seconds()) < 60
    assert theirs.pop("location")
    assert ours == theirs


def test_an_error_is_dated_in_utc_wherever_the_function_thinks_it_is(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        telemetry.unavailable("store", "TimeoutError")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    said = datetime.strptime(json.loads(log.getvalue())["timestamp"], "%Y-%m-%d %H:%M:%S%z")
    assert abs(said.timestamp() - time.time()) < 60


def test_the_age_of_the_outbox_is_in_seconds(records: Records) -> None:
    telemetry.emit_outbox_age(61.2345)
    assert list(metrics(records()[0])) == [(metric("OutboxAge"), "Seconds", 61.234)]


def test_a_decision_of_no_risk_is_one_line(invoke: Functions, records: Records) -> None:
    invoke("ScoreFunction", events.load("score-low"))
    assert len(records()) == 1


def test_what_failed_to_be_told_is_not_told_with_the_next(records: Records) -> None:
    answer = {"decision_id": "k", "score": 0, "risk_level": "LOW", "triggered_rules": [], "version": "v"}
    for missing in answer:
        with pytest.raises(KeyError):
            telemetry.emit_decision(
                {name: answer[name] for name in answer if name != missing}, replayed=False, request_id="r", seconds=9
            )
    telemetry.emit_decision(answer, replayed=True, request_id="r", seconds=1)
    (line,) = records()
    assert line["Latency"] == 1000
    assert "Decisions" not in line


def test_a_replay_is_logged_as_it_was_decided_and_counts_nothing(
    invoke: Functions, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    event = events.post('{"tx_id": "TX1", "amount": 5000}', idempotency_key="k1")
    invoke("ScoreFunction", event)
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "SCORER", RULE_SET._replace(version="2.0-rules"))
    records()
    assert json.loads(invoke("ScoreFunction", event)["body"])["version"] == "1.0-tests"
    (line,) = records()
    assert (line["version"], line["replayed"]) == ("1.0-tests", True)
    assert counted([line]) == {}


def test_an_unrecorded_decision_is_counted_as_one(invoke: Functions, dynamodb: Any, records: Records) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    invoke("ScoreFunction", events.post('{"amount": 5}', idempotency_key="k1"))
    (line,) = records()
    assert (line["message"], line["decision_id"], line["recorded"]) == ("decision", "k1", False)
    assert counted([line]) == {
        metric(name, **level): 1
        for name in ("Decisions", "UnrecordedDecisions")
        for level in ({}, {"risk_level": "LOW"})
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [("{}", "InvalidRequest"), ('{"amount": "' + "1" * 70_000 + '"}', "PayloadTooLarge")],
)
def test_a_rejected_request_is_counted_by_reason(invoke: Functions, records: Records, body: str, reason: str) -> None:
    assert invoke("ScoreFunction", events.post(body))["statusCode"] >= 400
    assert counted(records()) == {metric("RejectedRequests", reason=reason): 1}


def test_a_conflict_is_counted_too(invoke: Functions, records: Records) -> None:
    for amount in (1, 2):
        invoke("ScoreFunction", events.post(f'{{"tx_id": "TX1", "amount": {amount}}}', idempotency_key="k1"))
    assert counted(records())[metric("RejectedRequests", reason="IdempotencyConflict")] == 1


def test_a_fault_of_the_code_is_no_rejection(
    invoke: Functions, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "decide", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        invoke("ScoreFunction", events.load("score-low"))
    assert records() == []


def test_a_label_that_is_not_ascii_is_counted_all_the_same(records: Records) -> None:
    labels = ["R1: año", "R2: " + "\U0001f0a1" * 196]
    answer = {"decision_id": "k", "score": 3, "risk_level": "HIGH", "triggered_rules": labels, "version": "v"}
    telemetry.emit_decision(answer, replayed=False, request_id="r", seconds=0.01)
    hits = [dict(dimensions)["rule"] for _, name, dimensions in counted(records()) if name == "RuleHits"]
    assert sorted(hits) == ["R1: a\\xf1o", ("R2: " + r"\U0001f0a1" * 196)[:1024]]


def emitted(invoke: Functions, dynamodb: Any, records: Records) -> set[Metric]:
    """Every metric that the code emits, found by making it do so."""
    for name in ("score-low", "score-medium", "score-high", "score-critical", "score-missing-amount"):
        invoke("ScoreFunction", events.load(name))
    dynamodb.delete_table(TableName="DecisionsTable")
    invoke("ScoreFunction", events.post('{"amount": 5}'))
    invoke("ReconcileFunction", events.load("reconcile"))
    return {key for line in records() for key, _, _ in metrics(line)}


def filtered() -> set[Metric]:
    """Return each metric that a filter makes of log lines."""
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


def shown() -> Iterator[tuple[str, Metric]]:
    """Each metric that the dashboard names; of a search, its schema, with ``*`` for what it leaves open."""
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


def test_alarms_and_dashboard_ask_only_for_metrics_that_there_are(
    invoke: Functions, dynamodb: Any, records: Records
) -> None:
    resources = template.load()["Resources"]
    ours = emitted(invoke, dynamodb, records)
    # A search leaves open one of the values.
    ours |= {
        (namespace, name, frozenset({*dimensions - {one}, (one[0], "*")}))
        for namespace, name, dimensions in ours
        for one in dimensions
    }
    asked = [*alarms(), *shown()]
    for where, (namespace, name, dimensions) in asked:
        if namespace == telemetry.NAMESPACE:
            assert (namespace, name, dimensions) in ours, where
        elif namespace not in METRICS_OF_AWS:
            assert (namespace, name, dimensions) in filtered(), where
        else:
            dimension, kind, names = METRICS_OF_AWS[namespace]
            assert name in names, where
            ((named, resource),) = dimensions
            assert (named, resources[resource]["Type"]) == (dimension, kind), where
    assert {name for _, (namespace, name, _) in asked if namespace == telemetry.NAMESPACE} == {
        name for _, name, _ in ours
    }
    assert filtered() <= {one for _, one in asked}


def test_every_function_table_and_queue_is_watched() -> None:
    resources = template.load()["Resources"]
    asked = {(where, value) for where, (_, _, dimensions) in [*alarms(), *shown()] for _, value in dimensions}
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Serverless::Function":
            assert {("Errors of functions", name), ("Throttles of functions", name)} <= asked
        if resource["Type"] in {"AWS::DynamoDB::Table", "AWS::SQS::Queue"}:
            assert name in {value for _, value in asked}


def test_the_dashboard_shows_every_level_and_the_widgets_do_not_overlap() -> None:
    levels = {dict(metric[2]).get("risk_level") for title, metric in shown() if title == "Decisions"}
    assert levels == set(RISK_LEVELS)
    share = next(widget for widget in widgets() if widget["title"].startswith("Share"))
    ids = {row[-1]["id"] for row in share["metrics"][1:]}
    (expression,) = (row[0]["expression"] for row in share["metrics"][:1])
    assert set(re.findall(r"FILL\((\w+), 0\)", expression)) == ids == {level.lower() for level in RISK_LEVELS}
    text = template.stack().properties("Dashboard")["DashboardBody"]
    cells = re.findall(r'"x": (\d+), "y": (\d+), "width": 8, "height": 6', text)
    assert len(cells) == len(set(cells)) == len(widgets())


# Metric, statistic, seconds of a period, periods, comparison and threshold of each alarm
ALARMS = {
    "ScoreErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "ScoreThrottlesAlarm": ("Throttles", "Sum", 300, 1, ">", 0),
    "ReconcileErrorsAlarm": ("Errors", "Sum", 300, 1, ">", 0),
    "ServerErrorsAlarm": ("5xx", "Sum", 300, 1, ">=", 5),
    "ThrottledRequestsAlarm": ("ThrottledRequests", "Sum", 300, 1, ">=", 5),
    # Not sooner: a table may throttle for some minutes while it grows, and the ledger retries.
    "DecisionsWriteThrottlesAlarm": ("WriteThrottleEvents", "Sum", 300, 3, ">=", 10),
    "DecisionsReadThrottlesAlarm": ("ReadThrottleEvents", "Sum", 300, 3, ">=", 10),
    "StatsWriteThrottlesAlarm": ("WriteThrottleEvents", "Sum", 300, 3, ">=", 10),
    "StatsReadThrottlesAlarm": ("ReadThrottleEvents", "Sum", 300, 3, ">=", 10),
    "LatencyAlarm": ("Latency", "p99", 300, 3, ">", 1000),
    "UnrecordedAlarm": ("UnrecordedDecisions", "Sum", 60, 3, ">", 0),
    "OutboxAgeAlarm": ("OutboxAge", "Maximum", 60, 1, ">", 300),
    "OutboxBacklogAlarm": ("ApproximateAgeOfOldestMessage", "Maximum", 60, 1, ">", 300),
    "OutboxDeadLetterAlarm": ("ApproximateNumberOfMessagesVisible", "Maximum", 60, 1, ">", 0),
}
# Dimension value of each alarm: a function, API, table, queue or stack
SUBJECTS = {
    "ScoreErrorsAlarm": "ScoreFunction",
    "ScoreThrottlesAlarm": "ScoreFunction",
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
}


def test_every_alarm_watches_what_it_should_and_is_sent() -> None:
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
        assert properties["AlarmActions"] == properties["OKActions"] == ["AlarmTopic"]
        assert properties["TreatMissingData"] == "notBreaching"
        assert "ActionsEnabled" not in properties
        # What has happened; what it means, or where to look
        assert ";" in properties["AlarmDescription"]
