"""``GET /docs``, ``/docs/{file}`` and ``/openapi.json``: Swagger UI and the OpenAPI document."""

import base64
import gzip
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring import contract, http_api, scorers
from scoring.errors import NotFound, RuleSetError

FOLDER = Path(__file__).parent
PAGE_HEADERS = {
    # The minimum for Swagger UI, whose style sheet contains images as data: URLs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
SHOWN_NAME_LENGTH = 128

# `gzip` in Accept-Encoding, but not `gzip;q=0`
_ACCEPTS_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Asset:
    """A file of the page, compressed with gzip; its version is a hash of its content."""

    content_type: str
    compressed: bytes
    version: str


def _asset(content_type: str, compressed: bytes) -> Asset:
    return Asset(content_type, compressed, hashlib.sha256(compressed).hexdigest()[:16])


CSS, JAVASCRIPT = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
# A requested name is looked up here and never becomes a path.
ASSETS = {
    "swagger-ui.css": _asset(CSS, (FOLDER / "swagger-ui" / "swagger-ui.css.gz").read_bytes()),
    "style.css": _asset(CSS, gzip.compress((FOLDER / "style.css").read_bytes(), mtime=0)),
    "swagger-ui-bundle.js": _asset(JAVASCRIPT, (FOLDER / "swagger-ui" / "swagger-ui-bundle.js.gz").read_bytes()),
    "initializer.js": _asset(JAVASCRIPT, gzip.compress((FOLDER / "initializer.js").read_bytes(), mtime=0)),
}
# URLs are relative, so that the page works under any prefix, and contain the version of the file.
PAGE = re.sub(
    r'"docs/([^"]+)"',
    lambda match: f'"{match[0][1:-1]}?v={ASSETS[match[1]].version}"',
    (FOLDER / "index.html").read_text(encoding="utf-8"),
)


def page(event: http_api.Event) -> http_api.Response:
    return http_api.response(PAGE, "text/html; charset=utf-8", 200, PAGE_HEADERS)


def document(event: http_api.Event) -> http_api.Response:
    return http_api.response(_document(), "application/json", 200, None)


def _document() -> str:
    try:
        return contract.document_with(scorers.load_rules().fields)
    except RuleSetError:
        # The API can be read without a valid rule set; /health and /score report the error.
        return contract.DOCUMENT


def file(event: http_api.Event) -> http_api.Response:
    name = event["pathParameters"]["file"]
    asset = ASSETS.get(name)
    if asset is None:
        raise NotFound(f"The documentation has no file {name[:SHOWN_NAME_LENGTH]!r}")
    headers = {"Vary": "Accept-Encoding"}
    # During a deployment, a page may request a version that this function does not have: do not cache its response.
    # Private, since the route may require authorization.
    if event.get("rawQueryString") == f"v={asset.version}":
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if not _ACCEPTS_GZIP.search(http_api.header(event, "accept-encoding") or ""):
        return http_api.response(gzip.decompress(asset.compressed).decode(), asset.content_type, 200, headers)
    body = base64.b64encode(asset.compressed).decode()
    compressed = http_api.response(body, asset.content_type, 200, headers | {"Content-Encoding": "gzip"})
    return compressed | {"isBase64Encoded": True}


ENDPOINTS: dict[str, Callable[[http_api.Event], http_api.Response]] = {
    "GET /docs": page,
    "GET /docs/{file}": file,
    "GET /openapi.json": document,
}


@http_api.endpoint
def lambda_handler(event: http_api.Event, context: Any) -> http_api.Response:
    return ENDPOINTS[event["routeKey"]](event)
