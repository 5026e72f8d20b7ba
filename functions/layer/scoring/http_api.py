"""Events and responses of an API Gateway HTTP API, in payload format 2.0."""

import base64
import functools
from collections.abc import Callable
from typing import Any

from scoring import settings, strict_json
from scoring.errors import HttpError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from scoring.transaction import MAX_ID_LENGTH

Event = dict[str, Any]
Response = dict[str, Any]

MAX_BODY_BYTES = 64 * 1024
# As long as a tx_id, since a decision without tx_id is looked up by its key.
MAX_KEY_LENGTH = MAX_ID_LENGTH

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
    PayloadTooLarge, InvalidRequest
        As :func:`document` raises them.
    """
    if not is_json(media_type(event)):
        raise UnsupportedMediaType("Header 'Content-Type' must be application/json")
    return document(body(event))


def media_type(event: Event) -> str:
    """Return the content type of a request in lower case, without parameters; empty if there is none."""
    return (header(event, "content-type") or "").partition(";")[0].strip().lower()


def is_json(media_type: str) -> bool:
    """Return whether a content type is ``application/json`` or ``application/...+json``."""
    return media_type == _JSON or (media_type.startswith("application/") and media_type.endswith("+json"))


def body(event: Event) -> str | bytes:
    """Return the body of a request: text, or bytes if API Gateway encoded it in base64.

    Raises
    ------
    InvalidRequest
        The body is not valid base64.
    """
    text: str = event.get("body") or ""
    try:
        return base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text
    except ValueError:
        raise InvalidRequest("The body is not valid base64") from None


def document(body: str | bytes) -> Any:
    """Decode the JSON document of one transaction.

    Raises
    ------
    PayloadTooLarge
        It is larger than 64 KiB.
    InvalidRequest
        It is empty, not UTF-8 or not JSON.
    """
    check_size(body, MAX_BODY_BYTES)
    return strict_json.parse(text_of(body))


def check_size(body: str | bytes, max_bytes: int) -> None:
    """Raise PayloadTooLarge if a body is larger than this in UTF-8."""
    if len(body if isinstance(body, bytes) else body.encode(errors="surrogatepass")) > max_bytes:
        raise PayloadTooLarge(f"The body is larger than {max_bytes} bytes")


def text_of(body: str | bytes) -> str:
    """Return the text of a body; InvalidRequest if it is empty or not UTF-8."""
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8") from None
    if not text.strip():
        raise InvalidRequest("The body is empty; it must be a JSON document")
    return text


def header(event: Event, name: str) -> str | None:
    """Return a request header by its name in lower case, or None.

    API Gateway sends names in lower case; ``sam local`` keeps the caller's spelling.
    """
    headers: dict[str, str] = event.get("headers") or {}
    if name in headers:
        return headers[name]
    return next((value for key, value in headers.items() if key.lower() == name), None)


def path_parameter(event: Event, name: str) -> str | None:
    """Return a decoded parameter of the path, or None if the path has none.

    API Gateway decodes every escape except ``%25``.
    """
    value: str | None = (event.get("pathParameters") or {}).get(name)
    return None if value is None else value.replace("%25", "%")


def decision_id(event: Event, context: Any) -> str:
    """Return the caller's idempotency key, or the id of the request if there is none.

    Raises
    ------
    InvalidRequest
        The header ``Idempotency-Key`` is not 1 to 128 visible ASCII characters, or contains a comma.
    """
    key = idempotency_key(event)
    return request_id(event, context) if key is None else key


def idempotency_key(event: Event, max_length: int = MAX_KEY_LENGTH) -> str | None:
    """Return the header ``Idempotency-Key``, or None.

    Raises
    ------
    InvalidRequest
        It is not 1 to ``max_length`` visible ASCII characters, or contains a comma.
    """
    key = header(event, "idempotency-key")
    return None if key is None else check_key("Header 'Idempotency-Key'", key, max_length)


def check_key(what: str, key: str, max_length: int = MAX_KEY_LENGTH) -> str:
    """Return an idempotency key if it is valid; the InvalidRequest names it as ``what``."""
    # API Gateway joins repeated headers with a comma.
    if not (1 <= len(key) <= max_length and key.isascii() and key.isprintable() and not {" ", ","} & set(key)):
        raise InvalidRequest(f"{what} must have 1 to {max_length} visible ASCII characters, no space, no comma")
    return key


def request_id(event: Event, context: Any) -> str:
    """Return the id of a request."""
    # `sam local start-api` repeats the same requestId; the ids of its invocations differ.
    found: str = context.aws_request_id if settings.SAM_LOCAL else event["requestContext"]["requestId"]
    return found
