"""Make the alert about a stored decision, and group alerts into batches for SNS.

The alert function publishes them. This module makes no calls.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from scoring import chunks, images, strict_json

# Limits of SNS for one PublishBatch. The bytes include the attributes, and are also the limit of a single message.
MAX_BATCH_ALERTS = 10
MAX_BATCH_BYTES = 262_144

_ALERT_ID_DIGITS = 32
# Fields that a model adds to a response
_OF_MODEL = ("fraud", "fraud_probability", "unseen", "contributions")
# SNS refuses characters that XML 1.0 does not allow.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Alert(NamedTuple):
    """An alert, ready to be published.

    Attributes
    ----------
    alert_id
        The same for every alert about this decision, so that receivers can drop repeats.
    decision_id
        Id of the decision.
    message
        The alert as JSON, in ASCII.
    attributes
        Message attributes for filter policies, as SNS takes them.
    """

    alert_id: str
    decision_id: str
    message: str
    attributes: dict[str, dict[str, str]]

    @property
    def size(self) -> int:
        """Bytes, as SNS counts them: the message, and name, type and value of each attribute."""
        texts = [self.message]
        for name, attribute in self.attributes.items():
            texts += [name, *attribute.values()]
        return sum(len(text.encode()) for text in texts)


def make(image: Mapping[str, Any]) -> Alert:
    """Return the alert about a decision.

    An alert that would be too large for SNS has no transaction (``"transaction": null``) and, if that is not enough, no
    attribute ``category``, and then no contributions. The rest always fits: the labels of all rules take at most 235
    KiB, ids and versions 3, and the fields whose value a model does not know 3. (20 contributions take up to 18.)

    Parameters
    ----------
    image
        Item of the decisions table, with its attributes as Python values.

    Raises
    ------
    InvalidImage
        The item is not a decision; the text says why, and quotes no field of a transaction.
    """
    key, response, transaction = images.read(image)
    document: dict[str, Any] = {
        "alert_id": hashlib.sha256(strict_json.encode(key).encode()).hexdigest()[:_ALERT_ID_DIGITS],
        **{name: response[name] for name in ("tx_id", "decision_id", "risk_level", "score")},
        **{name: response[name] for name in ("triggered_rules", "version", "evaluated_at")},
        **{name: value for name, value in response.items() if name in _OF_MODEL},
        "transaction": transaction,
    }
    attributes = {
        "risk_level": {"DataType": "String", "StringValue": response["risk_level"]},
        "score": {"DataType": "Number", "StringValue": str(response["score"])},
    }
    category = transaction.get("category")
    if isinstance(category, str) and category and not _NOT_XML.search(category):
        attributes["category"] = {"DataType": "String", "StringValue": category}
    alert = _alert(document, attributes)
    if alert.size > MAX_BATCH_BYTES:
        document["transaction"] = None
        alert = _alert(document, attributes)
    if alert.size > MAX_BATCH_BYTES:
        attributes.pop("category", None)
    if alert.size > MAX_BATCH_BYTES:
        document.pop("contributions", None)
        alert = _alert(document, attributes)
    return alert


def batches(alerts: Iterable[Alert]) -> Iterator[list[Alert]]:
    """Group alerts, in order, so that each group fits into one PublishBatch."""
    return chunks.split(alerts, lambda alert: alert.size, MAX_BATCH_ALERTS, MAX_BATCH_BYTES)


def _alert(document: Mapping[str, Any], attributes: dict[str, dict[str, str]]) -> Alert:
    return Alert(document["alert_id"], document["decision_id"], strict_json.encode(document), attributes)
