"""The fingerprint of a request."""

import json
from typing import Any

import pytest
from hypothesis import given

from scoring import strict_json
from scoring.errors import InvalidRequest
from scoring.transaction import fingerprint
from tests.unit.strategies import JSON_VALUES


def test_fingerprint_of_a_deeply_nested_document() -> None:
    """The decoder may accept deeper nesting than the encoder."""
    document: list[Any] = []
    for _ in range(200_000):
        document = [document]
    with pytest.raises(InvalidRequest, match="The body is nested too deeply"):
        fingerprint(document)


def test_fingerprint_ignores_spelling() -> None:
    one = fingerprint(strict_json.parse('{"amount": 1.50, "tx_id": "\\u0041"}'))
    assert one == fingerprint(strict_json.parse('{ "tx_id":"A",\n "amount":15e-1 }'))
    assert one != fingerprint(strict_json.parse('{"amount": 1.51, "tx_id": "A"}'))
    assert one != fingerprint(strict_json.parse('{"amount": 1.50, "tx_id": "A", "unknown": 1}'))
    assert len(one) == 64


@given(JSON_VALUES)
def test_fingerprint_ignores_order_and_white_space(document: Any) -> None:
    compact = json.dumps(document, separators=(",", ":"))
    indented = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    assert fingerprint(json.loads(compact)) == fingerprint(json.loads(indented))
