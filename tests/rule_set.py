"""The tests' own rule set, the lab's rules and a history, so that tests do not depend on ``rules.json``."""

from typing import Any

from scoring import decision
from scoring.decision import Decision
from scoring.scorers import rules_loader

R1, R2, R3 = "R1: amount > 3000", "R2: electronics > 1500", "R3: night hour"

DOCUMENT: dict[str, Any] = {
    "version": "1.0-tests",
    "histories": {"customer": {"by": "customer_id", "distinct": "store"}},
    "defaults": {"hour": 12},
    "rules": [
        {"label": R1, "points": 3, "when": [{"field": "amount", "operator": ">", "value": 3000}]},
        {
            "label": R2,
            "points": 2,
            "when": [
                {"field": "category", "operator": "==", "value": "electronics"},
                {"field": "amount", "operator": ">", "value": 1500},
            ],
        },
        {"label": R3, "points": 2, "when": [{"field": "hour", "operator": "<", "value": 6}]},
    ],
    "levels": {"CRITICAL": 5, "HIGH": 3, "MEDIUM": 1},
}
RULE_SET = rules_loader.from_document(DOCUMENT)


def decide(document: Any, decision_id: str) -> Decision:
    """Decide with the tests' rule set."""
    return decision.decide(document, decision_id, RULE_SET)


def assess(document: Any) -> dict[str, Any]:
    """Return what the service responds to a transaction with the tests' rule set: score, level and rules."""
    assessment = RULE_SET.assess(RULE_SET.fields.read(document))
    return {
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
    }
