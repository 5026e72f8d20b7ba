"""Write a decision to the ledger; fall back to the outbox when DynamoDB is unavailable.

A circuit breaker limits the damage when DynamoDB does not respond. A write then takes two seconds, some hundred times
as long as usual, and scoring would need a hundred times the execution environments. So a slow failure opens the
circuit: during a cooldown, decisions go straight to the outbox.
"""

import time

from scoring import telemetry
from scoring.aws.client import CALL_SECONDS
from scoring.decision import Decision
from scoring.errors import StoreUnavailable
from scoring.ledger import outbox, writer
from scoring.ledger.outbox import Outbox
from scoring.ledger.writer import LedgerWriter, Recorded

# A failure slower than this opens the circuit.
SLOW_FAILURE_SECONDS = 1
COOLDOWN_SECONDS = 2


class Recorder:
    """Records decisions; one instance per execution environment."""

    def __init__(self, ledger: LedgerWriter, fallback: Outbox) -> None:
        self._ledger = ledger
        self._fallback = fallback
        self._open_until = 0.0

    def record(self, decision: Decision, deadline: float) -> Recorded:
        """Record a decision once, now or later. No call is started that could end after the deadline.

        Returns
        -------
        Recorded
            The response has ``"recorded": false`` if the decision is in the outbox.

        Raises
        ------
        IdempotencyConflict
            The decision id was already used for another request. Nothing is counted.
        StoreUnavailable
            Neither ledger nor outbox confirmed in time. The same decision can safely be recorded again.
        """
        try:
            return self._write(decision, deadline - CALL_SECONDS)  # leaves time for the outbox
        except StoreUnavailable:
            self._fallback.send(decision, deadline)
            return Recorded({**decision.response, "recorded": False}, replayed=False)

    def _write(self, decision: Decision, deadline: float) -> Recorded:
        start = time.monotonic()
        if start < self._open_until:
            raise telemetry.log_unavailable("store", "CircuitOpen", decision.decision_id)
        try:
            return self._ledger.record(decision, deadline)
        except StoreUnavailable:
            if time.monotonic() - start > SLOW_FAILURE_SECONDS:
                self._open_until = time.monotonic() + COOLDOWN_SECONDS
            raise


def connect() -> Recorder:
    """Connect to the ledger and the outbox; an invalid environment variable raises SettingsError."""
    return Recorder(writer.connect(), outbox.connect())
