"""Recording while somebody waits for the answer: in the ledger, or else, for later, in the outbox."""

import time

from scoring import aws, ledger, outbox
from scoring.decision import Decision
from scoring.errors import StoreUnavailable
from scoring.ledger import Ledger, Recorded
from scoring.outbox import Outbox

# Seconds after which a failed attempt has kept somebody waiting.
_LONG = 1
# Seconds for which the ledger is not tried again then. In an outage without replies an attempt takes two seconds, some
# hundred times the usual: made in every request, it would take as many environments more.
_REST = 2


class Recorder:
    """Records decisions; one instance for the life of an execution environment."""

    def __init__(self, store: Ledger, queue: Outbox) -> None:
        self._ledger = store
        self._outbox = queue
        self._rests_until = 0.0

    def record(self, decision: Decision, deadline: float) -> Recorded:
        """Record a decision once, now or later.

        Parameters
        ----------
        decision
            To be answered.
        deadline
            On the clock of :func:`time.monotonic`; nothing is begun that could end later.

        Returns
        -------
        Recorded
            The answer to give, with ``"recorded": false`` where it waits in the outbox.

        Raises
        ------
        IdempotencyConflict
            The decision id stands for another request already; nothing was counted.
        StoreUnavailable
            Neither ledger nor outbox confirmed in time. Sending the same decision again is safe.
        """
        try:
            return self._in_ledger(decision, deadline - aws.CALL_SECONDS)  # the outbox may need as long
        except StoreUnavailable:
            self._outbox.send(decision, deadline)
            return Recorded(decision.answer() | {"recorded": False}, replayed=False)

    def _in_ledger(self, decision: Decision, deadline: float) -> Recorded:
        start = time.monotonic()
        if start < self._rests_until:
            raise aws.unavailable("store", "NoReplyJustNow", decision.decision_id)
        try:
            return self._ledger.record(decision, deadline)
        except StoreUnavailable:
            if time.monotonic() - start > _LONG:
                self._rests_until = time.monotonic() + _REST
            raise


def connect() -> Recorder:
    """Open the ledger and the outbox that the environment variables name.

    Raises
    ------
    SettingsError
        A variable is missing or wrong.
    """
    return Recorder(ledger.connect(), outbox.connect())
