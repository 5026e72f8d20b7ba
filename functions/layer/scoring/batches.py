"""Batches of transactions: a JSON array or JSON Lines.

Every item is decoded like the body of a single request, so it gets the same errors. An invalid item does not affect the
others, unless the array itself is not JSON.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from scoring import decision, http_api, strict_json
from scoring.decision import Decision
from scoring.errors import HttpError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from scoring.fields import KEY_FIELD
from scoring.strict_json import type_name

if TYPE_CHECKING:
    from scoring.scorer import Scorer

MAX_ITEMS = 1_000
MAX_BATCH_BYTES = 5 * 1024 * 1024
# Leaves room for ":999", the longest suffix that an item's index adds.
MAX_BATCH_KEY_LENGTH = http_api.MAX_KEY_LENGTH - len(f":{MAX_ITEMS - 1}")
# Lambda returns at most 6 MiB (AWS Lambda quotas), its envelope included.
MAX_RESPONSE_BYTES = 6_290_000
# Leaves 290 bytes per item for what recording adds, without a history.
MAX_DECIDED_BYTES = 6_000_000
# What a history adds to a response, encoded twice
MAX_HISTORY_BYTES = 500

_JSON_LINES = "application/x-ndjson"
_WHITE_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]')
# Finds the end of an item with any names and numbers. float() reads integers of any length.
_LENIENT = json.JSONDecoder(parse_int=float)


class Item(NamedTuple):
    """A decoded transaction of a batch, and the id of its decision."""

    document: Any
    decision_id: str


def read(event: http_api.Event, context: Any) -> list[Item | HttpError]:
    """Return the transactions in the body of a request, or their errors, in order.

    Raises
    ------
    UnsupportedMediaType
        The content type is neither JSON nor JSON Lines.
    PayloadTooLarge
        The body is larger than 5 MiB.
    InvalidRequest
        The body is not valid base64, or not an array, or has no items or more than 1,000; or the header
        ``Idempotency-Key`` is invalid.
    """
    media_type = http_api.media_type(event)
    if media_type != _JSON_LINES and not http_api.is_json(media_type):
        raise UnsupportedMediaType(f"Header 'Content-Type' must be application/json or {_JSON_LINES}")
    body = http_api.body(event)
    http_api.check_size(body, MAX_BATCH_BYTES)
    texts = _lines(body) if media_type == _JSON_LINES else _elements(http_api.text_of(body))
    if not texts:
        raise InvalidRequest(f"The batch is empty; it must have 1 to {MAX_ITEMS} transactions")
    key = http_api.idempotency_key(event, MAX_BATCH_KEY_LENGTH) or http_api.request_id(event, context)
    return [_item(text, f"{key}:{index}") for index, text in enumerate(texts)]


def decide(items: Iterable[Item | HttpError], scorer: "Scorer") -> list[Decision | HttpError]:
    """Decide the transactions of a batch; return a decision or an error for each item, in order.

    Raises
    ------
    PayloadTooLarge
        The response would be too large for Lambda.
    """
    scorer = scorer.for_batch()
    decided = [item if isinstance(item, HttpError) else _decide(item, scorer) for item in items]
    results = [one.fallback.response if isinstance(one, Decision) else {"error": str(one)} for one in decided]
    histories = sum(len(one.observations) for one in decided if isinstance(one, Decision))
    check_response(strict_json.encode(results), MAX_DECIDED_BYTES - MAX_HISTORY_BYTES * histories)
    return decided


def check_response(body: str, max_bytes: int = MAX_RESPONSE_BYTES) -> None:
    """Raise PayloadTooLarge if a body is too large for Lambda, which returns JSON that contains it as a string."""
    if len(strict_json.encode(body)) > max_bytes:
        raise PayloadTooLarge(
            f"The response would be larger than {max_bytes} bytes; send fewer transactions in one batch"
        )


def _decide(item: Item, scorer: "Scorer") -> Decision | HttpError:
    try:
        return decision.decide(item.document, item.decision_id, scorer)
    except InvalidRequest as error:
        return error


def _item(text: str | bytes, default_id: str) -> Item | HttpError:
    try:
        document = http_api.document(text)
        if not (isinstance(document, dict) and KEY_FIELD in document):
            return Item(document, default_id)
        key = document.pop(KEY_FIELD)
        if not isinstance(key, str):
            raise InvalidRequest(f"Field '{KEY_FIELD}' must be a string")
        return Item(document, http_api.check_key(f"Field '{KEY_FIELD}'", key))
    except HttpError as error:
        return error


def _lines(body: str | bytes) -> list[str | bytes]:
    """Split JSON Lines; each line is decoded later, since an invalid one must not affect the others."""
    if isinstance(body, bytes):
        return _limited(line for line in body.split(b"\n") if line.strip(b" \t\r"))
    return _limited(line for line in body.split("\n") if line.strip(" \t\r"))


def _elements(text: str) -> list[str | bytes]:
    """Split a JSON array into the texts of its elements."""
    texts: list[str | bytes] = strict_json.parse(text, decode=lambda text: _limited(_scan(text)))
    return texts


def _limited(texts: Iterable[str | bytes]) -> list[str | bytes]:
    found: list[str | bytes] = []
    for text in texts:
        if len(found) == MAX_ITEMS:
            raise InvalidRequest(f"The batch has more than {MAX_ITEMS} transactions")
        found.append(text)
    return found


def _scan(text: str) -> Iterator[str]:
    """Yield the texts of an array's elements; raises what :meth:`json.JSONDecoder.decode` raises."""
    position = _after_space(text, 0)
    if text[position] != "[":
        raise InvalidRequest(f"The body must be a JSON array of transactions, not {type_name(_LENIENT.decode(text))}")
    position = _after_space(text, position + 1)
    if text[position : position + 1] == "]":
        end = position
    else:
        while True:
            end = _end(text, position)
            yield text[position:end]
            end = _after_space(text, end)
            if text[end : end + 1] != ",":
                break
            position = _after_space(text, end + 1)
        if text[end : end + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
    end = _after_space(text, end + 1)
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _after_space(text: str, position: int) -> int:
    match = _WHITE_SPACE.match(text, position)
    return match.end() if match else position


def _end(text: str, start: int) -> int:
    """Return where the element that starts here ends."""
    try:
        return _LENIENT.raw_decode(text, start)[1]
    except RecursionError:
        # Too deep to decode, which is an error of this element only if its brackets match.
        depth = 0
        for match in _STRING_OR_BRACKET.finditer(text, start):
            depth += (match[0] in "[{") - (match[0] in "]}")
            if not depth:
                return match.end()
        raise
