"""The outbox: an SQS queue of decisions that were returned while DynamoDB was unavailable.

The reconcile function records them later with the ledger's own transaction, so that each is counted once, however often
its message is sent or delivered.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scoring import settings, strict_json, telemetry
from scoring.aws import client
from scoring.aws.queue import Queue
from scoring.decision import Decision, is_response
from scoring.errors import InvalidMessage, InvalidRequest, StoreUnavailable
from scoring.strict_json import is_finite, is_unicode
from scoring.transaction import UNKNOWN_TX_ID, check_id

if TYPE_CHECKING:
    from scoring.history.profiles import Observation


class Outbox:
    """Sends decisions to the queue; one instance per execution environment."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def send(self, decisions: Sequence[Decision], deadline: float) -> list[StoreUnavailable | None]:
        """Send decisions to be recorded later. No call is started that could end after the deadline.

        Returns
        -------
        list
            For each decision, None, or the error if SQS did not confirm it in time.
        """
        reasons = self._queue.send([encode(decision) for decision in decisions], deadline)
        # One line per reason, not one per decision.
        errors = {
            reason: telemetry.log_unavailable("outbox", reason, decisions[reasons.index(reason)].decision_id)
            for reason in dict.fromkeys(reasons)
            if reason
        }
        return [errors[reason] if reason else None for reason in reasons]


def connect() -> Outbox:
    """Connect to the outbox; an invalid environment variable raises SettingsError."""
    return Outbox(Queue(client.sqs(), settings.read().outbox_url))


def encode(decision: Decision) -> str:
    """Return a decision as a message.

    The message is ASCII, since SQS refuses some characters that JSON allows. An escaped character takes up to six times
    its bytes (U+007F): the largest request takes 384 KiB, 20,000 characters of labels take 235 KiB twice, 100 quoted
    values of 64 characters take 75 KiB, and 20 contributions with such values 18 KiB. With all other fields, a message
    stays below the 1 MiB that SQS accepts.
    """
    message = {**decision.response, "transaction": decision.transaction, "request_hash": decision.request_hash}
    if decision.observations:
        message["observations"] = [[*one.key, one.time, one.amount, one.mark.hex()] for one in decision.observations]
    return strict_json.encode(message)


def decode(body: str) -> Decision:
    """Return the decision in a message, as it was made, even if the rules have changed since.

    Raises
    ------
    InvalidMessage
        The message is not from :func:`encode`, of this version or an earlier one.
    """
    try:
        message: dict[str, Any] = strict_json.parse(body)
        transaction, request_hash = message.pop("transaction"), message.pop("request_hash")
        observations = tuple([_observation(*one) for one in message.pop("observations", [])])
        # The rule set may have changed, so fields are not checked again, except the id, which becomes a key.
        tx_id = check_id("tx_id", transaction["tx_id"]) if "tx_id" in transaction else UNKNOWN_TX_ID
    except (AttributeError, InvalidRequest, KeyError, TypeError, ValueError) as error:
        raise InvalidMessage(f"The message is not a decision: {type(error).__name__}: {error}") from error
    # Messages of earlier versions have no tx_id of their own.
    message.setdefault("tx_id", tx_id)
    if not (is_response(message) and isinstance(request_hash, str) and _is_transaction(transaction)):
        raise InvalidMessage("The message is not a decision: a field is missing or invalid")
    return Decision(transaction, message, request_hash, observations)


def _observation(subject: Any, distinct: Any, time: Any, amount: Any, mark: Any) -> "Observation":
    """Return an observation; raise TypeError if it is not from :func:`encode`."""
    # Imported here, since the function that sends decisions imports this module at every start.
    from scoring.history.profiles import MARK_BYTES, MAX_TIME, Key, Observation  # noqa: PLC0415

    if not (isinstance(subject, str) and isinstance(distinct, str) and type(time) is int and abs(time) < MAX_TIME):
        raise TypeError("an observation is invalid")
    found = Observation(Key(subject, distinct), time, amount, bytes.fromhex(mark))
    if not (isinstance(amount, float) and is_finite(amount) and len(found.mark) == MARK_BYTES):
        raise TypeError("an observation is invalid")
    return found


def _is_transaction(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "amount" in value
        and all(
            is_unicode(field) if isinstance(field, str) else isinstance(field, int | float) and is_finite(field)
            for field in value.values()
        )
    )
