"""Events and responses of an API Gateway HTTP API, in payload format 2.0."""

import base64
import functools
from collections.abc import Callable
from typing import Any

from scoring import settings, strict_json
from scoring.errors import HttpError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from scoring.transaction import MAX_TX_ID_LENGTH

Event = dict[str, Any]
Response = dict[str, Any]

MAX_BODY_BYTES = 64 * 1024
# As long as a tx_id, since a decision without tx_id is looked up by its key.
MAX_KEY_LENGTH = MAX_TX_ID_LENGTH

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


def endpoint(handler: Callable[[Event, Any], Response]) -> Callable[[Event, Any], Response]:
    """Make a Lambda handler return each :class:`HttpError` as ``{"error": ...}`` with its status.

    Any other exception is a bug. It propagates, so that Lambda counts it for the alarm; API Gateway responds 500 and
    shows no traceback.
    """

    @functools.wraps(handler)
    def responding(event: Event, context: Any) -> Response:
        try:
            return handler(event, context)
        except HttpError as error:
            return json_response({"error": str(error)}, error.status, dict(error.headers))

    return responding


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON body."""
    return response(strict_json.encode(body), _JSON, status, headers)


def text_response(text: str) -> Response:
    """Return a 200 with plain text, which browsers do not render as markup."""
    return response(text, _TEXT, 200, None)


def response(body: str, content_type: str, status: int, headers: dict[str, str] | None) -> Response:
    """Return a response with any body."""
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
    """Return the decoded JSON body of a request.

    Raises
    ------
    UnsupportedMediaType
        The content type is missing or not JSON.
    PayloadTooLarge
        The body is larger than 64 KiB.
    InvalidRequest
        The body is empty, not UTF-8 or not JSON.
    """
    media_type = (header(event, "content-type") or "").partition(";")[0].strip().lower()
    if media_type != _JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
        raise UnsupportedMediaType("Header 'Content-Type' must be application/json")
    text = _body_text(event)
    if not text.strip():
        raise InvalidRequest("The body is empty; it must be a JSON document")
    return strict_json.parse(text)


def header(event: Event, name: str) -> str | None:
    """Return a request header by its name in lower case, or None.

    API Gateway sends names in lower case; ``sam local`` keeps the caller's spelling.
    """
    headers: dict[str, str] = event.get("headers") or {}
    if name in headers:
        return headers[name]
    return next((value for key, value in headers.items() if key.lower() == name), None)


def decision_id(event: Event, context: Any) -> str:
    """Return the caller's idempotency key, or the id of the request if there is none.

    Raises
    ------
    InvalidRequest
        The header ``Idempotency-Key`` is not 1 to 128 visible ASCII characters, or contains a comma.
    """
    key = header(event, "idempotency-key")
    if key is not None:
        # API Gateway joins repeated headers with a comma.
        if not (1 <= len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable() and not {" ", ","} & set(key)):
            raise InvalidRequest(
                f"Header 'Idempotency-Key' must have 1 to {MAX_KEY_LENGTH} visible ASCII characters, no space, no comma"
            )
        return key
    # `sam local start-api` repeats the same requestId; the ids of its invocations differ.
    request_id: str = context.aws_request_id if settings.SAM_LOCAL else event["requestContext"]["requestId"]
    return request_id


def _body_text(event: Event) -> str:
    body: str = event.get("body") or ""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else None
    except ValueError:
        raise InvalidRequest("The body is not valid base64") from None
    if len(body.encode(errors="surrogatepass") if raw is None else raw) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return body if raw is None else raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8") from None
