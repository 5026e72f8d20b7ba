"""Write decisions to the ledger; fall back to the outbox when DynamoDB is unavailable."""

import itertools
from collections.abc import Sequence

from scoring.aws.client import CALL_SECONDS
from scoring.decision import Decision
from scoring.errors import HttpError, StoreUnavailable
from scoring.ledger import outbox, writer
from scoring.ledger.outbox import Outbox
from scoring.ledger.tables import key
from scoring.ledger.writer import LedgerWriter, Outcome, Recorded, outcome_of

# Time to send one more decision to the outbox, in chunks of ten.
OUTBOX_SECONDS_PER_DECISION = 0.005


class Recorder:
    """Records decisions; one instance per execution environment."""

    def __init__(self, ledger: LedgerWriter, fallback: Outbox) -> None:
        self._ledger = ledger
        self._fallback = fallback

    def record(self, decisions: Sequence[Decision], deadline: float) -> list[Outcome]:
        """Record decisions once, now or later. No call is started that could end after the deadline.

        Returns
        -------
        list
            The outcome of each decision, in order, as :meth:`LedgerWriter.record` returns it. The response of a
            decision in the outbox has ``"recorded": false`` and, if it was made without its history or by one that
            may have changed, ``"degraded"``. The error is StoreUnavailable only if neither ledger nor
            outbox confirmed in time. Such a decision can safely be recorded again.
        """
        # Leaves time for the outbox.
        outbox_seconds = CALL_SECONDS + OUTBOX_SECONDS_PER_DECISION * len(decisions)
        outcomes = self._ledger.record(decisions, deadline - outbox_seconds)
        unrecorded = [isinstance(outcome, StoreUnavailable) for outcome in outcomes]
        if not any(unrecorded):
            return outcomes
        last = [decision.fallback for decision in decisions]
        sent: dict[tuple[str, str], Decision] = {}
        for decision in itertools.compress(last, unrecorded):
            sent.setdefault(key(decision), decision)
        errors = dict(zip(sent, self._fallback.send(list(sent.values()), deadline), strict=True))
        return [
            errors[key(decision)] or _unrecorded(decision, sent[key(decision)])
            if isinstance(outcome, StoreUnavailable)
            else outcome
            for decision, outcome in zip(last, outcomes, strict=True)
        ]

    def record_one(self, decision: Decision, deadline: float) -> Recorded:
        """Record one decision as :meth:`record` does.

        Raises
        ------
        IdempotencyConflict
            The decision id was already used for another request. Nothing is counted.
        StoreUnavailable
            Neither ledger nor outbox confirmed in time. The same decision can safely be recorded again.
        """
        (outcome,) = self.record([decision], deadline)
        if isinstance(outcome, HttpError):
            raise outcome
        return outcome


def connect() -> Recorder:
    """Connect to the ledger and the outbox; an invalid environment variable raises SettingsError."""
    return Recorder(writer.connect(), outbox.connect())


def _unrecorded(decision: Decision, sent: Decision) -> Outcome:
    """Return the outcome of a decision, given the one with the same key that was sent to the outbox."""
    outcome = outcome_of(decision, sent.response, sent.request_hash)
    if isinstance(outcome, Recorded):
        return outcome._replace(response={**outcome.response, "recorded": False})
    return outcome
