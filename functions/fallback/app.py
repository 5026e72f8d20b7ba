"""The ``$default`` route: everything that no other route takes, told apart as 404 and 405."""

from typing import Any

from scoring import http_api
from scoring.errors import MethodNotAllowed, NotFound

# Path -> method of each route in the template; tests/infrastructure compares the two.
ROUTES = {
    "/": "GET",
    "/docs": "GET",
    "/docs/{file}": "GET",
    "/echo": "POST",
    "/health": "GET",
    "/hello": "GET",
    "/openapi.json": "GET",
    "/score": "POST",
    "/stats": "GET",
    "/status": "GET",
    "/transaction/{tx_id}": "GET",
}
# The routes that end in a parameter, by what stands before it
_PARENTS = {path.rpartition("/")[0]: path for path in ROUTES if path.endswith("}")}
SHOWN_PATH_LENGTH = 128


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    request = event["requestContext"]["http"]
    path, method = request["path"], request["method"]
    allowed = ROUTES.get(_template_of(path))
    if allowed is None:
        raise NotFound(f"No route has the path {path[:SHOWN_PATH_LENGTH]!r}")
    raise MethodNotAllowed(
        f"Method {method} is not allowed here; the path {path[:SHOWN_PATH_LENGTH]!r} takes {allowed}", allowed
    )


def _template_of(path: str) -> str:
    parent, _, last = path.rpartition("/")
    return _PARENTS.get(parent, path) if last else path
