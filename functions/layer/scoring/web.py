"""API Gateway HTTP API events (payload format 2.0) in, responses out."""

import base64
import binascii
import functools
import json
import re
from collections.abc import Callable
from typing import Any

from scoring import settings
from scoring.errors import AnswerableError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from scoring.transaction import MAX_TX_ID_LENGTH, parse_json

Event = dict[str, Any]
Response = dict[str, Any]

MAX_BODY_BYTES = 64 * 1024
# As a tx_id, so that a decision without one can be looked up by its id.
MAX_KEY_LENGTH = MAX_TX_ID_LENGTH

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
# Visible ASCII but the comma, by which API Gateway joins a header that was sent twice.
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


def endpoint(handler: Callable[[Event, Any], Response]) -> Callable[[Event, Any], Response]:
    """Make a Lambda handler answer errors of the service as ``{"error": ...}`` with their own status.

    Anything else is a fault of the code: it leaves the handler, so that Lambda counts it and an alarm can see it, and
    API Gateway answers 500 without a trace of it.
    """

    @functools.wraps(handler)
    def answering(event: Event, context: Any) -> Response:
        try:
            return handler(event, context)
        except AnswerableError as error:
            return json_response({"error": str(error)}, error.status, error.headers)

    return answering


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return response(json.dumps(body, separators=(",", ":"), allow_nan=False), _JSON, status, headers)


def text_response(text: str) -> Response:
    """A 200 with plain text, which a browser does not take for markup."""
    return response(text, _TEXT, 200, None)


def response(body: str, content_type: str, status: int, headers: dict[str, str] | None) -> Response:
    """A response in payload format 2.0."""
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": content_type,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        },
        "body": body,
        "isBase64Encoded": False,
    }


def json_body(event: Event) -> Any:
    """The decoded JSON body of a request.

    Raises
    ------
    UnsupportedMediaType
        The content type is missing or not JSON.
    PayloadTooLarge
        Over 64 KiB.
    InvalidRequest
        Empty, not UTF-8, not JSON.
    """
    media_type = (header(event, "content-type") or "").partition(";")[0].strip().lower()
    if media_type != _JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
        raise UnsupportedMediaType("Header 'Content-Type' must be application/json")
    text = _body_text(event)
    if not text.strip():
        raise InvalidRequest("The body is empty; it must be a JSON document")
    return parse_json(text)


def header(event: Event, name: str) -> str | None:
    """A request header by its name in lower case, as API Gateway spells it; ``sam local`` keeps the caller's case."""
    headers: dict[str, str] = event.get("headers") or {}
    if name in headers:
        return headers[name]
    return next((value for key, value in headers.items() if key.lower() == name), None)


def decision_id(event: Event, context: Any) -> str:
    """What makes a request one request: the caller's idempotency key, else the id of the request itself.

    Raises
    ------
    InvalidRequest
        The header ``Idempotency-Key`` is not 1 to 128 visible ASCII characters, or has a comma.
    """
    key = header(event, "idempotency-key")
    if key is not None:
        if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
            raise InvalidRequest(
                f"Header 'Idempotency-Key' must have 1 to {MAX_KEY_LENGTH} visible ASCII characters, no space, no comma"
            )
        return key
    # `sam local start-api` gives every request of one server the same requestId; its invocations have ids of their own.
    request_id: str = context.aws_request_id if settings.SAM_LOCAL else event["requestContext"]["requestId"]
    return request_id


def _body_text(event: Event) -> str:
    body: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        if len(body.encode(errors="surrogatepass")) > MAX_BODY_BYTES:
            raise _too_large()
        return body
    try:
        raw = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("The body is not valid base64") from None
    if len(raw) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8") from None


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes")
