"""Read the items that the stream of the decisions table delivers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scoring import strict_json
from scoring.decision import StoredResponse, is_response
from scoring.errors import InvalidImage, InvalidRequest


class Image(NamedTuple):
    """A stored decision.

    Attributes
    ----------
    key
        Partition key and sort key.
    response
        The response.
    transaction
        The transaction.
    """

    key: tuple[str, str]
    response: StoredResponse
    transaction: dict[str, Any]


def read(image: Mapping[str, Any]) -> Image:
    """Return the decision in an item.

    Parameters
    ----------
    image
        Item of the decisions table, with its attributes as Python values.

    Raises
    ------
    InvalidImage
        The item is not a decision; the text says why, and quotes no field of a transaction.
    """
    try:
        key = image["tx_id"], image["decision_id"]
        response, transaction = strict_json.parse(image["answer"]), strict_json.parse(image["transaction"])
    except KeyError as error:
        raise InvalidImage(f"Attribute {error} is missing") from None
    except (AttributeError, InvalidRequest, TypeError):
        raise InvalidImage("The response or the transaction is not JSON") from None
    if not (all(isinstance(part, str) for part in key) and is_response(response) and isinstance(transaction, dict)):
        raise InvalidImage("The response or the transaction has a missing or invalid field")
    return Image(key, response, transaction)
