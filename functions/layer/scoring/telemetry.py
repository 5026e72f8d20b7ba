"""Write logs and metrics: one JSON object per line, without fields of the transaction.

Each decision, rule hit and rejected request is one line in the embedded metric format, from which CloudWatch Logs
extracts the metrics. For a batch or a delivery of Kafka records, a line counts all its decisions of one level, or hits
of one rule. Powertools is not used here: it would slow down every start and every decision. A test compares the lines
with its output.

Metrics in the namespace ``RiskScoring``. The dimension ``service`` is the name of the stack:

======================= ============ ====================================== ==========================================
metric                  unit         dimensions                             meaning
======================= ============ ====================================== ==========================================
``Decisions``           count        ``service``, also with ``risk_level``  decisions, without replays
``Latency``             milliseconds as above                               from event to response, with replays
``UnrecordedDecisions`` count        as above                               decisions sent to the outbox
``DegradedDecisions``   count        as above                               decisions without history or lists
``UnknownFields``       count        as above                               decisions that ignored unknown fields
``Frauds``              count        as above                               decisions that a model takes for frauds
``UnseenValues``        count        as above                               decisions with values unknown to the model
``RuleHits``            count        ``service`` and ``rule``               hits of a rule, by label
``RejectedRequests``    count        ``service`` and ``reason``             rejected requests, by error class
``BatchItems``          count        ``service``                            items of batches
``BatchLatency``        milliseconds ``service``                            from event to response
``RejectedItems``       count        ``service`` and ``reason``             rejected items of batches, by error class
``StreamRecords``       count        ``service``                            Kafka records, repeats included
``StreamFailures``      count        ``service``                            Kafka records not recorded; delivered again
``DeadLetters``         count        ``service``, also with ``reason``      Kafka records that can never be scored
``OutboxAge``           seconds      ``service``                            age of the oldest message not yet recorded
``AlertsPublished``     count        ``service``                            alerts accepted by SNS, with repeats
``AlertsFailed``        count        ``service``                            alerts not published, once per attempt
``ShadowDecisions``     count        ``service``                            decisions that a model judged, with repeats
``ShadowAgreements``    count        ``service``                            those whose level it would not change
``ShadowShifts``        count        ``service``, ``from`` and ``to``       those that it would change, by both levels
``ShadowFrauds``        count        ``service``, also with ``risk_level``  those that it takes for frauds
``ShadowFailures``      count        ``service``                            those it could not judge, once per attempt
======================= ============ ====================================== ==========================================
"""

import functools
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from scoring import settings, strict_json
from scoring.errors import HttpError, StoreUnavailable

NAMESPACE = "RiskScoring"

R = TypeVar("R")

# Combinations of dimensions that a metric has.
Dimensions = tuple[tuple[str, ...], ...]

_BY_SERVICE: Dimensions = (("service",),)
_BY_LEVEL: Dimensions = (("service",), ("service", "risk_level"))
_BY_REASON: Dimensions = (("service", "reason"),)
_BY_RULE: Dimensions = (("service", "rule"),)
_BY_SHIFT: Dimensions = (("service", "from", "to"),)
# Error text in the containers of `sam local`, which reach no store without the emulator.
_START_EMULATOR = "The store is unavailable; start the emulator with 'make emulator' and send the request again"


def emit_decision(response: Mapping[str, Any], *, replayed: bool, request_id: str, seconds: float) -> None:
    """Log and count one response to ``POST /score``.

    Parameters
    ----------
    response
        Body of the response.
    replayed
        Whether the decision was made by an earlier request.
    request_id
        Id of the request in API Gateway, as in the access log.
    seconds
        Time from event to response.
    """
    hits, recorded = response["triggered_rules"], response.get("recorded", True)
    metrics: dict[str, tuple[float, str]] = {"Latency": (round(seconds * 1000, 3), "Milliseconds")}
    if not replayed:
        metrics["Decisions"] = 1, "Count"
        if "warnings" in response:
            metrics["UnknownFields"] = 1, "Count"
        if "degraded" in response:
            metrics["DegradedDecisions"] = 1, "Count"
        if "fraud" in response:
            metrics.update(_model_metrics([response]))
    if not recorded:
        metrics["UnrecordedDecisions"] = 1, "Count"
    emit = _emit
    if "fraud" in response:
        # Decisions by rules should not pay for one more field.
        emit = functools.partial(_emit, fraud_probability=response["fraud_probability"])
    emit(
        metrics,
        _BY_LEVEL,
        message="decision",
        risk_level=response["risk_level"],
        score=response["score"],
        triggered_rules=hits,
        decision_id=response["decision_id"],
        version=response["version"],
        request_id=request_id,
        replayed=replayed,
        recorded=recorded,
    )
    if not replayed:
        for label in hits:
            _emit({"RuleHits": (1, "Count")}, _BY_RULE, rule=_dimension_value(label))


