"""Decisions of the service as the commands in this folder print and count them."""

import json
import sys
from collections import Counter
from typing import Any, TypeGuard

from events.command import plain, shown

RISK_LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
HEADINGS = f"{'tx_id':<12} {'amount':>12}  {'level':<8} {'score':>3}  rules"
SHOWN_WARNINGS = 5


def is_decision(body: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a body or an item of a response is a decision."""
    return isinstance(body, dict) and body.get("risk_level") in RISK_LEVELS


def line(decision: dict[str, Any], transaction: str | bytes) -> str:
    """Return a decision and the amount of its transaction, in columns under :data:`HEADINGS`."""
    try:
        amount = f"{json.loads(transaction)['amount']:.2f}"
    except (ValueError, LookupError, TypeError, ArithmeticError):
        amount = "?"  # too large for a double, for example
    tx_id, score, rules = (decision.get(name, "?") for name in ("tx_id", "score", "triggered_rules"))
    labels = ", ".join(map(str, rules)) if isinstance(rules, list) else "?"
    return plain(f"{tx_id!s:<12} {amount:>12}  {decision['risk_level']:<8} {score!s:>3}  {labels}").rstrip()


class Tally:
    """Counts transactions by outcome: risk level or ``failed``; and how many were replayed or have warnings.

    Parameters
    ----------
    replays
        What the summary says about replayed transactions.
    """

    def __init__(self, replays: str) -> None:
        self._replays = replays
        self.outcome: Counter[str] = Counter()
        self.replayed = 0
        self.unrecorded = 0
        self.warned = 0
        self._shown_warnings: set[str] = set()

    def warn(self, source: str, decision: dict[str, Any]) -> None:
        """Count the transaction if its decision has warnings; print those that were not printed before."""
        warnings = decision.get("warnings")
        if not isinstance(warnings, list):
            return
        self.warned += 1
        for text in (shown(str(warning)) for warning in warnings):
            if text not in self._shown_warnings and len(self._shown_warnings) < SHOWN_WARNINGS:
                self._shown_warnings.add(text)
                print(f"{source}: {text}", file=sys.stderr)

    def print(self) -> None:
        total = self.outcome.total()
        print()
        for level in RISK_LEVELS:
            print(f"{level:<8} {self.outcome[level]:>8}  {self.outcome[level] / total:>6.1%}")
        print(f"{'failed':<8} {self.outcome['failed']:>8}")
        if self.replayed:
            print(f"{'replayed':<8} {self.replayed:>8}  {self._replays}")
        if self.unrecorded:
            print(f"{'queued':<8} {self.unrecorded:>8}  recorded and counted later, from the outbox")
        if self.warned:
            print(f"{'warned':<8} {self.warned:>8}  scored with warnings; the first are printed above")
