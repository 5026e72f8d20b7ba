"""Log lines and metrics of a request, compared with Powertools' output."""

import contextlib
import io
import json
import time
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from scoring import telemetry
from tests import events
from tests.local import cloudformation
from tests.rule_set import RULE_SET
from tests.unit.conftest import Functions, MetricLines
from tests.unit.log_lines import DECISION_METRICS, Metric, metrics

STACK = cloudformation.LOCAL_NAME


def metric(name: str, **dimensions: str) -> Metric:
    return telemetry.NAMESPACE, name, frozenset({"service": STACK, **dimensions}.items())


def counts(lines: list[dict[str, Any]]) -> dict[Metric, float]:
    """Return all metrics except the latency, which varies."""
    return {key: value for line in lines for key, _, value in metrics(line) if key[1] != "Latency"}


def test_line_of_a_decision(invoke: Functions, new_metric_lines: MetricLines) -> None:
    invoke("ScoreFunction", events.post('{"amount": 3141.59}', idempotency_key="k1"))
    line = new_metric_lines()[0]
    assert line["message"] == "decision"
    assert (line["risk_level"], line["score"], line["version"]) == ("HIGH", 3, "1.0-tests")
    assert (line["decision_id"], line["replayed"], line["recorded"]) == ("k1", False, True)
    assert line["request_id"] == "request-1"
    assert line["triggered_rules"] == ["R1: amount > 3000"]


def test_no_field_of_a_transaction_is_logged(invoke: Functions, dynamodb: Any, log: io.StringIO) -> None:
    """Covers scored, replayed, rejected and deferred transactions."""
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


def test_metrics_of_a_decision(invoke: Functions, new_metric_lines: MetricLines) -> None:
    invoke("ScoreFunction", events.load("score-critical"))
    lines = new_metric_lines()
    assert counts(lines) == {
        metric("Decisions"): 1,
        metric("Decisions", risk_level="CRITICAL"): 1,
        metric("RuleHits", rule="R1: amount > 3000"): 1,
        metric("RuleHits", rule="R2: electronics > 1500"): 1,
        metric("RuleHits", rule="R3: night hour"): 1,
    }


