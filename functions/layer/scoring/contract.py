"""The API's contract: its OpenAPI document, which the functions ``docs`` and ``fallback`` use."""

from pathlib import Path

DOCUMENT = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
