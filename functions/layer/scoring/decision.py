"""A decision: one transaction, assessed by one version of a scorer, ready to be returned and stored."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict, TypeGuard, get_origin

from scoring.assessment import RISK_LEVELS, Reason
from scoring.errors import InvalidRequest
from scoring.strict_json import SHOWN_LENGTH
from scoring.transaction import UNKNOWN_TX_ID, Transaction, fingerprint

if TYPE_CHECKING:
    from scoring.history.profiles import Observation
    from scoring.lookups import Lookups
    from scoring.scorer import Scorer

MAX_WARNINGS = 5
MAX_AHEAD = timedelta(days=1)

# Types of the fields of a response that may be absent
_OPTIONAL_TYPES: dict[str, type] = {
    "reasons": list,
    "warnings": list,
    "history": dict,
    "degraded": list,
    "fraud": bool,
    "fraud_probability": float,
    "unseen": list,
    "contributions": list,
}


class StoredResponse(TypedDict):
    """The body of the response to ``POST /score``, stored with the decision so that a replay returns the same.

    ``evaluated_at`` is RFC 3339 in UTC with microseconds and sorts as text. ``reasons``, ``warnings``, ``history`` and
    ``degraded`` are absent if there are none. ``history`` has :class:`scoring.history.profiles.Features` by name. Only
    :class:`scoring.scorers.forest.scorer.ForestScorer` adds ``fraud``, ``fraud_probability``, ``unseen`` and
    ``contributions``. The OpenAPI document describes all fields.
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
    history: NotRequired[dict[str, Any]]
    degraded: NotRequired[list[str]]
    fraud: NotRequired[bool]
    fraud_probability: NotRequired[float]
    unseen: NotRequired[list[str]]
    contributions: NotRequired[list[dict[str, Any]]]


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
    observations
        What the profiles of its histories record of the transaction.
    lookups
        Set if the decision depends on profiles or lists. The ledger reads them and then decides; until then, the
        response has only ``tx_id`` and ``decision_id``.
    """

    transaction: Mapping[str, Any]
    response: StoredResponse
    request_hash: str
    observations: "tuple[Observation, ...]" = ()
    lookups: "Lookups | None" = None

    @property
    def decision_id(self) -> str:
        """The idempotency key if the caller sent one, else the id of the request."""
        return self.response["decision_id"]

    @property
    def fallback(self) -> "Decision":
        """The decision to make if the ledger does not confirm one: by what was last read, and marked as degraded."""
        return self.lookups.fallback() if self.lookups else self


def decide(document: Any, decision_id: str, scorer: "Scorer") -> Decision:
    """Assess the transaction in a decoded request, and return the decision.

    Raises
    ------
    InvalidRequest
        The document is not a valid transaction; the text names the field.
    """
    transaction = scorer.fields.read(document)
    now = datetime.now(UTC)
    values = transaction.values
    if "timestamp" in values and transaction.facts["timestamp"] - now > MAX_AHEAD:
        raise InvalidRequest("Field 'timestamp' must not be more than a day ahead of the clock")
    for history in scorer.histories:
        if history.by in values:
            break
    else:
        if not scorer.lists:
            return Decision(values, assess(transaction, decision_id, scorer, now), fingerprint(document))
    # Imported here, since most transactions of some users need no history and no lists.
    from scoring.lookups import pending  # noqa: PLC0415

    return pending(transaction, decision_id, fingerprint(document), scorer, now)


def assess(transaction: Transaction, decision_id: str, scorer: "Scorer", evaluated_at: datetime) -> StoredResponse:
    """Assess a transaction with the facts that are known, and return the response.

    Parameters
    ----------
    transaction
        A valid transaction.
    decision_id
        Idempotency key or id of the request.
    scorer
        Assesses the transaction.
    evaluated_at
        Time of the decision, in UTC.
    """
    assessment = scorer.assess(transaction)
    response: StoredResponse = {
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
        "tx_id": transaction.values.get("tx_id", UNKNOWN_TX_ID),
        "decision_id": decision_id,
        "version": scorer.version,
        "evaluated_at": evaluated_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    if assessment.reasons:
        response["reasons"] = list(assessment.reasons)
    if transaction.unknown:
        response["warnings"] = _warnings(transaction.unknown)
    if assessment.details:
        response.update(assessment.details)  # type: ignore[typeddict-item]  # the model's fields
    return response


def is_response(value: Any) -> TypeGuard[StoredResponse]:
    """Return whether a stored value is the response of a decision, in this or an earlier version."""
    types: dict[str, Any] = StoredResponse.__annotations__
    return (
        isinstance(value, dict)
        and all(
            type(value.get(name)) is (get_origin(types[name]) or types[name])
            for name in StoredResponse.__required_keys__
        )
        and all(type(value.get(name, kind())) is kind for name, kind in _OPTIONAL_TYPES.items())
        and value["risk_level"] in RISK_LEVELS
        and all(isinstance(label, str) for label in value["triggered_rules"])
    )


def _warnings(unknown: Sequence[str]) -> list[str]:
    warnings = [f"Unknown field {name[:SHOWN_LENGTH]!r} was ignored" for name in unknown[:MAX_WARNINGS]]
    more = len(unknown) - len(warnings)
    if more:
        warnings.append(f"{more} more unknown field{'s were' if more > 1 else ' was'} ignored")
    return warnings
