"""Load the API Gateway events in ``events/`` by name, and build custom ones."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.local.template import ROOT

FOLDER = ROOT / "events"
MODEL = "score-low"


def names() -> list[str]:
    """Return the names of all event files; ``*-rules.json`` are rule sets."""
    return sorted(path.stem for path in FOLDER.glob("*.json") if not path.stem.endswith("-rules"))


def load(name: str) -> dict[str, Any]:
    """Load ``events/<name>.json``."""
    event: dict[str, Any] = json.loads(path(name).read_text(encoding="utf-8"))
    return event


def path(name: str) -> Path:
    """Return the path of an event."""
    return FOLDER / f"{name}.json"


def post(body: str | bytes | None, *, request_id: str = "request-1", **headers: str) -> dict[str, Any]:
    """Return the event of a ``POST /score``; bytes are sent in base64.

    In header names, ``_`` is sent as ``-``; an empty value removes the header.
    """
    event = load(MODEL)
    event["requestContext"]["requestId"] = request_id
    for name, value in headers.items():
        event["headers"][name.replace("_", "-")] = value
    event["headers"] = {name: value for name, value in event["headers"].items() if value != ""}
    event.pop("body")
    return event if body is None else event | with_body(body)


def with_body(body: str | bytes) -> dict[str, Any]:
    """Return the fields of an event that has this body; bytes are in base64."""
    if isinstance(body, bytes):
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return {"body": body, "isBase64Encoded": False}
