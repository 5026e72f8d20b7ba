"""The API's contract: its OpenAPI document, which ``docs`` serves and ``fallback`` reads the routes from."""

from pathlib import Path

DOCUMENT = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
