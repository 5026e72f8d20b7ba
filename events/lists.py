#!/usr/bin/env python3
"""Import a CSV file into a list of the scoring service, or export a list as CSV.

    python events/lists.py import blocked_customers FILE                        into `make run`
    python events/lists.py import blocked_customers FILE --url ADDRESS --sign   into a deployed stack
    python events/lists.py export blocked_customers >FILE

FILE is CSV with a header row and the columns entry, reason and expires_at, of which only entry is required; optionally
compressed with gzip. An entry that is on the list already is replaced, so after an interruption, run the same command
again. Entries that are not in the file stay on the list.

The exit code is 1 if a row failed, and 2 if the file or the service cannot be used. More in events/README.md.
"""

import argparse
import csv
import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

# A script finds only the modules in its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))
from events import command
from events.command import UnusableError, printable, shown
from events.rows import DELIMITERS, SEPARATOR_LINE, FileError, csv_cells, opened

with command.packages():
    from urllib3.util.retry import Retry

    from events import service
    from events.service import Service

if TYPE_CHECKING:
    import requests

COLUMNS = ("entry", "reason", "expires_at")
# A column of exported files; the service sets it.
ADDED_AT = "added_at"
PAGE_ENTRIES = 1_000
PROGRESS_SECONDS = 5
SHOWN_FAILURES = 20
MAX_PARALLEL = 64
# Requests per connection that are sent or waiting
QUEUED = 2
# After these, no other row would succeed.
UNAVAILABLE = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# Every request can be sent again.
RETRIES = Retry(
    total=5,
    backoff_factor=0.1,
    backoff_jitter=0.1,
    status_forcelist=UNAVAILABLE - {HTTPStatus.INTERNAL_SERVER_ERROR},
    allowed_methods=None,
    raise_on_status=False,
)


class Row(NamedTuple):
    """A row of the file.

    Attributes
    ----------
    line
        Number of its first line.
    entry
        The entry.
    details
        ``reason`` and ``expires_at``, those that are not blank.
    problem
        Why the row cannot be sent; empty if it can.
    """

    line: int
    entry: str
    details: dict[str, str]
    problem: str


