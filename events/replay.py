#!/usr/bin/env python3
"""Send a file of transactions to the scoring service and print the decisions.

    python events/replay.py                              send the ten samples to `make run`
    python events/replay.py FILE --url ADDRESS --sign    send a file to a deployed stack
    python events/replay.py FILE --url ADDRESS --token   send a file to a stack with a JWT issuer; reads $TOKEN

FILE contains JSON Lines, a JSON array, or CSV with a header row, optionally compressed with gzip. The format is
detected from the content, not from the name.

The idempotency key of a row is a hash of its content, so a row that is sent again is not counted again. After an
interruption, run the same command again. The exit code is 1 if a row failed, and 2 if the file or the service cannot be
used. More in events/README.md.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events import command
from events.command import UnusableError, plain, printable, shown
from events.rows import ACCEPTED, FileError, Keys, Row, read

with command.packages():
    from events import service
    from events.service import RISK_LEVELS, Service

if TYPE_CHECKING:
    import requests

SAMPLES = Path(__file__).with_name("transactions.jsonl")
SHOWN_ROWS = 50
SHOWN_WARNINGS = 5
PROGRESS_SECONDS = 5


class Tally:
    """Counts rows by outcome: risk level or ``failed``; and how many of them were replayed or have warnings."""

    def __init__(self) -> None:
        self.outcome: Counter[str] = Counter()
        self.replayed = 0
        self.warned = 0
        self._shown_warnings: set[str] = set()

    def warn(self, line: int, decision: dict[str, Any]) -> None:
        """Count the row if its decision has warnings; print those that were not printed before."""
        warnings = decision.get("warnings")
        if not isinstance(warnings, list):
            return
        self.warned += 1
        for text in (shown(str(warning)) for warning in warnings):
            if text not in self._shown_warnings and len(self._shown_warnings) < SHOWN_WARNINGS:
                self._shown_warnings.add(text)
                print(f"line {line}: {text}", file=sys.stderr)

    def print(self) -> None:
        total = self.outcome.total()
        print()
        for level in RISK_LEVELS:
            print(f"{level:<8} {self.outcome[level]:>8}  {self.outcome[level] / total:>6.1%}")
        print(f"{'failed':<8} {self.outcome['failed']:>8}")
        if self.replayed:
            print(f"{'replayed':<8} {self.replayed:>8}  already recorded, not counted again; --batch NAME counts them")
        if self.warned:
            print(f"{'warned':<8} {self.warned:>8}  scored with warnings; the first are printed above")


def replay(rows: Iterator[Row], to: Service, keys: Keys, tally: Tally) -> None:
    """Send the rows in order; raise :class:`UnusableError` if no further row can succeed."""
    reported = time.monotonic()
    for row in rows:
        if row.note:
            print(printable(row.note))
        decision, problem = None, row.problem
        if not problem:
            response = _send(to, row, keys.key(row))
            decision = _decision(response)
            problem = f"{response.status_code} {shown(response.text)}"
            tally.replayed += response.headers.get("Idempotent-Replayed") == "true"
        tally.outcome[decision["risk_level"] if decision else "failed"] += 1
        sent = tally.outcome.total()
        if decision is None:
            print(f"line {row.line}: {problem}", file=sys.stderr)
        else:
            tally.warn(row.line, decision)
            if sent <= SHOWN_ROWS:
                if sent - tally.outcome["failed"] == 1:
                    print(f"{'tx_id':<12} {'amount':>12}  {'level':<8} {'score':>3}  rules")
                _print_row(decision, row.body)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            print(f"{sent} sent, {tally.outcome['failed']} failed, {tally.replayed} replayed", file=sys.stderr)


def _send(to: Service, row: Row, key: str) -> "requests.Response":
    return to.post("/score", row.body.encode(), {"content-type": "application/json", "idempotency-key": key})


def _decision(response: "requests.Response") -> dict[str, Any] | None:
    """Return the decision in a response, or None if there is none."""
    if response.status_code != HTTPStatus.OK:
        return None
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and body.get("risk_level") in RISK_LEVELS else None


def _print_row(decision: dict[str, Any], body: str) -> None:
    try:
        amount = f"{json.loads(body)['amount']:.2f}"
    except (ValueError, LookupError, TypeError, ArithmeticError):
        amount = "?"  # too large for a double, for example
    tx_id, score, rules = (decision.get(name, "?") for name in ("tx_id", "score", "triggered_rules"))
    labels = ", ".join(map(str, rules)) if isinstance(rules, list) else "?"
    line = f"{tx_id!s:<12} {amount:>12}  {decision['risk_level']:<8} {score!s:>3}  {labels}"
    print(plain(line).rstrip())


def _explain(stop: UnusableError | FileError | KeyboardInterrupt, sent: int) -> str:
    """Return a sentence that explains why the replay stopped and how to continue."""
    problem = str(stop) or "interrupted"
    if not sent:
        return problem
    rows = "1 row" if sent == 1 else f"{sent} rows"
    if isinstance(stop, FileError):
        return f"stopped after {rows}: {problem}; fix it and run the command again"
    if isinstance(stop, UnusableError):
        problem += "; stopped"
    return f"{problem} after {rows}; run the same command again to continue"


def _run(arguments: argparse.Namespace) -> int:
    tally = Tally()
    stop: UnusableError | FileError | KeyboardInterrupt | None = None
    try:
        with Service(arguments.url, arguments.auth) as to:
            replay(read(arguments.file, to.declared_fields), to, Keys(arguments.batch), tally)
    except (UnusableError, FileError, KeyboardInterrupt) as error:
        stop = error
    sent = tally.outcome.total()
    if sent:
        tally.print()
    elif not stop:
        stop = FileError(f"{arguments.file} contains no transactions")
    if stop:
        print(f"error: {_explain(stop, sent)}", file=sys.stderr)
        return 2
    return 1 if tally.outcome["failed"] else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLES, help=ACCEPTED)
    parser.add_argument("--batch", default="", metavar="NAME", help="count the rows again under this name")
    service.add_options(parser)
    arguments = parser.parse_args()
    return command.run(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
