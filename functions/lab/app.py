"""The practice endpoints of the lab on which this service is based, with the same responses."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from scoring import http_api
from scoring.errors import InvalidRequest


def home(event: http_api.Event) -> http_api.Response:
    return http_api.text_response("Welcome to the transaction monitoring system!")


def hello(event: http_api.Event) -> http_api.Response:
    names = parse_qs(event.get("rawQueryString") or "", keep_blank_values=True).get("name", ["stranger"])
    return http_api.text_response(f"Hello, {names[0]}!")


def status(event: http_api.Event) -> http_api.Response:
    return http_api.json_response({"service": "monitoring", "version": "1.0", "status": "ok"})


def echo(event: http_api.Event) -> http_api.Response:
    data = http_api.json_body(event)
    if not isinstance(data, dict | list | str):
        raise InvalidRequest("The body must be a JSON object, array or string")
    try:
        return http_api.json_response({"received": data, "field_count": len(data)})
    except (ValueError, RecursionError):
        # 1e400 decodes to infinity, and the response nests one level deeper than the request.
        raise InvalidRequest("The body contains a number too large, or nesting too deep, to send back") from None


ENDPOINTS: dict[str, Callable[[http_api.Event], http_api.Response]] = {
    "GET /": home,
    "GET /hello": hello,
    "GET /status": status,
    "POST /echo": echo,
}


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    return ENDPOINTS[event["routeKey"]](event)
