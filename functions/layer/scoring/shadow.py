"""Opinions of a model: what it would have decided in place of the rules.

The shadow function stores opinions. This module makes no calls.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring import images, strict_json
from scoring.assessment import Assessment
from scoring.errors import InvalidImage, InvalidRequest
from scoring.history import FEATURES
from scoring.history.profiles import Features
from scoring.lookups import enriched

if TYPE_CHECKING:
    from scoring.scorers.forest.scorer import ForestScorer


class Opinion(NamedTuple):
    """The opinion of a model about a decision.

    Attributes
    ----------
    key
        Partition key and sort key of the decision.
    answer
        The stored text of the response that the opinion is about.
    before, after
        Risk level of the decision, and the one that the model with the rules as a floor would have given.
    fraud
        Whether the model takes the transaction for a fraud.
    document
        The opinion as it is stored, in JSON.
    """

    key: tuple[str, str]
    answer: str
    before: str
    after: str
    fraud: bool
    document: str


def judge(image: Mapping[str, Any], scorer: "ForestScorer") -> Opinion:
    """Return the opinion of a model about a stored decision.

    The model gets the stored transaction and history. So its opinion is what it would have decided at the time, by the
    present fields and defaults. A history that the decision does not have is missing. The level of the decision counts
    as it is stored, also if another version of the rule set gave it: see
    :meth:`ForestScorer.reassess <scoring.scorers.forest.scorer.ForestScorer.reassess>`.

    Parameters
    ----------
    image
        Item of the decisions table, with its attributes as Python values.
    scorer
        The model, with the present rule set.

    Raises
    ------
    InvalidImage
        The item is not a decision, or the present rule set refuses its transaction; the text says why, and quotes no
        value of a transaction.
    """
    key, response, values = images.read(image)
    try:
        transaction = scorer.fields.read(values)
    except InvalidRequest as error:
        raise InvalidImage(f"The rule set refuses the transaction: {error}") from None
    transaction = enriched(transaction, _histories(response.get("history", {})), {})
    made = Assessment(response["score"], response["risk_level"], tuple(response["triggered_rules"]))
    assessment = scorer.reassess(transaction, made)
    return Opinion(
        key,
        image["answer"],
        made.risk_level,
        assessment.risk_level,
        assessment.details["fraud"],
        strict_json.encode({"version": scorer.version, "risk_level": assessment.risk_level, **assessment.details}),
    )


def update(table: str, opinion: Opinion) -> dict[str, Any]:
    """Return the parameters of the ``UpdateItem`` that stores an opinion.

    It adds one attribute, on condition that the item still is this decision, so it never makes a new item.
    """
    tx_id, decision_id = opinion.key
    return {
        "TableName": table,
        "Key": {"tx_id": {"S": tx_id}, "decision_id": {"S": decision_id}},
        "UpdateExpression": "SET shadow = :shadow",
        "ConditionExpression": "answer = :answer",
        "ExpressionAttributeValues": {":shadow": {"S": opinion.document}, ":answer": {"S": opinion.answer}},
    }


def _histories(stored: Mapping[str, Any]) -> Mapping[str, Features]:
    """Return the histories in a response; raise InvalidImage if this version has other features."""
    for features in stored.values():
        if not (
            isinstance(features, dict)
            and tuple(features) == tuple(FEATURES)
            and all(value is None or isinstance(value, int | float) for value in features.values())
        ):
            raise InvalidImage("The history is not one of this version")
    return stored
