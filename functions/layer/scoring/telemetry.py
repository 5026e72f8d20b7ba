"""Structured logs: one JSON object a line, with what was decided and nothing of the transaction."""

from typing import Any

from aws_lambda_powertools.logging import Logger

_DECISION_FIELDS = ("decision_id", "risk_level", "score", "triggered_rules", "version")

logger = Logger(service="risk-scoring")


def log_decision(answer: dict[str, Any], *, replayed: bool) -> None:
    """Log one answer to ``POST /score``: decision id, level, score, hits and version, nothing of the transaction."""
    fields = {name: answer[name] for name in _DECISION_FIELDS}
    logger.info("decision", extra=fields | {"replayed": replayed, "recorded": answer.get("recorded", True)})
