"""The rule set for card payments in ``events/``, and its sample transactions."""

import json
from typing import Any

from scoring.scorers import rules_loader
from tests import events

FILE = events.FOLDER / "card-rules.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
RULE_SET = rules_loader.from_file(str(FILE))
SAMPLES: list[dict[str, Any]] = [
    json.loads(line) for line in (events.FOLDER / "card-transactions.jsonl").read_text(encoding="utf-8").splitlines()
]
