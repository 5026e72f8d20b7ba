"""The outbox: a queue for decisions that were answered while the ledger could not be reached.

Its messages are recorded later by the ledger's own transaction, so that a decision is there once and counted once,
however often a message is sent or delivered.
"""

import json
from typing import Any

from scoring import aws, settings
from scoring.decision import Decision
from scoring.errors import CallFailed, InvalidRequest, MessageInvalid
from scoring.rules import RISK_LEVELS, Assessment
from scoring.transaction import parse_json, validate


class Outbox:
    """Where decisions wait for the ledger; one instance for the life of an execution environment.

    Parameters
    ----------
    sqs
        The service.
    url
        Of the queue.
    """

    def __init__(self, sqs: aws.Service, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def send(self, decision: Decision, deadline: float) -> None:
        """Leave a decision to be recorded later.

        Parameters
        ----------
        decision
            As it was answered.
        deadline
            On the clock of :func:`time.monotonic`; nothing is begun that could end later.

        Raises
        ------
        StoreUnavailable
            SQS did not take it in time.
        """
        if not aws.is_time_for_a_call(deadline):
            raise aws.unavailable("outbox", "NoTimeLeft", decision.decision_id)
        try:
            response = self._sqs.call("SendMessage", {"QueueUrl": self._url, "MessageBody": encode(decision)})
        except CallFailed as failure:
            raise aws.unavailable("outbox", failure.reason, decision.decision_id) from failure
        # Only SQS names the message that it took; a 200 of anything else is no confirmation.
        if not isinstance(response.get("MessageId"), str):
            raise aws.unavailable("outbox", aws.UNEXPECTED, decision.decision_id)


def connect() -> Outbox:
    """Open the outbox that the environment variables name.

    Raises
    ------
    SettingsError
        A variable is missing or wrong.
    """
    return Outbox(aws.sqs(), settings.read().outbox_url)


def encode(decision: Decision) -> str:
    """Return the message that stands for a decision.

    The message is ASCII, since SQS refuses some characters that JSON allows. Escaped, a character takes up to six times
    its bytes (U+007F): the largest request makes 384 KiB, and 100 labels of 200 characters make 235 KiB. With all its
    fields, a message stays below two thirds of the 1 MiB that SQS takes.
    """
    return json.dumps(
        {
            "decision_id": decision.decision_id,
            "transaction": decision.transaction.as_dict(),
            "score": decision.assessment.score,
            "risk_level": decision.assessment.risk_level,
            "triggered_rules": decision.assessment.triggered_rules,
            "version": decision.version,
            "evaluated_at": decision.evaluated_at,
            "request_hash": decision.request_hash,
        },
        separators=(",", ":"),
    )


def decode(body: str) -> Decision:
    """The decision that a message stands for, as it was decided then, whatever the rules are now.

    Raises
    ------
    MessageInvalid
        No such message was ever sent by :meth:`Outbox.send`.
    """
    try:
        message: Any = parse_json(body)
        return Decision(
            decision_id=_of(str, message["decision_id"]),
            transaction=validate(message["transaction"]),
            assessment=Assessment(
                score=_of(int, message["score"]),
                # Counters of a level that is none would make the total differ from the sum of the levels.
                risk_level=RISK_LEVELS[RISK_LEVELS.index(message["risk_level"])],
                triggered_rules=tuple(_of(str, label) for label in _of(list, message["triggered_rules"])),
            ),
            version=_of(str, message["version"]),
            evaluated_at=_of(str, message["evaluated_at"]),
            request_hash=_of(str, message["request_hash"]),
        )
    except (InvalidRequest, KeyError, TypeError, ValueError) as error:
        raise MessageInvalid(f"The message is no decision: {type(error).__name__}: {error}") from error


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value
