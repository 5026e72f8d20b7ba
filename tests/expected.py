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

    ``body`` is the text, a pattern for it, a subset of the JSON document, or a list of subsets of its ``results``. If
    ``status`` is None, the function is not invoked over HTTP and returns ``body``.
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
        if isinstance(self.body, list):
            results = json.loads(text)["results"]
            return len(results) == len(self.body) and all(map(_includes, results, self.body))
        return _includes(json.loads(text), self.body)


def _includes(document: dict[str, Any], subset: dict[str, Any]) -> bool:
    return document.items() >= subset.items()


def _decided(tx_id: str, score: int, risk_level: str, *rules: str) -> dict[str, Any]:
    return {"tx_id": tx_id, "score": score, "risk_level": risk_level, "triggered_rules": list(rules)}


def _scored(tx_id: str, score: int, risk_level: str, *rules: str) -> Expected:
    return Expected("ScoreFunction", 200, _decided(tx_id, score, risk_level, *rules))


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
    "batch-array": Expected(
        "BatchFunction",
        200,
        [
            _decided("TX101", 0, "LOW"),
            {"error": "Missing required field 'amount'"},
            _decided("TX103", 7, "CRITICAL", R1, R2, R3),
        ],
    ),
    "batch-json-lines": Expected(
        "BatchFunction",
        200,
        [
            {**_decided("TX104", 3, "HIGH", R1), "decision_id": "order-18"},
            {"error": "The body is not valid JSON: Expecting value (line 1 column 30)"},
            {**_decided("TX106", 0, "LOW"), "decision_id": "batch-17:2"},
        ],
    ),
    "batch-not-an-array": Expected(
        "BatchFunction", 400, {"error": "The body must be a JSON array of transactions, not an object"}
    ),
    "wrong-method": Expected(
        "FallbackFunction", 405, {"error": "Method GET is not allowed here; the path '/echo' takes POST"}
    ),
    "unknown-path": Expected("FallbackFunction", 404, {"error": "No route has the path '/no-such-path'"}),
    "health": Expected("HealthFunction", 200, {"status": "ok", "version": rule_set.DOCUMENT["version"]}),
    "stats": Expected(
        "StatsFunction",
        200,
        {
            "total": 10,
            "high": 5,
            "by_risk_level": {"LOW": 3, "MEDIUM": 2, "HIGH": 2, "CRITICAL": 3},
            "by_rule": {R1: 5, R2: 4, R3: 3},
        },
    ),
    "transaction": Expected("TransactionFunction", 200, {"tx_id": "TX0042", "status": "found"}),
    "lists-put": Expected(
        "ListsFunction",
        200,
        {
            "list": "blocked_customers",
            "entry": "C-1001",
            "reason": "chargeback in October",
            "expires_at": "2126-12-31T00:00:00Z",
            "warnings": ["No rule of version '1.0-tests' uses the list 'blocked_customers'"],
        },
    ),
    "lists-bad-name": Expected(
        "ListsFunction",
        400,
        {"error": "Field 'name' must have 1 to 40 lower-case letters, digits and underscores, and begin with a letter"},
    ),
    "lists-page": Expected("ListsFunction", 200, {"list": "blocked_customers"}),
    "lists-delete": Expected("ListsFunction", 200, {"list": "blocked_customers", "entry": "C-1001", "deleted": True}),
    "customer-delete": Expected("CustomerFunction", 200, {"customer_id": "C-1001", "profiles": 0, "list_entries": 0}),
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
    "stream-msk": Expected("StreamFunction", None, {"batchItemFailures": []}),
    "stream-kafka": Expected("StreamFunction", None, {"batchItemFailures": []}),
}
