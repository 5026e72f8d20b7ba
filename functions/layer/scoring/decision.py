"""A decision: one transaction, assessed by one version of the rules, ready to be returned and stored."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from scoring.rules import Assessment, RuleSet
from scoring.transaction import UNKNOWN_TX_ID, Transaction, fingerprint, validate


class Decision(NamedTuple):
    """What was decided about one transaction.

    Attributes
    ----------
    decision_id
        The idempotency key where the caller sent one, else the id of the request.
    transaction
        As it was judged.
    assessment
        Score, risk level and rule hits: a function of transaction and version alone.
    version
        Of the rule set that decided.
    evaluated_at
        RFC 3339 in UTC with microseconds; sorts as text.
    request_hash
        :func:`scoring.transaction.fingerprint` of the request.
    """

    decision_id: str
    transaction: Transaction
    assessment: Assessment
    version: str
    evaluated_at: str
    request_hash: str

    @property
    def key(self) -> str:
        """The partition key of the decision: its transaction id, or :func:`key_without_tx_id`."""
        return self.transaction.tx_id or key_without_tx_id(self.decision_id)

    def answer(self) -> dict[str, Any]:
        """The body of the answer to ``POST /score``."""
        return {
            "score": self.assessment.score,
            "risk_level": self.assessment.risk_level,
            "triggered_rules": list(self.assessment.triggered_rules),
            "tx_id": self.transaction.tx_id or UNKNOWN_TX_ID,
            "decision_id": self.decision_id,
            "version": self.version,
            "evaluated_at": self.evaluated_at,
        }


def key_without_tx_id(decision_id: str) -> str:
    """Return the partition key of a decision about a transaction without ``tx_id``.

    It begins with a control character, which no ``tx_id`` contains. So the decision never shares a partition with a
    transaction whose id happens to be its own decision id.
    """
    return "\x1f" + decision_id


def decide(document: Any, decision_id: str, rule_set: RuleSet) -> Decision:
    """Decide one decoded request by a rule set.

    Raises
    ------
    InvalidRequest
        The document is no valid transaction; the text names the field.
    """
    transaction = validate(document)
    return Decision(
        decision_id=decision_id,
        transaction=transaction,
        assessment=rule_set.assess(transaction),
        version=rule_set.version,
        evaluated_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        request_hash=fingerprint(document),
    )
