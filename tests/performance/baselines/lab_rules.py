"""Score by the rules of ``tests/rule_set.py`` as code, for every baseline."""

from typing import Any

VERSION = "1.0-rules"


def score_transaction(transaction: dict[str, Any]) -> dict[str, Any]:
    """Return score, risk level and triggered rules."""
    amount, hour = transaction["amount"], transaction.get("hour", 12)
    score, triggered = 0, []
    if amount > 3000:
        score += 3
        triggered.append("R1: amount > 3000")
    if transaction.get("category") == "electronics" and amount > 1500:
        score += 2
        triggered.append("R2: electronics > 1500")
    if hour < 6:
        score += 2
        triggered.append("R3: night hour")
    if score >= 5:
        level = "CRITICAL"
    elif score >= 3:
        level = "HIGH"
    elif score >= 1:
        level = "MEDIUM"
    else:
        level = "LOW"
    return {"score": score, "risk_level": level, "triggered_rules": triggered}