def read(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file; raise :class:`FileError` if it cannot be read or used."""
    with opened(path) as text:
        header = text.readline()
        before, delimiters = 1, DELIMITERS
        if separator := SEPARATOR_LINE.fullmatch(header):
            header = text.readline()
            before, delimiters = 2, separator[1]
        names, delimiter = _columns(path, header, delimiters)
        for line, cells in csv_cells(path, text, delimiter):
            values = dict(zip(names, cells, strict=False))
            entry = values.get("entry", "")
            details = {name: values[name] for name in COLUMNS[1:] if values.get(name, "").strip()}
            yield Row(before + line, entry, details, _problem(entry, cells, len(names), delimiter))


def _columns(path: Path, header: str, delimiters: str) -> tuple[list[str], str]:
    """Return the names of the columns, and the delimiter."""
    known = (*COLUMNS, ADDED_AT)
    for delimiter in delimiters:
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
        if "entry" in names:
            for name in names:
                # A misspelt expires_at would make every entry permanent.
                if name not in known:
                    raise FileError(f"{path} cannot be used: column {name!r} is none of {', '.join(known)}")
                if names.count(name) > 1:
                    raise FileError(f"{path} cannot be used: column {name!r} appears twice")
            return names, delimiter
    start = header.strip()[: command.SHOWN_CHARACTERS]
    raise FileError(f"{path} is not CSV with a column 'entry': its first line is {start!r}")


def _problem(entry: str, cells: list[str], columns: int, delimiter: str) -> str:
    """Return why a row cannot be sent; empty if it can."""
    if any(cell.strip() for cell in cells[columns:]):
        return f"{len(cells)} cells for {columns} columns: a cell that contains {delimiter!r} must be in double quotes"
    if not entry:
        return "the entry is blank"
    # HTTP clients and proxies normalize such paths.
    parts = entry.split("/")
    if "" in parts[:-1] or {".", ".."} & set(parts):
        return "an entry that begins with a slash, or has '//' or a segment '.' or '..', cannot be sent in a URL"
    return ""


class Import:
    """Adds rows to a list, several at once, and counts them.

    Parameters
    ----------
    name
        Name of the list.
    connections
        Connections to the service, each for one request at a time.
    """

    def __init__(self, name: str, connections: list[Service]) -> None:
        self._name = name
        self._parallel = len(connections)
        self._connections: SimpleQueue[Service] = SimpleQueue()
        for connection in connections:
            self._connections.put(connection)
        self._start = self._reported = time.monotonic()
        # Rows by their entries, in the file and on the list
        self._sent: dict[str, Row] = {}
        self._stored: dict[str, Row] = {}
        self._warnings: set[str] = set()
        self.added = self.failed = self.repeated = 0

    @property
    def total(self) -> int:
        """Number of rows that are finished."""
        return self.added + self.failed + self.repeated

    def add(self, rows: Iterator[Row]) -> None:
        """Add the rows; raise :class:`UnusableError` if no further row can succeed."""
        pending: deque[tuple[Row, Future[requests.Response]]] = deque()
        with ThreadPoolExecutor(self._parallel) as pool:
            try:
                for row in rows:
                    if self._is_to_be_sent(row):
                        pending.append((row, pool.submit(self._put, row)))
                    if len(pending) == QUEUED * self._parallel:
                        self._finish(*pending.popleft())
                while pending:
                    self._finish(*pending.popleft())
            finally:
                # After an error, requests that have not been sent yet never are.
                for _, future in pending:
                    future.cancel()

    def print(self) -> None:
        print(f"{'added':<9} {self.added:>8}  {self._rate():,.0f}/s")
        print(f"{'failed':<9} {self.failed:>8}")
        if self.repeated:
            print(f"{'repeated':<9} {self.repeated:>8}  rows that are in the file already")

    def _is_to_be_sent(self, row: Row) -> bool:
        if row.problem:
            self._fail(row, row.problem)
            return False
        first = self._sent.setdefault(row.entry, row)
        if first is not row:
            self._repeat(row, first, "the entry")
        return first is row

    def _put(self, row: Row) -> "requests.Response":
        path = f"/lists/{self._name}"
        body: dict[str, Any] = {}
        if row.details:
            body = {"data": json.dumps(row.details), "headers": {"content-type": "application/json"}}
        connection = self._connections.get()
        try:
            response = connection.request("PUT", f"{path}/{quote(row.entry, safe='/')}", **body)
            _check(connection, response, path)
        finally:
            self._connections.put(connection)
        return response

    def _finish(self, row: Row, future: "Future[requests.Response]") -> None:
        response = future.result()
        body = _document(response)
        stored = body.get("entry") if response.status_code == HTTPStatus.OK else None
        if not isinstance(stored, str):
            self._fail(row, f"{response.status_code} {shown(response.text)}")
        elif stored not in {row.entry, row.entry.casefold()}:
            # Something between this command and the service has changed the path.
            self._fail(row, f"the service added {stored!r} instead")
        elif (first := self._stored.setdefault(stored, row)) is not row:
            self._repeat(row, first, "except for case, the entry")
        else:
            self.added += 1
        self._warn(body)
        now = time.monotonic()
        if now - self._reported > PROGRESS_SECONDS:
            self._reported = now
            print(f"{self.added} added ({self._rate():,.0f}/s), {self.failed} failed", file=sys.stderr)

    def _repeat(self, row: Row, first: Row, what: str) -> None:
        """Count a row whose entry is in the file twice. If they differ, either may be on the list."""
        if row.details == first.details:
            self.repeated += 1
        else:
            self._fail(row, f"{what} is on line {first.line}, with another reason or expires_at")

    def _warn(self, body: dict[str, Any]) -> None:
        for warning in map(str, body.get("warnings", ())):
            if warning not in self._warnings:
                self._warnings.add(warning)
                print(shown(warning), file=sys.stderr)

    def _fail(self, row: Row, problem: str) -> None:
        self.failed += 1
        if self.failed <= SHOWN_FAILURES:
            print(f"line {row.line}: {printable(problem)}", file=sys.stderr)
        if self.failed == SHOWN_FAILURES:
            print("further failures are only counted", file=sys.stderr)

    def _rate(self) -> float:
        return self.added / max(time.monotonic() - self._start, 0.001)


def entries(name: str, connection: Service) -> Iterator[dict[str, Any]]:
    """Yield the entries of a list; raise :class:`UnusableError` if they cannot be read."""
    path, parameters = f"/lists/{name}", {"limit": str(PAGE_ENTRIES)}
    while True:
        response = connection.request("GET", path, params=parameters)
        _check(connection, response, path)
        page = _document(response)
        found = page.get("entries")
        if response.status_code != HTTPStatus.OK or not isinstance(found, list):
            raise UnusableError(
                f"{connection.url}{path} cannot be read ({response.status_code} {shown(response.text)})"
            )
        yield from found
        if "next" not in page:
            return
        parameters["after"] = page["next"]


def _check(connection: Service, response: "requests.Response", path: str) -> None:
    """Raise :class:`UnusableError` if every other request would fail as well."""
    connection.check(response, path)
    if response.status_code in UNAVAILABLE:
        raise UnusableError(f"{connection.url} is unavailable ({response.status_code} {shown(response.text)})")


def _document(response: "requests.Response") -> dict[str, Any]:
    """Return the JSON object in a response; an empty one if there is none."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _connect(arguments: argparse.Namespace, count: int = 1) -> list[Service]:
    auth = arguments.auth() if arguments.auth else None
    return [Service(arguments.url, (lambda: auth) if auth else None, RETRIES, "--sign") for _ in range(count)]


def _import(arguments: argparse.Namespace) -> int:
    work: Import | None = None
    stop: UnusableError | FileError | KeyboardInterrupt | None = None
    try:
        work = Import(arguments.name, _connect(arguments, arguments.parallel))
        work.add(read(arguments.file))
    except (UnusableError, FileError, KeyboardInterrupt) as error:
        stop = error
    total = work.total if work else 0
    if work and total:
        work.print()
    elif not stop:
        stop = FileError(f"{arguments.file} contains no entries")
    if stop:
        print(f"error: {command.explain(stop, total)}", file=sys.stderr)
        return 2
    return 1 if work and work.failed else 0


def _export(arguments: argparse.Namespace) -> int:
    # In any terminal; rows end with a line feed.
    sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="")  # type: ignore[union-attr]
    columns = (*COLUMNS, ADDED_AT)
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    count, reported = 0, time.monotonic()
    try:
        (connection,) = _connect(arguments)
        for entry in entries(arguments.name, connection):
            if not count:
                writer.writeheader()
            writer.writerow(entry)
            count += 1
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                print(f"{count} entries", file=sys.stderr)
        if not count:
            writer.writeheader()
    except (UnusableError, KeyboardInterrupt) as error:
        written = f"; stopped after {count} entries" if count else ""
        print(f"error: {str(error) or 'interrupted'}{written}", file=sys.stderr)
        return 2
    print(f"{count} entries", file=sys.stderr)
    return 0


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must have 1 to 40 lower-case letters, digits and underscores, and begin with a letter"
        )
    return text


def _parallel(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PARALLEL):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to {MAX_PARALLEL}")
    return int(text)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="import|export")
    importing = commands.add_parser("import", help="add the entries of a CSV file to a list")
    importing.add_argument("name", type=_name, help="name of the list")
    importing.add_argument("file", type=Path, help="CSV with a header row, plain or compressed with gzip")
    importing.add_argument("--parallel", type=_parallel, default=8, metavar="N", help="requests at once (8)")
    importing.set_defaults(work=_import)
    exporting = commands.add_parser("export", help="print the entries of a list as CSV")
    exporting.add_argument("name", type=_name, help="name of the list")
    exporting.set_defaults(work=_export)
    for subparser in (importing, exporting):
        # These routes take no tokens.
        service.add_options(subparser, tokens=False)
    arguments = parser.parse_args()
    work: Callable[[argparse.Namespace], int] = arguments.work
    return command.run(lambda: work(arguments))


if __name__ == "__main__":
    sys.exit(main())
