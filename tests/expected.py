"""The response to each event in ``events/``.

They follow the tests' rule set. The events run in this order: ``transaction`` looks up what ``score-base64-body`` has
scored.
"""

import json
import re
from typing import Any, NamedTuple

from tests import rule_set
from tests.local.template import ROOT
from tests.rule_set import R1, R2, R3


class Expected(NamedTuple):
    """The expected result of a function.

    ``body`` is the text, a pattern for it, or a subset of the JSON document. If ``status`` is None, the function is not
    invoked over HTTP and returns ``body``.
    """

    function: str
    status: int | None
    body: Any
    content_type: str = "application/json"

    def matches(self, text: str) -> bool:
        """Return whether the text of a response body is as expected."""
        if isinstance(self.body, str):
            return text == self.body
        if isinstance(self.body, re.Pattern):
            return self.body.fullmatch(text) is not None
        return bool(json.loads(text).items() >= self.body.items())


def _scored(tx_id: str, score: int, risk_level: str, *rules: str) -> Expected:
    body = {"tx_id": tx_id, "score": score, "risk_level": risk_level, "triggered_rules": list(rules)}
    return Expected("ScoreFunction", 200, body)


def _text(text: str) -> Expected:
    return Expected("LabFunction", 200, text, "text/plain; charset=utf-8")


RESPONSES = {
    "score-low": _scored("TX001", 0, "LOW"),
    "score-medium": _scored("TX002", 2, "MEDIUM", R2),
    "score-high": _scored("TX004", 3, "HIGH", R1),
    "score-critical": _scored("TX003", 7, "CRITICAL", R1, R2, R3),
    "score-night": _scored("TX005", 2, "MEDIUM", R3),
    "score-missing-amount": Expected("ScoreFunction", 400, {"error": "Missing required field 'amount'"}),
    "score-negative-amount": Expected("ScoreFunction", 400, {"error": "Field 'amount' must not be negative"}),
    "score-malformed-body": Expected(
        "ScoreFunction", 400, {"error": "The body is not valid JSON: Expecting value (line 1 column 30)"}
    ),
    "score-base64-body": _scored("TX0042", 5, "CRITICAL", R1, R2),
    "wrong-method": Expected(
        "FallbackFunction", 405, {"error": "Method GET is not allowed here; the path '/echo' takes POST"}
    ),
    "unknown-path": Expected("FallbackFunction", 404, {"error": "No route has the path '/no-such-path'"}),
    "health": Expected("HealthFunction", 200, {"status": "ok", "version": rule_set.DOCUMENT["version"]}),
    "stats": Expected(
        "StatsFunction",
        200,
        {
            "total": 6,
            "high": 3,
            "by_risk_level": {"LOW": 1, "MEDIUM": 2, "HIGH": 1, "CRITICAL": 2},
            "by_rule": {R1: 3, R2: 3, R3: 2},
        },
    ),
    "transaction": Expected("TransactionFunction", 200, {"tx_id": "TX0042", "status": "found"}),
    "lab-home": _text("Welcome to the transaction monitoring system!"),
    "lab-hello": _text("Hello, stranger!"),
    "lab-hello-name": _text("Hello, Anna!"),
    "lab-status": Expected("LabFunction", 200, {"service": "monitoring", "version": "1.0", "status": "ok"}),
    "lab-echo": Expected(
        "LabFunction",
        200,
        {
            "received": {"tx_id": "TX0042", "amount": 4500.0, "store": "Krakow", "category": "electronics"},
            "field_count": 4,
        },
    ),
    "docs": Expected(
        "DocsFunction",
        200,
        re.compile(r'<!DOCTYPE html>.* src="docs/initializer\.js\?v=[0-9a-f]{16}" .*', re.DOTALL),
        "text/html; charset=utf-8",
    ),
    "docs-file": Expected(
        "DocsFunction",
        200,
        (ROOT / "functions/docs/initializer.js").read_text(encoding="utf-8"),
        "text/javascript; charset=utf-8",
    ),
    "openapi": Expected("DocsFunction", 200, {"openapi": "3.1.0"}),
    "reconcile": Expected("ReconcileFunction", None, {"batchItemFailures": []}),
    "alert": Expected("AlertFunction", None, {"batchItemFailures": []}),
}
