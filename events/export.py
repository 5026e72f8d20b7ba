#!/usr/bin/env python3
"""Export the decisions of a deployed stack as JSON Lines, one transaction per line, for backtests and training.

    python events/export.py --table NAME decisions.jsonl.gz
    python events/export.py --table NAME --since 2026-10-01 --until 2026-11-01 >october.jsonl

NAME is the output DecisionsTableName of the stack. Lines have the order in which the service decided. A transaction
without a `timestamp` gets the time of its decision, so that a replay knows its history. Needs AWS credentials and a
region, and reads the whole table. The exit code is 2 if the table cannot be read. More in events/README.md.
"""

import argparse
import gzip
import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events import command
from events.command import UnusableError, printable

with command.packages():
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

RULES = Path(__file__).parents[1] / "functions" / "layer" / "scoring" / "scorers" / "rules.json"
PROGRESS_SECONDS = 5
CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 10})


class Exported(NamedTuple):
    """A decision.

    Attributes
    ----------
    evaluated_at
        Time of the decision, which sorts as text.
    decision_id
        Its id.
    line
        The transaction as JSON.
    without_hour
        Whether the line has another hour than the decision, which had none.
    """

    evaluated_at: str
    decision_id: str
    line: str
    without_hour: bool


def exported(item: Mapping[str, Any], hour: int | None) -> Exported | None:
    """Return a decision, given its item in the table; None if the item is no decision.

    Parameters
    ----------
    item
        The item.
    hour
        Default of the rule set for the hour of a transaction without time; None if it has none.
    """
    try:
        text = item["transaction"]["S"]
        transaction, response = json.loads(text), json.loads(item["answer"]["S"])
        evaluated_at, decision_id = response["evaluated_at"], response["decision_id"]
        if not (isinstance(transaction, dict) and isinstance(evaluated_at, str) and isinstance(decision_id, str)):
            return None
    except (KeyError, TypeError, ValueError):
        return None
    without_hour = False
    if "timestamp" not in transaction:
        transaction["timestamp"] = evaluated_at
        # With a timestamp, a replay would take its hour.
        if "hour" not in transaction and hour is not None:
            transaction["hour"] = hour
        without_hour = "hour" not in transaction
        text = json.dumps(transaction, separators=(",", ":"))
    return Exported(evaluated_at, decision_id, text, without_hour)


class Export:
    """Reads a table, and sorts its decisions in a temporary file.

    Parameters
    ----------
    since, until
        Limits of the time of the decisions, as texts, or None; ``until`` is excluded.
    hour
        As in :func:`exported`.
    """

    def __init__(self, since: str | None, until: str | None, hour: int | None) -> None:
        self._since = since or ""
        self._until = until
        self._hour = hour
        # A nameless database is a temporary file, and SQLite sorts in others: memory does not grow with the table.
        self._database = sqlite3.connect("")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE decisions (evaluated_at TEXT, decision_id TEXT, line TEXT)")
        self.read = self.written = self.unreadable = self.without_hour = 0

    def close(self) -> None:
        self._database.close()

    def add(self, items: Iterator[Mapping[str, Any]]) -> None:
        """Add the items of a table."""
        self._database.executemany("INSERT INTO decisions VALUES (?, ?, ?)", self._rows(items))

    def lines(self) -> Iterator[str]:
        """Yield the transactions in the order of the decisions."""
        for (line,) in self._database.execute("SELECT line FROM decisions ORDER BY evaluated_at, decision_id"):
            self.written += 1
            yield line

    def _rows(self, items: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
        start = reported = time.monotonic()
        for item in items:
            self.read += 1
            decision = exported(item, self._hour)
            if decision is None:
                self.unreadable += 1
            elif self._since <= decision.evaluated_at and (not self._until or decision.evaluated_at < self._until):
                self.without_hour += decision.without_hour
                yield decision[:3]
            if (now := time.monotonic()) - reported > PROGRESS_SECONDS:
                reported = now
                print(f"{self.read:,} decisions read ({self.read / (now - start):,.0f}/s)", file=sys.stderr)


def items(table: str) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a table; raise :class:`UnusableError` if it cannot be read."""
    try:
        paginator = boto3.client("dynamodb", config=CONFIG).get_paginator("scan")
        pages = paginator.paginate(
            TableName=table,
            ProjectionExpression="#transaction, answer",
            ExpressionAttributeNames={"#transaction": "transaction"},
        )
        for page in pages:
            yield from page["Items"]
    except ClientError as error:
        reason = error.response["Error"]
        text = f"{reason.get('Code')}: {reason.get('Message')}"
        raise UnusableError(f"table {table!r} cannot be read: {printable(text)}") from error
    except (BotoCoreError, ValueError) as error:
        # botocore raises a ValueError for an invalid endpoint.
        raise UnusableError(f"table {table!r} cannot be read: {printable(str(error))}") from error


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Open the output. A file is complete, or does not change."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(part, "wt", encoding="utf-8") as file:
                yield file
            part.replace(path)
        except OSError as error:
            raise UnusableError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _default_hour() -> int | None:
    """Return the hour that the rule set of this checkout assumes."""
    try:
        hour = json.loads(RULES.read_text(encoding="utf-8")).get("defaults", {}).get("hour")
    except (OSError, ValueError, AttributeError) as error:
        raise UnusableError(f"{RULES} cannot be read: {error}") from error
    return hour if isinstance(hour, int) else None


def _run(arguments: argparse.Namespace) -> int:
    try:
        with closing(Export(arguments.since, arguments.until, _default_hour())) as export:
            with _output(arguments.output) as output:
                export.add(items(arguments.table))
                for line in export.lines():
                    output.write(line + "\n")
            print(f"{export.written:,} decisions exported, {export.read:,} read", file=sys.stderr)
            if export.unreadable:
                print(f"{export.unreadable:,} items were left out: they are no decisions", file=sys.stderr)
            if export.without_hour:
                print(
                    f"{export.without_hour:,} had neither timestamp nor hour: a replay takes the hour of the decision",
                    file=sys.stderr,
                )
    except (UnusableError, KeyboardInterrupt, sqlite3.Error) as error:
        print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


def _time(text: str) -> str:
    """Return a date or time as decisions have it; without an offset, it is in UTC."""
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return found.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        message = f"{text!r} is neither a date nor a time, such as 2026-10-01 or 2026-10-01T08:30:00Z"
        raise argparse.ArgumentTypeError(message) from None


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, help="file, compressed if it ends in .gz (standard output)")
    parser.add_argument("--table", required=True, metavar="NAME", help="output DecisionsTableName of the stack")
    parser.add_argument("--since", type=_time, metavar="TIME", help="decisions from this time on")
    parser.add_argument("--until", type=_time, metavar="TIME", help="decisions before this time")
    arguments = parser.parse_args()
    return command.run(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
