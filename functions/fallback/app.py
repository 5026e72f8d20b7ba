"""The ``$default`` route: 405 for a known path with another method, 404 for anything else."""

import json
import re
from typing import Any

from scoring import contract, http_api
from scoring.errors import MethodNotAllowed, NotFound

_DOCUMENT = json.loads(contract.DOCUMENT)
# Path -> its methods, as the header `Allow` lists them
ALLOWED = {path: ", ".join(map(str.upper, methods)) for path, methods in _DOCUMENT["paths"].items()}
SHOWN_PATH_LENGTH = 128


def _pattern(path: str) -> re.Pattern[str]:
    """Return a pattern of the requested paths that match a path of the document."""
    parameters = [
        _DOCUMENT["components"]["parameters"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        for operation in _DOCUMENT["paths"][path].values()
        for one in operation.get("parameters", [])
    ]
    # Parameters that match slashes, too
    greedy = {one["name"] for one in parameters if one.get("x-greedy")}
    return re.compile(re.sub(r"\\{(\w+)\\}", lambda name: ".+" if name[1] in greedy else "[^/]+", re.escape(path)))


_PATTERNS = [(_pattern(path), allowed) for path, allowed in ALLOWED.items()]


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    request = event["requestContext"]["http"]
    path, method = request["path"], request["method"]
    allowed = next((methods for pattern, methods in _PATTERNS if pattern.fullmatch(path)), None)
    if allowed is None:
        raise NotFound(f"No route has the path {path[:SHOWN_PATH_LENGTH]!r}")
    raise MethodNotAllowed(
        f"Method {method} is not allowed here; the path {path[:SHOWN_PATH_LENGTH]!r} takes {allowed}", allowed
    )
