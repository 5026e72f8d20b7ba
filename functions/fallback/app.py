"""The ``$default`` route: 405 for a known path with another method, 404 for anything else."""

import json
from typing import Any

from scoring import contract, http_api
from scoring.errors import MethodNotAllowed, NotFound

# Path -> its methods, as the header `Allow` lists them
ALLOWED = {path: ", ".join(map(str.upper, methods)) for path, methods in json.loads(contract.DOCUMENT)["paths"].items()}
# Paths that end in a parameter, by what precedes it
_PARENTS = {path.rpartition("/")[0]: path for path in ALLOWED if path.endswith("}")}
SHOWN_PATH_LENGTH = 128


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    request = event["requestContext"]["http"]
    path, method = request["path"], request["method"]
    allowed = ALLOWED.get(_template_of(path))
    if allowed is None:
        raise NotFound(f"No route has the path {path[:SHOWN_PATH_LENGTH]!r}")
    raise MethodNotAllowed(
        f"Method {method} is not allowed here; the path {path[:SHOWN_PATH_LENGTH]!r} takes {allowed}", allowed
    )


def _template_of(path: str) -> str:
    parent, _, last = path.rpartition("/")
    return _PARENTS.get(parent, path) if last else path
