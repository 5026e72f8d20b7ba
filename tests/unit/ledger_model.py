"""A model of the ledger in memory. ``test_writer`` compares the real one with it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from scoring.assessment import HIGH_RISK_LEVELS, RISK_LEVELS
from scoring.decision import Decision
from scoring.ledger.reader import MAX_FOUND, Totals
from scoring.ledger.tables import key
from scoring.ledger.writer import Outcome, outcome_of


class LedgerModel:
    """Writer and reader in one, for tests that make many requests."""

    def __init__(self) -> None:
        self.decisions: dict[tuple[str, str], Decision] = {}

    def record(self, decisions: Sequence[Decision], _deadline: float) -> list[Outcome]:
        return [self._record(decision) for decision in decisions]

    def _record(self, decision: Decision) -> Outcome:
        first = self.decisions.setdefault(key(decision), decision)
        return outcome_of(decision, first.response, first.request_hash)

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
