"""Logs and metrics: one JSON object a line, with what was decided and nothing of the transaction.

A decision is one line, which is its log and its metrics at once: a record of CloudWatch's embedded metric format, from
which CloudWatch Logs makes metrics by itself. A rule that hit and a rejected request are such a line too.

The lines are written here and not by powertools, whose Logger and Metrics would be a good part of the start and of the
work of a decision. A test compares them with what it would write.

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
import json
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from scoring.errors import AnswerableError
from scoring.settings import SERVICE

NAMESPACE = "RiskScoring"

R = TypeVar("R")

_BY_LEVEL = [["service"], ["service", "risk_level"]]


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
    hits, recorded = answer["triggered_rules"], answer.get("recorded", True)
    metrics: dict[str, tuple[float, str]] = {"Latency": (round(seconds * 1000, 3), "Milliseconds")}
    if not replayed:
        metrics["Decisions"] = 1, "Count"
    if not recorded:
        metrics["UnrecordedDecisions"] = 1, "Count"
    _count(
        metrics,
        _BY_LEVEL,
        message="decision",
        risk_level=answer["risk_level"],
        score=answer["score"],
        triggered_rules=hits,
        decision_id=answer["decision_id"],
        version=answer["version"],
        request_id=request_id,
        replayed=replayed,
        recorded=recorded,
    )
    if not replayed:
        for label in hits:
            _count({"RuleHits": (1, "Count")}, [["service", "rule"]], rule=_ascii(label))


def counting_rejections(handler: Callable[[dict[str, Any], Any], R]) -> Callable[[dict[str, Any], Any], R]:
    """Make a handler count the errors that it answers with; they pass on to :func:`scoring.web.endpoint`."""

    @functools.wraps(handler)
    def counting(event: dict[str, Any], context: Any) -> R:
        try:
            return handler(event, context)
        except AnswerableError as error:
            _count({"RejectedRequests": (1, "Count")}, [["service", "reason"]], reason=type(error).__name__)
            raise

    return counting


def outbox_waits(seconds: float) -> None:
    """Tell how long ago the oldest message of the outbox was sent that could not be recorded just now."""
    _count({"OutboxAge": (round(seconds, 3), "Seconds")}, [["service"]])


def error(message: str, **fields: Any) -> None:
    """Log that something went wrong."""
    now = time.strftime("%Y-%m-%d %H:%M:%S+0000", time.gmtime())
    _write({"level": "ERROR", "message": message, "timestamp": now, "service": SERVICE, **fields})


def _count(metrics: dict[str, tuple[float, str]], dimensions: list[list[str]], **fields: Any) -> None:
    """Write a line from which CloudWatch makes these metrics, each by its name with value and unit.

    As *Specification: Embedded metric format* of the CloudWatch User Guide has it.
    """
    units = [{"Name": name, "Unit": unit} for name, (_, unit) in metrics.items()]
    directive = {"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": units}
    _write(
        {
            **fields,
            "service": SERVICE,
            **{name: value for name, (value, _) in metrics.items()},
            "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]},
        }
    )


def _write(line: dict[str, Any]) -> None:
    # In one piece, which print() does not: Lambda's standard output has no buffer.
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


def _ascii(label: str) -> str:
    """What CloudWatch takes as the value of a dimension: ASCII, at most 1,024 characters."""
    return label if label.isascii() else label.encode("ascii", "backslashreplace").decode()[:1024]
