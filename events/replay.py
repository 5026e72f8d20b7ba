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
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events import command
from events.command import UnusableError, printable, shown
from events.decisions import HEADINGS, Tally, is_decision, line
from events.rows import ACCEPTED, FileError, Keys, Row, read

with command.packages():
    from events import service
    from events.service import Service

if TYPE_CHECKING:
    import requests

SAMPLES = Path(__file__).with_name("transactions.jsonl")
SHOWN_ROWS = 50
PROGRESS_SECONDS = 5


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
            tally.warn(f"line {row.line}", decision)
            if sent <= SHOWN_ROWS:
                if sent - tally.outcome["failed"] == 1:
                    print(HEADINGS)
                print(line(decision, row.body))
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
    return body if is_decision(body) else None


def _run(arguments: argparse.Namespace) -> int:
    tally = Tally("already recorded, not counted again; --batch NAME counts them")
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
        print(f"error: {command.explain(stop, sent)}", file=sys.stderr)
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