def test_latency_covers_the_whole_request(
    invoke: Functions, new_metric_lines: MetricLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = invoke.modules["ScoreFunction"]
    clock, record = [100.0], app.RECORDER.record_one

    def slow_record(*arguments: Any) -> Any:
        clock[0] += 1.5
        return record(*arguments)

    monkeypatch.setattr(app, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(app.RECORDER, "record_one", slow_record)
    invoke("ScoreFunction", events.load("score-critical"))
    latencies = {
        key: (unit, value) for line in new_metric_lines() for key, unit, value in metrics(line) if key[1] == "Latency"
    }
    assert latencies == {
        metric("Latency"): ("Milliseconds", 1500),
        metric("Latency", risk_level="CRITICAL"): ("Milliseconds", 1500),
    }


def test_decision_line_is_like_that_of_powertools(new_metric_lines: MetricLines, log: io.StringIO) -> None:
    response = {"decision_id": "k", "score": 3, "risk_level": "HIGH", "triggered_rules": [], "version": "v"}
    telemetry.emit_decision({**response, "recorded": False}, replayed=False, request_id="r", seconds=1.5)
    theirs = Metrics(namespace=telemetry.NAMESPACE, service=STACK)
    theirs.add_metric("Latency", MetricUnit.Milliseconds, 1500)
    theirs.add_metric("Decisions", MetricUnit.Count, 1)
    theirs.add_metric("UnrecordedDecisions", MetricUnit.Count, 1)
    theirs.add_dimensions(service=STACK, risk_level="HIGH")
    for name, value in {**response, "message": "decision", "request_id": "r"}.items():
        theirs.add_metadata(name, value)
    theirs.add_metadata("replayed", value=False)
    theirs.add_metadata("recorded", value=False)
    with contextlib.redirect_stdout(log):
        theirs.flush_metrics()

    our_line, their_line = new_metric_lines()
    timestamps = [line["_aws"].pop("Timestamp") for line in (our_line, their_line)]
    assert abs(timestamps[0] - timestamps[1]) < 60_000
    # Powertools writes a list of one value; queries in Logs Insights can calculate with the plain value only.
    assert our_line == {name: value[0] if name in DECISION_METRICS else value for name, value in their_line.items()}


def test_error_line_is_like_that_of_powertools(log: io.StringIO) -> None:
    telemetry.log_unavailable("store", reason="TimeoutError", decision_id="k1")
    Logger(service=STACK).error("store unavailable", extra={"reason": "TimeoutError", "decision_id": "k1"})
    ours, theirs = (json.loads(line) for line in log.getvalue().splitlines())
    timestamps = [datetime.strptime(line.pop("timestamp")[:19], "%Y-%m-%d %H:%M:%S") for line in (ours, theirs)]  # noqa: DTZ007
    assert abs((timestamps[0] - timestamps[1]).total_seconds()) < 60
    assert theirs.pop("location")
    assert ours == theirs


def test_error_is_dated_in_utc(log: io.StringIO, not_utc: None) -> None:
    telemetry.log_unavailable("store", "TimeoutError")
    timestamp = datetime.strptime(json.loads(log.getvalue())["timestamp"], "%Y-%m-%d %H:%M:%S%z")
    assert abs(timestamp.timestamp() - time.time()) < 60


def test_error_names_the_emulator_under_sam_local_only(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = "The store is unavailable at the moment; send the request again"
    assert str(telemetry.log_unavailable("store", "ConnectionRefusedError")) == deployed
    monkeypatch.setattr("scoring.settings.SAM_LOCAL", True)
    local = "The store is unavailable; start the emulator with 'make emulator' and send the request again"
    assert str(telemetry.log_unavailable("store", "ConnectionRefusedError")) == local


def test_outbox_age_is_in_seconds(new_metric_lines: MetricLines) -> None:
    telemetry.emit_outbox_age(61.2345)
    assert list(metrics(new_metric_lines()[0])) == [(metric("OutboxAge"), "Seconds", 61.234)]


def test_decision_without_hits_prints_one_line(invoke: Functions, new_metric_lines: MetricLines) -> None:
    invoke("ScoreFunction", events.load("score-low"))
    assert len(new_metric_lines()) == 1


def test_failed_line_leaves_nothing_behind(new_metric_lines: MetricLines) -> None:
    response = {"decision_id": "k", "score": 0, "risk_level": "LOW", "triggered_rules": [], "version": "v"}
    for missing in response:
        with pytest.raises(KeyError):
            telemetry.emit_decision(
                {name: response[name] for name in response if name != missing},
                replayed=False,
                request_id="r",
                seconds=9,
            )
    telemetry.emit_decision(response, replayed=True, request_id="r", seconds=1)
    (line,) = new_metric_lines()
    assert line["Latency"] == 1000
    assert "Decisions" not in line


def test_replay_is_logged_but_not_counted(
    invoke: Functions, monkeypatch: pytest.MonkeyPatch, new_metric_lines: MetricLines
) -> None:
    event = events.post('{"tx_id": "TX1", "amount": 5000}', idempotency_key="k1")
    invoke("ScoreFunction", event)
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "SCORER", RULE_SET._replace(version="2.0-rules"))
    new_metric_lines()
    assert json.loads(invoke("ScoreFunction", event)["body"])["version"] == "1.0-tests"
    (line,) = new_metric_lines()
    assert (line["version"], line["replayed"]) == ("1.0-tests", True)
    assert counts([line]) == {}


def test_unrecorded_decision_is_counted(invoke: Functions, dynamodb: Any, new_metric_lines: MetricLines) -> None:
    dynamodb.delete_table(TableName="DecisionsTable")
    invoke("ScoreFunction", events.post('{"amount": 5}', idempotency_key="k1"))
    (line,) = new_metric_lines()
    assert (line["message"], line["decision_id"], line["recorded"]) == ("decision", "k1", False)
    assert counts([line]) == {
        metric(name, **level): 1
        for name in ("Decisions", "UnrecordedDecisions")
        for level in ({}, {"risk_level": "LOW"})
    }


def test_unknown_fields_are_counted_once(invoke: Functions, new_metric_lines: MetricLines, log: io.StringIO) -> None:
    event = events.post('{"amount": 5, "private": 1, "other": 2}', idempotency_key="k1")
    assert len(json.loads(invoke("ScoreFunction", event)["body"])["warnings"]) == 2
    assert counts(new_metric_lines()) == {
        metric(name, **level): 1 for name in ("Decisions", "UnknownFields") for level in ({}, {"risk_level": "LOW"})
    }
    assert "private" not in log.getvalue()
    assert "Idempotent-Replayed" in invoke("ScoreFunction", event)["headers"]
    assert counts(new_metric_lines()) == {}


RESPONSE = {"score": 0, "triggered_rules": [], "decision_id": "k1", "version": "1+m"}
FRAUD = {**RESPONSE, "risk_level": "HIGH", "fraud": True, "fraud_probability": 0.93, "unseen": ["category"]}
NO_FRAUD = {**RESPONSE, "risk_level": "LOW", "fraud": False, "fraud_probability": 0.01}


def test_decision_of_a_model_is_counted(new_metric_lines: MetricLines) -> None:
    for response in (FRAUD, NO_FRAUD):
        telemetry.emit_decision(response, replayed=False, request_id="r1", seconds=0.01)
    telemetry.emit_decision(FRAUD, replayed=True, request_id="r1", seconds=0.01)
    fraud, no_fraud, replay = new_metric_lines()
    assert [line["fraud_probability"] for line in (fraud, no_fraud, replay)] == [0.93, 0.01, 0.93]
    of_model = {metric(name): 1 for name in ("Frauds", "UnseenValues")}
    of_level = {metric(name, risk_level="HIGH"): 1 for name in ("Frauds", "UnseenValues")}
    decisions = {metric("Decisions"): 1, metric("Decisions", risk_level="HIGH"): 1}
    assert counts([fraud]) == {**of_model, **of_level, **decisions}
    assert counts([no_fraud]) == {metric("Decisions"): 1, metric("Decisions", risk_level="LOW"): 1}
    assert counts([replay]) == {}


def test_decisions_of_a_model_in_a_batch_are_counted(new_metric_lines: MetricLines) -> None:
    recorded = [(FRAUD, False), (FRAUD, False), (FRAUD, True), (NO_FRAUD, False)]
    telemetry.emit_batch(recorded, [], request_id="r1", seconds=0.01)
    _, high, low = new_metric_lines()
    assert (high["Frauds"], high["UnseenValues"], high["Decisions"]) == (2, 2, 2)
    assert "Frauds" not in low


@pytest.mark.parametrize(
    ("body", "reason"),
    [("{}", "InvalidRequest"), ('{"amount": "' + "1" * 70_000 + '"}', "PayloadTooLarge")],
)
def test_rejection_is_counted_by_reason(
    invoke: Functions, new_metric_lines: MetricLines, body: str, reason: str
) -> None:
    assert invoke("ScoreFunction", events.post(body))["statusCode"] >= 400
    assert counts(new_metric_lines()) == {metric("RejectedRequests", reason=reason): 1}


def test_conflict_is_counted_as_a_rejection(invoke: Functions, new_metric_lines: MetricLines) -> None:
    for amount in (1, 2):
        invoke("ScoreFunction", events.post(f'{{"tx_id": "TX1", "amount": {amount}}}', idempotency_key="k1"))
    assert counts(new_metric_lines())[metric("RejectedRequests", reason="IdempotencyConflict")] == 1


def test_bug_is_not_counted_as_a_rejection(
    invoke: Functions, new_metric_lines: MetricLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoke.modules["ScoreFunction"], "decide", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        invoke("ScoreFunction", events.load("score-low"))
    assert new_metric_lines() == []


def test_label_is_escaped_to_ascii(new_metric_lines: MetricLines) -> None:
    labels = ["R1: año", "R2: " + "\U0001f0a1" * 196]
    response = {"decision_id": "k", "score": 3, "risk_level": "HIGH", "triggered_rules": labels, "version": "v"}
    telemetry.emit_decision(response, replayed=False, request_id="r", seconds=0.01)
    hits = [dict(dimensions)["rule"] for _, name, dimensions in counts(new_metric_lines()) if name == "RuleHits"]
    assert sorted(hits) == ["R1: a\\xf1o", ("R2: " + r"\U0001f0a1" * 196)[:1024]]
