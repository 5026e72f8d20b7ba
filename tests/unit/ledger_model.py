"""A model of the ledger in memory. ``test_writer`` compares the real one with it."""

from collections import Counter
from typing import Any

from scoring.assessment import HIGH_RISK_LEVELS, RISK_LEVELS
from scoring.decision import Decision
from scoring.errors import IdempotencyConflict
from scoring.ledger.reader import MAX_FOUND, Totals
from scoring.ledger.tables import partition_key
from scoring.ledger.writer import Recorded


class LedgerModel:
    """Writer and reader in one, for tests that make many requests."""

    def __init__(self) -> None:
        self.decisions: dict[tuple[str, str], Decision] = {}

    def record(self, decision: Decision, _deadline: float) -> Recorded:
        first = self.decisions.setdefault(
            (partition_key(decision.transaction.get("tx_id"), decision.decision_id), decision.decision_id), decision
        )
        if first.request_hash != decision.request_hash:
            raise IdempotencyConflict(
                f"Header 'Idempotency-Key': {decision.decision_id!r} was already used with another body"
            )
        return Recorded(first.response, replayed=first.response != decision.response)

    def totals(self, _deadline: float) -> Totals:
        responses = [decision.response for decision in self.decisions.values()]
        levels = Counter(response["risk_level"] for response in responses)
        return Totals(
            total=len(responses),
            high=sum(levels[level] for level in HIGH_RISK_LEVELS),
            by_risk_level={level: levels[level] for level in RISK_LEVELS},
            by_rule=dict(Counter(label for response in responses for label in response["triggered_rules"])),
        )

    def find(self, tx_id: str, _deadline: float) -> list[dict[str, Any]]:
        decisions = self.decisions.values()
        found = [one for one in decisions if one.transaction.get("tx_id") == tx_id] or [
            one for one in decisions if "tx_id" not in one.transaction and one.decision_id == tx_id
        ]
        found.sort(key=lambda one: (one.response["evaluated_at"], one.decision_id), reverse=True)
        return [{**one.response, "transaction": one.transaction} for one in found[:MAX_FOUND]]
