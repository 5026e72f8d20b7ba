"""Count the instructions of a start and of a decision, as shares of plain boto3's.

    .venv/bin/python -m tests.performance.instructions

Unlike times, counts of valgrind's callgrind repeat to a thousandth, on a busy machine too, so ``make test`` can hold
them to a budget. Builds of one Python version differ by a fifth, the shares by a twentieth. Kernel time is not counted.
Calls to the emulator are not encrypted, because a TLS handshake under valgrind exceeds its timeout; the cost of TLS is
in the figures of ``make bench`` only.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests import events
from tests.local import account, emulator
from tests.local.processes import StartError, command
from tests.markdown import table
from tests.performance import comparison, implementations
from tests.performance.comparison import MismatchError, Setup, StoreAudit
from tests.performance.implementations import OURS, OURS_FOREST, OURS_HISTORY, REFERENCE, Implementation

START, WARM, HEALTH = "start and first decision", "a decision after that", "start and first GET /health"
START_HISTORY, WARM_HISTORY = f"{START}, with one history", f"{WARM}, with one history"
START_FOREST, WARM_FOREST = f"{START}, by a forest", f"{WARM}, by a forest"
# The figures of plain boto3 that these compare with; the others compare with their own.
_COMPARED = {
    HEALTH: START,
    START_HISTORY: START,
    WARM_HISTORY: WARM,
    START_FOREST: START,
    WARM_FOREST: WARM,
}
MISSING = "valgrind is not installed; on Debian: apt-get install valgrind"

_DECISIONS = 20
_CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")


def is_available() -> bool:
    """Return whether valgrind is installed."""
    return shutil.which(_CALLGRIND[0]) is not None


def measure(python: implementations.Interpreter) -> dict[str, dict[str, float]]:
    """Return the instructions of this service and of plain boto3.

    Raises
    ------
    MismatchError
        One of them failed, or responded or recorded incorrectly.
    """
    with comparison.prepared(python) as setup, emulator.running() as endpoint:
        by_name = {one.name: one for one in setup.implementations}
        audit = StoreAudit(emulator.client("dynamodb", endpoint))
        figures: dict[str, dict[str, float]] = {}
        # Fills the customer's profile.
        comparison.start(setup, by_name[OURS_HISTORY], endpoint, audit, comparison.FIRST_DECISIONS)
        for name in (OURS, REFERENCE, OURS_HISTORY, OURS_FOREST):
            counts = []
            for number in (1, 1 + _DECISIONS):
                requests = comparison.new_requests(number, by_name[name])
                count, responses = _count(setup, endpoint, by_name[name], [request.event for request in requests])
                audit.check(name, requests, responses)
                counts.append(count)
            first, more = counts
            figures[name] = {START: first, WARM: (more - first) / _DECISIONS}
        history, forest = figures.pop(OURS_HISTORY), figures.pop(OURS_FOREST)
        figures[OURS] |= {START_HISTORY: history[START], WARM_HISTORY: history[WARM]}
        figures[OURS] |= {START_FOREST: forest[START], WARM_FOREST: forest[WARM]}
        health = replace(by_name[OURS], function=implementations.own_function("health", setup.folder))
        figures[OURS][HEALTH], (response,) = _count(setup, endpoint, health, [json.dumps(events.load("health"))])
        if response["statusCode"] != 200:
            raise MismatchError(f"GET /health returned {response}")
    return figures


def _count(setup: Setup, endpoint: str, implementation: Implementation, given: list[str]) -> tuple[int, list[Any]]:
    """Return the instructions of a process that handles these events, and its responses."""
    report = comparison.run_process(setup, implementation, endpoint, given, under=_CALLGRIND)
    log = setup.log(implementation).read_text(encoding="utf-8", errors="replace")
    return int(re.findall(r"Collected : (\d+)", log)[-1]), report["responses"]


def shares(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return this service's figures as shares of plain boto3's, which has neither history nor forest."""
    ours, boto3 = figures[OURS], figures[REFERENCE]
    return {name: number / boto3[_COMPARED.get(name, name)] for name, number in ours.items()}


def report(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table in millions of instructions."""
    of = shares(figures)
    rows = [
        [name, f"{number / 1e6:.2f}", f"{number / of[name] / 1e6:.2f}", f"{of[name]:.3f}"]
        for name, number in figures[OURS].items()
    ]
    return table(["million instructions", OURS, REFERENCE, "share"], rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Count the instructions of a start and of a decision.")
    parser.add_argument("--python", help="interpreter of the functions; default: the one that .venv was created with")
    arguments = parser.parse_args()
    account.replace()
    with command():
        if not is_available():
            raise StartError(MISSING)
        python = implementations.interpreter(arguments.python)
        try:
            print(f"Python {python.version}\n\n{report(measure(python))}")
        except MismatchError as error:
            sys.exit(f"FAILED     {error}")


if __name__ == "__main__":
    main()
