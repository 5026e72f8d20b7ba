"""Logs and metrics: one JSON object a line, with what was decided and nothing of the transaction.

A decision is one line, which is its log and its metrics at once: a record of CloudWatch's embedded metric format, from
which CloudWatch Logs makes metrics by itself. A rule that hit and a rejected request are such a line too.

Metrics of the namespace ``RiskScoring``; the dimension ``service`` is the name of the stack:

======================= ============ ===================================== ========================================
metric                  unit         dimensions                            of what
======================= ============ ===================================== ========================================
``Decisions``           count        ``service``, and with ``risk_level``  decisions; replayed ones are none
``Latency``             milliseconds as above                              from the event to the answer, replays too
``UnrecordedDecisions`` count        as above                              decisions that went to the outbox
``RuleHits``            count        ``service`` and ``rule``              rules that hit in a decision, by label
``RejectedRequests``    count        ``service`` and ``reason``            refused ``POST /score``, by class of error
``OutboxAge``           seconds      ``service``                           oldest message that could not be recorded
======================= ============ ===================================== ========================================
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit, single_metric

from scoring.errors import AnswerableError

NAMESPACE = "RiskScoring"

R = TypeVar("R")

_DECISION_FIELDS = ("decision_id", "score", "triggered_rules", "version")

# Its service is what the environment variable POWERTOOLS_SERVICE_NAME says.
logger = Logger()
_SERVICE = logger.service
_metrics = Metrics(namespace=NAMESPACE, service=_SERVICE)


def decided(answer: dict[str, Any], *, replayed: bool, request_id: str, seconds: float) -> None:
    """Log and count one answer to ``POST /score``: id, level, score, hits and version, nothing of the transaction.

    Parameters
    ----------
    answer
        As the caller gets it.
    replayed
        Whether it was decided before, and is only told again.
    request_id
        Of API Gateway, as in the access log.
    seconds
        From the event to the answer.
    """
    fields = {name: answer[name] for name in _DECISION_FIELDS}
    level, hits, recorded = answer["risk_level"], answer["triggered_rules"], answer.get("recorded", True)
    _metrics.add_metric("Latency", MetricUnit.Milliseconds, round(seconds * 1000, 3))
    if not replayed:
        _metrics.add_metric("Decisions", MetricUnit.Count, 1)
    if not recorded:
        _metrics.add_metric("UnrecordedDecisions", MetricUnit.Count, 1)
    _metrics.add_dimensions(service=_SERVICE, risk_level=level)
    fields |= {"message": "decision", "request_id": request_id, "replayed": replayed, "recorded": recorded}
    for name, value in fields.items():
        _metrics.add_metadata(name, value)
    _metrics.flush_metrics()
    if not replayed:
        for label in hits:
            _emit("RuleHits", 1, rule=_ascii(label))


def counting_rejections(handler: Callable[[dict[str, Any], Any], R]) -> Callable[[dict[str, Any], Any], R]:
    """Make a handler count the errors that it answers with; they pass on to :func:`scoring.web.endpoint`."""

    @functools.wraps(handler)
    def counting(event: dict[str, Any], context: Any) -> R:
        try:
            return handler(event, context)
        except AnswerableError as error:
            _emit("RejectedRequests", 1, reason=type(error).__name__)
            raise

    return counting


def outbox_waits(seconds: float) -> None:
    """Tell how long ago the oldest message of the outbox was sent that could not be recorded just now."""
    _emit("OutboxAge", round(seconds, 3), MetricUnit.Seconds)


def _emit(metric: str, value: float, unit: MetricUnit = MetricUnit.Count, **dimensions: str) -> None:
    of_all = {"service": _SERVICE, **dimensions}
    with single_metric(metric, unit, value, namespace=NAMESPACE, default_dimensions=of_all):
        pass


def _ascii(label: str) -> str:
    """What CloudWatch takes as the value of a dimension: ASCII, at most 1,024 characters."""
    return label if label.isascii() else label.encode("ascii", "backslashreplace").decode()[:1024]
