"""A decision: one transaction, assessed by one version of a scorer, ready to be returned and stored."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, NotRequired, TypedDict, TypeGuard, get_origin

from scoring.assessment import RISK_LEVELS, Reason, Scorer
from scoring.strict_json import SHOWN_LENGTH
from scoring.transaction import UNKNOWN_TX_ID, fingerprint

MAX_WARNINGS = 5


class StoredResponse(TypedDict):
    """The body of the response to ``POST /score``, stored with the decision so that a replay returns the same.

    ``evaluated_at`` is RFC 3339 in UTC with microseconds and sorts as text. ``reasons`` and
    ``warnings`` are absent if there are none. The OpenAPI document describes the other fields.
    """

    score: int
    risk_level: str
    triggered_rules: list[str]
    tx_id: str
    decision_id: str
    version: str
    evaluated_at: str
    reasons: NotRequired[list[Reason]]
    warnings: NotRequired[list[str]]


class Decision(NamedTuple):
    """A decision about one transaction.

    Attributes
    ----------
    transaction
        The declared fields of the transaction, as the caller sent them.
    response
        The response body, as it is stored.
    request_hash
        :func:`scoring.transaction.fingerprint` of the request.
    """

    transaction: Mapping[str, Any]
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
    transaction = scorer.fields.read(document)
    assessment = scorer.assess(transaction)
    response: StoredResponse = {
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
        "tx_id": transaction.values.get("tx_id", UNKNOWN_TX_ID),
        "decision_id": decision_id,
        "version": scorer.version,
        "evaluated_at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    if assessment.reasons:
        response["reasons"] = list(assessment.reasons)
    if transaction.unknown:
        response["warnings"] = _warnings(transaction.unknown)
    return Decision(transaction.values, response, fingerprint(document))


def is_response(value: Any) -> TypeGuard[StoredResponse]:
    """Return whether a stored value is the response of a decision, in this or an earlier version."""
    types: dict[str, Any] = StoredResponse.__annotations__
    required, optional = StoredResponse.__required_keys__, StoredResponse.__optional_keys__
    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is (get_origin(types[name]) or types[name]) for name in required)
        and all(type(value.get(name, [])) is list for name in optional)
        and value["risk_level"] in RISK_LEVELS
        and all(isinstance(label, str) for label in value["triggered_rules"])
    )


def _warnings(unknown: Sequence[str]) -> list[str]:
    warnings = [f"Unknown field {name[:SHOWN_LENGTH]!r} was ignored" for name in unknown[:MAX_WARNINGS]]
    more = len(unknown) - len(warnings)
    if more:
        warnings.append(f"{more} more unknown field{'s were' if more > 1 else ' was'} ignored")
    return warnings
