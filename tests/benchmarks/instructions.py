"""How many instructions a start and a decision take, as a share of what plain boto3 takes for the same.

    .venv/bin/python -m tests.benchmarks.instructions

Unlike times, the numbers of valgrind's callgrind are the same in every run to a thousandth, on a busy machine as well,
so that ``make test`` can hold them to a budget. Builds of one version of Python differ by a fifth, but for both
functions alike: the share differs by a twentieth. What the kernel does is not counted. Calls to the emulator are not
encrypted: as slow as everything is in here, a handshake would not end within its timeout. So what TLS takes, and the
authorities that it reads, is only in the figures of ``make bench``.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tests import events
from tests.benchmarks import bench, contestants
from tests.benchmarks.bench import Books, Setup, WrongError
from tests.benchmarks.contestants import MEASURE, OURS, Contestant
from tests.benchmarks.scale import table
from tests.local import account, emulator
from tests.local.processes import StartError, command

START, WARM, HEALTH = "start and first decision", "a decision after that", "start and first GET /health"
MISSING = "valgrind is not installed; on Debian: apt-get install valgrind"

_DECISIONS = 20
_CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")


def is_possible() -> bool:
    """Whether valgrind is here."""
    return shutil.which(_CALLGRIND[0]) is not None


def measure(python: contestants.Interpreter) -> dict[str, dict[str, float]]:
    """Instructions of this service and of plain boto3.

    Raises
    ------
    WrongError
        One of them failed, or answered or counted wrong.
    """
    with bench.prepared(python) as setup, emulator.running() as endpoint:
        ours, boto3 = (next(one for one in setup.contestants if one.name == name) for name in (OURS, MEASURE))
        health = replace(ours, function=contestants.own_function("health", setup.folder))
        books = Books(emulator.client("dynamodb", endpoint))
        counted = partial(_instructions, setup, endpoint)
        figures: dict[str, dict[str, float]] = {}
        for contestant in (ours, boto3):
            numbers = []
            for number in (1, 1 + _DECISIONS):
                requests = bench.new_requests(number)
                instructions, answers = counted(contestant, [request.event for request in requests])
                books.check(contestant.name, requests, answers)
                numbers.append(instructions)
            first, more = numbers
            figures[contestant.name] = {START: first, WARM: (more - first) / _DECISIONS}
        figures[OURS][HEALTH], (answer,) = counted(health, [json.dumps(events.load("health"))])
        if answer["statusCode"] != 200:
            raise WrongError(f"GET /health answered {answer}")
    return figures


def _instructions(setup: Setup, endpoint: str, contestant: Contestant, given: list[str]) -> tuple[int, list[Any]]:
    """Of a process that handles these events, and what it answers."""
    told = bench.one_start(setup, contestant, endpoint, given, under=_CALLGRIND)
    counts = re.findall(r"Collected : (\d+)", setup.log(contestant).read_text(encoding="utf-8", errors="replace"))
    return int(counts[-1]), told["answers"]


def shares(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What this service takes of what plain boto3 takes; ``GET /health`` too of a start and first decision."""
    ours, boto3 = figures[OURS], figures[MEASURE]
    return {name: number / boto3[START if name == HEALTH else name] for name, number in ours.items()}


def report(figures: Mapping[str, Mapping[str, float]]) -> str:
    """A table, in millions."""
    of = shares(figures)
    rows = [
        [name, f"{number / 1e6:.2f}", f"{number / of[name] / 1e6:.2f}", f"{of[name]:.3f}"]
        for name, number in figures[OURS].items()
    ]
    return table(["million instructions", OURS, MEASURE, "share"], rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Instructions of a start and of a decision.")
    parser.add_argument("--python", help="that runs the functions; default: the one that made this environment")
    arguments = parser.parse_args()
    account.replace()
    with command():
        if not is_possible():
            raise StartError(MISSING)
        python = contestants.interpreter(arguments.python)
        try:
            print(f"Python {python.version}\n\n{report(measure(python))}")
        except WrongError as error:
            sys.exit(f"FAILED     {error}")


if __name__ == "__main__":
    main()
