"""Measure what a forest adds to a start, to a decision and to an alert.

    .venv/bin/python -m tests.performance.forest

Measures the shipped model, and one of 34,000 nodes at random, the size of a model that is trained on a million
transactions. Times are processor times. Rules and forests take turns, so other load slows all of them.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from scoring import scorers
from scoring.assessment import HIGH_RISK_LEVELS
from scoring.lookups import Known, enriched, observed
from scoring.scorer import Scorer
from scoring.scorers import rules_loader
from scoring.scorers.forest import model_file
from scoring.scorers.forest.model import MEAN, Model, Node
from scoring.scorers.forest.scorer import ForestScorer
from scoring.scorers.rules import RuleSet
from scoring.transaction import Transaction
from tests import payments
from tests.markdown import table

TREES, NODES_PER_TREE, DEPTH = 100, 341, 12

# Loads the scorer in a process that has imported what the function imports.
_START = """
import json, sys, time
from scoring import deadlines, http_api, scorers, telemetry
from scoring.ledger import recorder
scorers.MODEL_FILE = sys.argv[1]
start = time.process_time()
scorers.load()
load = time.process_time() - start
with open("/proc/self/status", encoding="ascii") as lines:
    memory = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
print(json.dumps([load, memory]))
"""
_STARTS = 11

_PAYMENTS = 3_000
_DECISIONS, _ALERTS, _ROUNDS = 1_000, 10, 3


class Added(NamedTuple):
    """Cost that a model adds to the rules: the least of several starts, and medians of decisions.

    Attributes
    ----------
    nodes
        Size of the model.
    load
        Processor time in seconds of a start.
    memory
        Bytes of the peak of a start.
    decision
        Processor time in seconds of a decision that is no alert.
    first_alert, alert
        Processor time in seconds of an alert: one that is the first of its process, and a later one.
    """

    nodes: int
    load: float
    memory: float
    decision: float
    first_alert: float
    alert: float


class Start(NamedTuple):
    """Processor time in seconds of a load in a new process, and its peak memory in bytes."""

    load: float
    memory: float


def measure() -> dict[str, Added]:
    """Return what the shipped model adds, and what the large one does."""
    rules = rules_loader.from_file(scorers.RULES_FILE)
    shipped = model_file.from_file(scorers.MODEL_FILE)
    sent = _transactions(rules)
    models = {"shipped model": shipped, "large model": large_model(shipped, sent)}
    starts = _starts(models)
    return {name: _added(rules, model, starts[name], sent) for name, model in models.items()}


def large_model(like: Model, sent: Sequence[Transaction]) -> Model:
    """Return a random model with the inputs of another one; one of 100 transactions is an alert."""
    numbers = random.Random(1)
    rows = [like.inputs.row(transaction.facts) for transaction in sent]
    grown = [_grown(numbers, rows) for _ in range(TREES)]
    model = Model(
        "large",
        like.inputs,
        MEAN,
        [root for root, _ in grown],
        tuple([cover for _, covers in grown for cover in covers]),
        ((3, 1.0), (2, 1.0), (1, 1.0)),
        1.0,
        {},
    )
    threshold = sorted(map(model.probability, rows))[len(rows) * 99 // 100]
    return model._replace(levels=((3, 1.0), (2, threshold), (1, threshold / 2)), fraud_threshold=threshold)


def _grown(numbers: random.Random, rows: Sequence[Sequence[float]]) -> tuple[Node, list[float]]:
    """Return the root of a tree with splits at random leaves, and the covers of its leaves."""
    tree: list[Any] = [None]
    open_leaves = [(tree, 0, 0)]
    for _ in range(NODES_PER_TREE // 2):
        place, index, depth = open_leaves.pop(numbers.randrange(len(open_leaves)))
        # Half-way between two values of a column, where there are two
        row, other = numbers.sample(rows, 2)
        column = numbers.choice([at for at, value in enumerate(row) if value != other[at]])
        split = [column, (row[column] + other[column]) / 2, None, None]
        place[index] = split
        if depth + 1 < DEPTH:
            open_leaves += [(split, 2, depth + 1), (split, 3, depth + 1)]
    covers: list[float] = []

    def node(part: Any) -> Node:
        if part is None:
            covers.append(float(numbers.randint(5, 5_000)))
            return numbers.random() ** 4
        column, threshold, left, right = part
        first = node(left)
        return column, threshold, first, node(right)

    return node(tree[0]), covers


def _transactions(scorer: Scorer) -> list[Transaction]:
    """Return payments with their histories, as the service would have known them."""
    known, found = Known({}, frozenset()), []
    for payment in payments.rows(_PAYMENTS):
        transaction = scorer.fields.read({name: value for name, value in payment.items() if name != "is_fraud"})
        seen = known.observe(observed(scorer.histories, transaction, transaction.facts["timestamp"]))
        by_name = {history.name: features for history, features in zip(scorer.histories, seen, strict=True)}
        found.append(enriched(transaction, by_name, {}))
    return found


def _starts(models: dict[str, Model]) -> dict[str, Start]:
    """Return what each model adds to a start."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{number}.model") for number, name in enumerate(models)}
        for name, model in models.items():
            files[name].write_bytes(model_file.encode(model))
        turns = [("rules", Path()), *files.items()]
        found: dict[str, list[Start]] = {name: [] for name, _ in turns}
        for number in range(_STARTS + 1):
            for name, file in turns:
                start = _start(file, "rules" if name == "rules" else "forest", folder)
                # The first process of each writes bytecode.
                if number:
                    found[name].append(start)
    # Other load only adds to these.
    least = {name: Start(*map(min, zip(*starts, strict=True))) for name, starts in found.items()}
    rules = least.pop("rules")
    return {
        name: Start(*(of_model - of_rules for of_model, of_rules in zip(one, rules, strict=True)))
        for name, one in least.items()
    }


