"""Send messages to an SQS queue, ten at a time."""

from collections.abc import Sequence
from typing import Any

from scoring import chunks, deadlines
from scoring.aws import client
from scoring.errors import CallFailed

# Limits of SendMessageBatch; the size is that of all messages together.
MAX_MESSAGES = 10
MAX_BYTES = 1024 * 1024

NO_TIME_LEFT = "NoTimeLeft"

_MAX_ATTEMPTS = 2


class Queue:
    """A queue; one instance per execution environment.

    Parameters
    ----------
    sqs
        Client of SQS.
    url
        URL of the queue.
    """

    def __init__(self, sqs: client.Client, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def send(self, messages: Sequence[str], deadline: float) -> list[str | None]:
        """Send messages in ASCII of less than 1 MiB each. No call is started that could end after the deadline.

        Returns
        -------
        list
            For each message, the reason why SQS did not confirm it, or None if it did. After a failed call, the
            remaining messages are not sent.
        """
        reasons: list[str | None] = [None] * len(messages)
        obstacle = None
        for chunk in chunks.split(range(len(messages)), lambda one: len(messages[one]), MAX_MESSAGES, MAX_BYTES):
            if obstacle is None:
                obstacle, failed = self._send(messages, chunk, deadline)
            else:
                failed = dict.fromkeys(chunk, obstacle)
            for number, reason in failed.items():
                reasons[number] = reason
        return reasons

    def _send(
        self, messages: Sequence[str], chunk: Sequence[int], deadline: float
    ) -> tuple[str | None, dict[int, str]]:
        """Send a chunk, given by indexes, and once more what SQS refuses.

        Returns
        -------
        tuple
            The reason why no further chunk should be sent, or None; and the reason of each message that failed.
        """
        failed = dict.fromkeys(chunk, NO_TIME_LEFT)
        for _ in range(_MAX_ATTEMPTS):
            if not failed or not deadlines.allows(deadline, client.CALL_SECONDS):
                break
            entries = [{"Id": str(number), "MessageBody": messages[number]} for number in failed]
            try:
                response = self._sqs.call("SendMessageBatch", {"QueueUrl": self._url, "Entries": entries})
            except CallFailed as failure:
                return failure.reason, dict.fromkeys(failed, failure.reason)
            confirmed = {entry["Id"] for entry in _entries(response, "Successful") if _is_confirmed(entry)}
            codes = {entry.get("Id"): entry.get("Code") for entry in _entries(response, "Failed")}
            failed = {
                number: str(codes.get(str(number)) or client.UNEXPECTED_RESPONSE)
                for number in failed
                if str(number) not in confirmed
            }
        return None, failed


def _entries(response: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = response.get(name)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _is_confirmed(entry: dict[str, Any]) -> bool:
    """Return whether an entry came from SQS: it has the id of the message."""
    return isinstance(entry.get("Id"), str) and isinstance(entry.get("MessageId"), str)
