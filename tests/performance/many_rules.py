"""Time a rule set of 200 rules with groups, beside the three rules of the lab.

.venv/bin/python -m tests.performance.many_rules
"""

import json
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scoring.scorer import Scorer
from scoring.scorers import rules_loader
from tests import rule_set
from tests.local.template import ROOT
from tests.markdown import table

RULES = 200
SAMPLES = ROOT / "events" / "transactions.jsonl"

# Prints the processor time of a load in a process that has imported the layer, as in a cold start.
_COLD_LOAD = """
import sys, time
from scoring.scorers import rules_loader
start = time.process_time()
rules_loader.from_file(sys.argv[1])
print(time.process_time() - start)
"""
_COLD_LOADS = 7
_ROUNDS, _SECONDS = 15, 0.02


class Measurement(NamedTuple):
    """The least of several measurements, which other programs disturb least.

    Attributes
    ----------
    three, many
        Microseconds in which the lab's rules and 200 rules assess a transaction.
    most_hits
        Microseconds in which 200 rules assess the transaction that most of them hit.
    load
        Processor time in milliseconds in which a new process loads 200 rules.
    """

    three: float
    many: float
    most_hits: float
    load: float

    @property
    def ratio(self) -> float:
        return self.many / self.three

    @property
    def ratio_most_hits(self) -> float:
        return self.most_hits / self.three

    @property
    def ratio_load(self) -> float:
        return self.load * 1e3 / self.three


def document() -> dict[str, Any]:
    """Return a rule set with groups of two levels, own fields, and comparisons with values and with other fields."""
    countries = ["PL", "DE", "FR", "GB", "US"]
    rules = [
        {
            "label": f"R{number}: large and unusual",
            "points": number % 7 - 2,
            "when": [
                {"field": "amount", "operator": ">", "value": 60 * number},
                {
                    "any": [
                        {"field": "country", "operator": "==", "value": countries[number % 5]},
                        {
                            "all": [
                                {"field": "hour", "operator": "between", "value": [22, 5]},
                                {"field": "card_present", "operator": "==", "value": False},
                            ]
                        },
                        {"not": {"field": "store", "operator": "in", "value": ["Warsaw", "Krakow", f"S{number}"]}},
                    ]
                },
                {"field": "amount", "operator": ">", "other": "usual_amount", "times": 1 + number / 50},
            ],
        }
        for number in range(RULES)
    ]
    fields = {
        "country": {"type": "string", "max_length": 2, "case": "ignore"},
        "card_present": {"type": "boolean"},
        "usual_amount": {"type": "number", "minimum": 0},
    }
    levels = {"CRITICAL": 50, "HIGH": 30, "MEDIUM": 10}
    return {"version": "many", "fields": fields, "defaults": {"hour": 12}, "rules": rules, "levels": levels}


def transactions() -> list[dict[str, Any]]:
    """Return the sample transactions, with values of the rule set's own fields."""
    samples = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    return [
        {**sample, "country": "pl" if number % 2 else "IE", "card_present": number % 3 == 0, "usual_amount": 900.0}
        for number, sample in enumerate(samples)
    ]


def measure() -> Measurement:
    """Time both rule sets on the same transactions."""
    many, three = rules_loader.from_document(document()), rule_set.RULE_SET
    sent = transactions()
    most_hits = max(sent, key=lambda tx: len(many.assess(many.fields.read(tx)).triggered_rules))
    return Measurement(
        three=_microseconds(three, sent),
        many=_microseconds(many, sent),
        most_hits=_microseconds(many, [most_hits]),
        load=_cold_load_milliseconds(),
    )


def _microseconds(scorer: Scorer, sent: list[dict[str, Any]]) -> float:
    """Return the least time of an assessment, averaged over transactions."""
    read = [scorer.fields.read(tx) for tx in sent]

    def assess_all() -> None:
        for transaction in read:
            scorer.assess(transaction)

    repetitions = _repetitions(assess_all)
    rounds = timeit.repeat(assess_all, number=repetitions, repeat=_ROUNDS)
    return min(rounds) / repetitions / len(sent) * 1e6


def _repetitions(function: Callable[[], None]) -> int:
    return max(1, round(_SECONDS / timeit.timeit(function, number=1)))


def _cold_load_milliseconds() -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rules.json")
        file.write_text(json.dumps(document()), encoding="utf-8")
        command = [sys.executable, "-c", _COLD_LOAD, str(file)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(_COLD_LOADS)]
    return min(float(run.stdout) for run in runs) * 1e3


def report(found: Measurement) -> str:
    """Return a table."""
    return table(
        ["", "least of several"],
        [
            ["the lab's three rules", f"{found.three:.1f} us"],
            [f"{RULES} rules", f"{found.many:.0f} us"],
            [f"{RULES} rules, most hits", f"{found.most_hits:.0f} us"],
            [f"{RULES} rules against three", f"{found.ratio:.0f} times"],
            [f"load {RULES} rules in a new process", f"{found.load:.1f} ms"],
        ],
    )


if __name__ == "__main__":
    print(report(measure()))
