"""The card payments in ``tests/data/``, and the decisions that follow from ``events/stream-rules.json``."""

import csv
import gzip
import itertools
from collections.abc import Iterator
from typing import Any

from scoring.scorers import rules_loader
from tests import events
from tests.local.template import ROOT

RULES = events.FOLDER / "stream-rules.json"
_RULE_SET = rules_loader.from_file(str(RULES))


def rows(count: int | None) -> Iterator[dict[str, Any]]:
    """Return the first payments as transactions, or all."""
    with gzip.open(ROOT / "tests" / "data" / "sparkov_slim.csv.gz", "rt", encoding="utf-8") as file:
        for row in itertools.islice(csv.DictReader(file), count):
            numbers = {"amount": float(row["amount"]), "hour": int(row["hour"]), "is_fraud": int(row["is_fraud"])}
            yield {**row, **numbers}


def assess(payment: dict[str, Any]) -> dict[str, Any]:
    """Return what the service responds to a payment, except for what differs with each request."""
    assessment = _RULE_SET.assess(_RULE_SET.fields.read(payment))
    return {
        "tx_id": payment["tx_id"],
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
    }