def count_rejections(handler: Callable[[dict[str, Any], Any], R]) -> Callable[[dict[str, Any], Any], R]:
    """Make a handler count each :class:`~scoring.errors.HttpError` that it raises."""

    @functools.wraps(handler)
    def counting(event: dict[str, Any], context: Any) -> R:
        try:
            return handler(event, context)
        except HttpError as error:
            _emit({"RejectedRequests": (1, "Count")}, _BY_REASON, reason=type(error).__name__)
            raise

    return counting


def emit_outbox_age(seconds: float) -> None:
    """Report the age of the oldest message that could not be recorded."""
    _emit({"OutboxAge": (round(seconds, 3), "Seconds")}, _BY_SERVICE)


def emit_batch(
    recorded: Sequence[tuple[Mapping[str, Any], bool]],
    rejected: Sequence[HttpError],
    *,
    request_id: str,
    seconds: float,
) -> None:
    """Log and count one response to ``POST /score/batch``.

    Parameters
    ----------
    recorded
        The response of each decision, and whether it is a replay.
    rejected
        The errors of the other items.
    request_id, seconds
        As for :func:`emit_decision`.
    """
    _emit(
        {
            "BatchItems": (len(recorded) + len(rejected), "Count"),
            "BatchLatency": (round(seconds * 1000, 3), "Milliseconds"),
        },
        _BY_SERVICE,
        message="batch",
        request_id=request_id,
        replayed=sum(replayed for _, replayed in recorded),
        rejected=len(rejected),
    )
    for reason, number in _counts(type(error).__name__ for error in rejected).items():
        _emit({"RejectedItems": (number, "Count")}, _BY_REASON, reason=reason)
    _emit_decisions(recorded)


def emit_stream(
    recorded: Sequence[tuple[Mapping[str, Any], bool]],
    dead_letters: Sequence[HttpError],
    *,
    records: int,
    failures: int,
) -> None:
    """Count the records of one invocation.

    Parameters
    ----------
    recorded
        The response of each decision, and whether it is a replay.
    dead_letters
        The errors of the records that were sent to the dead-letter queue.
    records, failures
        Number of all records, and of those that are neither recorded nor in the dead-letter queue.
    """
    metrics: dict[str, tuple[float, str]] = {"StreamRecords": (records, "Count")}
    if failures:
        metrics["StreamFailures"] = failures, "Count"
    _emit(metrics, _BY_SERVICE, message="stream", replayed=sum(replayed for _, replayed in recorded))
    for reason, number in _counts(type(error).__name__ for error in dead_letters).items():
        _emit({"DeadLetters": (number, "Count")}, (*_BY_SERVICE, *_BY_REASON), reason=reason)
    _emit_decisions(recorded)


def emit_alerts(*, published: int, failed: int) -> None:
    """Count the alerts of one invocation: those that SNS accepted, and those that were not published."""
    metrics: dict[str, tuple[float, str]] = {"AlertsPublished": (published, "Count")}
    if failed:
        metrics["AlertsFailed"] = failed, "Count"
    _emit(metrics, _BY_SERVICE)


