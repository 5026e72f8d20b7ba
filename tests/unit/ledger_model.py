"""What the ledger is, without a store: a dict. ``test_ledger`` holds the real one to it."""

from collections import Counter
from typing import Any

from scoring.decision import Decision
from scoring.errors import IdempotencyConflict
from scoring.ledger import Recorded
from scoring.reports import MAX_FOUND, Totals
from scoring.rules import HIGH_RISK_LEVELS, RISK_LEVELS


class LedgerModel:
    """Stands in for ledger and reports where many requests are made and the store is not what is tested."""

    def __init__(self) -> None:
        self.decisions: dict[tuple[str, str], Decision] = {}

    def record(self, decision: Decision, _deadline: float) -> Recorded:
        first = self.decisions.setdefault((decision.key, decision.decision_id), decision)
        if first.request_hash != decision.request_hash:
            raise IdempotencyConflict(
                f"Header 'Idempotency-Key': {decision.decision_id!r} was already used with another body"
            )
        return Recorded(first.answer(), replayed=first.answer() != decision.answer())

    def totals(self, _deadline: float) -> Totals:
        assessments = [decision.assessment for decision in self.decisions.values()]
        levels = Counter(assessment.risk_level for assessment in assessments)
        return Totals(
            total=len(assessments),
            high=sum(levels[level] for level in HIGH_RISK_LEVELS),
            by_risk_level={level: levels[level] for level in RISK_LEVELS},
            by_rule=dict(Counter(label for assessment in assessments for label in assessment.triggered_rules)),
        )

    def find(self, tx_id: str, _deadline: float) -> list[dict[str, Any]]:
        decisions = self.decisions.values()
        found = [one for one in decisions if one.transaction.tx_id == tx_id] or [
            one for one in decisions if one.transaction.tx_id is None and one.decision_id == tx_id
        ]
        found.sort(key=lambda one: (one.evaluated_at, one.decision_id), reverse=True)
        return [one.answer() | {"transaction": one.transaction.as_dict()} for one in found[:MAX_FOUND]]
