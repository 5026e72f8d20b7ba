"""A decision: one transaction, assessed by one version of a scorer, ready to be returned and stored."""

from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict, TypeGuard, get_origin

from scoring.assessment import RISK_LEVELS, Scorer
from scoring.transaction import UNKNOWN_TX_ID, Transaction, fingerprint, validate


class StoredResponse(TypedDict):
    """The body of the response to ``POST /score``, stored with the decision so that a replay returns the same.

    ``evaluated_at`` is RFC 3339 in UTC with microseconds and sorts as text. The other fields are described in the
    OpenAPI document.
    """

    score: int
    risk_level: str
    triggered_rules: list[str]
    tx_id: str
    decision_id: str
    version: str
    evaluated_at: str


class Decision(NamedTuple):
    """A decision about one transaction.

    Attributes
    ----------
    transaction
        The transaction that was assessed.
    response
        The response body, as it is stored.
    request_hash
        :func:`scoring.transaction.fingerprint` of the request.
    """

    transaction: Transaction
    response: StoredResponse
    request_hash: str

    @property
    def decision_id(self) -> str:
        """The idempotency key if the caller sent one, else the id of the request."""
        return self.response["decision_id"]


def decide(document: Any, decision_id: str, scorer: Scorer) -> Decision:
    """Assess the transaction in a decoded request, and return the decision.

    Raises
    ------
    InvalidRequest
        The document is not a valid transaction; the text names the field.
    """
    transaction = validate(document)
    assessment = scorer.assess(transaction)
    return Decision(
        transaction,
        {
            "score": assessment.score,
            "risk_level": assessment.risk_level,
            "triggered_rules": list(assessment.triggered_rules),
            "tx_id": transaction.tx_id or UNKNOWN_TX_ID,
            "decision_id": decision_id,
            "version": scorer.version,
            "evaluated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
        fingerprint(document),
    )


def is_response(value: Any) -> TypeGuard[StoredResponse]:
    """Return whether a stored value is the response of a decision, in this or an earlier version."""
    types: dict[str, Any] = StoredResponse.__annotations__
    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is (get_origin(kind) or kind) for name, kind in types.items())
        and value["risk_level"] in RISK_LEVELS
        and all(isinstance(label, str) for label in value["triggered_rules"])
    )