def emit_shadow(opinions: Sequence[tuple[str, str, bool]], *, failures: int) -> None:
    """Count the decisions of one invocation that a model has given its opinion about.

    Parameters
    ----------
    opinions
        Risk level of each decision, the one that the model would have given, and whether it takes it for a fraud.
    failures
        Number of decisions without an opinion.
    """
    agreements = sum(before == after for before, after, _ in opinions)
    metrics: dict[str, tuple[float, str]] = {
        "ShadowDecisions": (len(opinions), "Count"),
        "ShadowAgreements": (agreements, "Count"),
    }
    if failures:
        metrics["ShadowFailures"] = failures, "Count"
    _emit(metrics, _BY_SERVICE)
    for (before, after), number in _counts((before, after) for before, after, _ in opinions if before != after).items():
        _emit({"ShadowShifts": (number, "Count")}, _BY_SHIFT, **{"from": before, "to": after})
    for level, number in _counts(before for before, _, fraud in opinions if fraud).items():
        _emit({"ShadowFrauds": (number, "Count")}, _BY_LEVEL, risk_level=level)


def log_unavailable(what: str, reason: str, decision_id: str | None = None) -> StoreUnavailable:
    """Log that ``what``, the store or the outbox, is unavailable, and return the error to raise."""
    line = {
        "level": "ERROR",
        "message": f"{what} unavailable",
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%S+0000", time.gmtime()),
        "service": settings.SERVICE,
        "reason": reason,
        "decision_id": decision_id,
    }
    _write(strict_json.encode(line))
    return StoreUnavailable(_START_EMULATOR) if settings.SAM_LOCAL else StoreUnavailable()


def _emit(metrics: Mapping[str, tuple[float, str]], dimensions: Dimensions, **fields: Any) -> None:
    """Write a line from which CloudWatch extracts metrics, given as ``{name: (value, unit)}``."""
    units = tuple([(name, unit) for name, (_, unit) in metrics.items()])
    values = {name: value for name, (value, _) in metrics.items()}
    line = strict_json.encode({**fields, "service": settings.SERVICE, **values})
    metadata = f'{{"Timestamp":{int(time.time() * 1000)},"CloudWatchMetrics":[{_directive(units, dimensions)}]}}'
    _write(f'{line[:-1]},"_aws":{metadata}}}')


@functools.cache
def _directive(units: tuple[tuple[str, str], ...], dimensions: Dimensions) -> str:
    """Return the JSON that tells CloudWatch which metrics a line has; cached, since it takes a third of the time.

    Source: *Specification: Embedded metric format* in the CloudWatch User Guide.
    """
    metrics = [{"Name": name, "Unit": unit} for name, unit in units]
    return strict_json.encode({"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": metrics})


def _emit_decisions(recorded: Iterable[tuple[Mapping[str, Any], bool]]) -> None:
    """Count many decisions as :func:`emit_decision` counts one, in a line per risk level and rule."""
    new = [response for response, replayed in recorded if not replayed]
    for level in dict.fromkeys(response["risk_level"] for response in new):
        of_level = [response for response in new if response["risk_level"] == level]
        numbers = {
            "Decisions": len(of_level),
            "UnknownFields": sum("warnings" in response for response in of_level),
            "DegradedDecisions": sum("degraded" in response for response in of_level),
            "UnrecordedDecisions": sum(not response.get("recorded", True) for response in of_level),
        }
        metrics: dict[str, tuple[float, str]] = {name: (number, "Count") for name, number in numbers.items() if number}
        metrics.update(_model_metrics(of_level))
        _emit(metrics, _BY_LEVEL, risk_level=level)
    for label, number in _counts(label for response in new for label in response["triggered_rules"]).items():
        _emit({"RuleHits": (number, "Count")}, _BY_RULE, rule=_dimension_value(label))


def _model_metrics(responses: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, str]]:
    """Return the metrics that models add to those of decisions."""
    numbers = {
        "Frauds": sum(response.get("fraud", False) for response in responses),
        "UnseenValues": sum("unseen" in response for response in responses),
    }
    return {name: (number, "Count") for name, number in numbers.items() if number}


def _counts(values: Iterable[R]) -> dict[R, int]:
    counts: dict[R, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _write(line: str) -> None:
    # print() would write twice: Lambda's standard output is unbuffered.
    sys.stdout.write(line + "\n")


def _dimension_value(label: str) -> str:
    """Return a label as CloudWatch accepts it in a dimension: ASCII, at most 1,024 characters."""
    return label if label.isascii() else label.encode("ascii", "backslashreplace").decode()[:1024]
