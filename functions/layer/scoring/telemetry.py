"""Structured logs: one JSON object a line, with what was decided and never what was sent."""

from aws_lambda_powertools.logging import Logger

from scoring.decision import Decision

logger = Logger(service="risk-scoring")


def log_decision(decision: Decision, *, replayed: bool) -> None:
    """Log one decision: its id, level, score, hits and version, and no field of the transaction."""
    logger.info(
        "decision",
        extra={
            "decision_id": decision.decision_id,
            "risk_level": decision.assessment.risk_level,
            "score": decision.assessment.score,
            "triggered_rules": decision.assessment.triggered_rules,
            "version": decision.version,
            "replayed": replayed,
        },
    )