def _start(file: Path, scorer: str, bytecode: str) -> Start:
    command = [sys.executable, "-c", _START, str(file)]
    # As on Lambda, modules have bytecode.
    variables = {"SCORER": scorer, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | variables)
    return Start(*json.loads(done.stdout))


def _added(rules: RuleSet, model: Model, start: Start, sent: Sequence[Transaction]) -> Added:
    forest = ForestScorer(rules, model)
    assessed = [(transaction, forest.assess(transaction).risk_level in HIGH_RISK_LEVELS) for transaction in sent]
    others = [transaction for transaction, is_alert in assessed if not is_alert][:_DECISIONS]
    alerts = [transaction for transaction, is_alert in assessed if is_alert][:_ALERTS]
    return Added(
        nodes=sum(map(_count, model.trees)),
        load=start.load,
        memory=start.memory,
        decision=median(_differences(rules, lambda: forest, others)),
        # A new scorer has not explained anything yet.
        first_alert=median(_differences(rules, lambda: ForestScorer(rules, model), alerts)),
        alert=median(_differences(rules, lambda: forest, alerts)),
    )


def _count(node: Node) -> int:
    return 1 + _count(node[2]) + _count(node[3]) if isinstance(node, tuple) else 1


def _differences(rules: Scorer, forest: Callable[[], Scorer], sent: Sequence[Transaction]) -> list[float]:
    """Return the processor times that the forest takes more than the rules, for each transaction."""
    return [_seconds(forest(), one) - _seconds(rules, one) for _ in range(_ROUNDS) for one in sent]


def _seconds(scorer: Scorer, transaction: Transaction) -> float:
    start = time.process_time()
    scorer.assess(transaction)
    return time.process_time() - start


def report(found: dict[str, Added]) -> str:
    """Return a table."""
    models = list(found.values())
    rows = [
        ["nodes", *(f"{one.nodes:,}" for one in models)],
        ["load, ms", *(f"{one.load * 1e3:.1f}" for one in models)],
        ["memory, MB", *(f"{one.memory / 1e6:.1f}" for one in models)],
        ["a decision, ms", *(f"{one.decision * 1e3:.3f}" for one in models)],
        ["the first alert, ms", *(f"{one.first_alert * 1e3:.1f}" for one in models)],
        ["a later alert, ms", *(f"{one.alert * 1e3:.1f}" for one in models)],
    ]
    return table(["added to the rules", *found], rows)


if __name__ == "__main__":
    print(report(measure()))
