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
import codecs
import csv
import gzip
import io
import json
import os
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError
    from urllib3.util.retry import Retry
except ModuleNotFoundError as error:
    print(
        f"error: this Python has no {error.name}: run `make install` once, then `.venv/bin/python events/replay.py`",
        file=sys.stderr,
    )
    sys.exit(2)

SAMPLES = Path(__file__).with_name("transactions.jsonl")
DEFAULT_PORT = 3000
RISK_LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
SHOWN_ROWS = 50
SHOWN_CHARACTERS = 200
PROGRESS_SECONDS = 5
TIMEOUT_SECONDS = 10
RETRIES = Retry(total=4, backoff_factor=0.2, status_forcelist=[503], allowed_methods=None, raise_on_status=False)

CSV_FIELDS = {"tx_id": str, "amount": float, "category": str, "store": str, "hour": int}
# Names that are sent as tx_id, in order of precedence
TX_ID_NAMES = ("tx_id", "transaction_id", "transactionid", "txid", "id")
DELIMITERS = ",;\t|"
# First line with which Excel declares the delimiter
SEPARATOR_LINE = re.compile(rf"sep=([{DELIMITERS}])[\r\n]+", re.IGNORECASE)
# int() rejects more than 4,300 digits; a double has at most 309.
NUMBER = re.compile(r"[+-]?\d{1,400}(?:(?P<mark>[.,])\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
# Either three decimals or a thousands separator
AMBIGUOUS_NUMBER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)

GZIP_MAGIC = b"\x1f\x8b"
# Formats that cannot be read, by their first bytes
SIGNATURES = {
    GZIP_MAGIC: "compressed twice",
    b"PK\x03\x04": "an Excel workbook or another ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel or Office document",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
}
ACCEPTED = "JSON Lines, a JSON array or CSV, plain or compressed with gzip"
CHUNK_CHARACTERS = 65_536
# Finds the end of a value; numbers stay text, so that their length is not limited.
SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
# Start of a value in an array or between objects
JSON_VALUE = re.compile(r"[^ \t\r\n,]")
# The start of an object up to its first list, if that is a list of objects
WRAPPED_ROWS = re.compile(r'\{(?:[^{}\[\]]|\{[^{}\[\]]*\})*"(?P<name>[^"]+)"\s*:\s*\[\s*\{')


Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class UnusableError(Exception):
    """The file, the address, the credentials or the service cannot be used; the user reads the message."""


class FileError(UnusableError):
    """The file cannot be used."""


class Row(NamedTuple):
    """A transaction of the file.

    Attributes
    ----------
    line
        Number of its first line.
    body
        JSON text to send. A malformed row is sent too, so that the service names the problem.
    identity
        Input of the idempotency key: the fields that are sent and the columns that are not.
    problem
        Why the row cannot be sent; empty if it can.
    note
        Message to print before this row.
    """

    line: int
    body: str
    identity: str
    problem: str = ""
    note: str = ""


def sigv4() -> Auth:
    """Sign requests for API Gateway with the AWS credentials of this machine."""
    try:
        import boto3  # noqa: PLC0415  only --sign needs it
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UnusableError(
            f"--sign needs {error.name}, which this Python lacks: "
            "run `make install` once, then `.venv/bin/python events/replay.py`"
        ) from error
    try:
        session = boto3.Session()
        credentials, region = session.get_credentials(), session.region_name
    except BotoCoreError as error:
        raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
    if credentials is None or region is None:
        raise UnusableError("--sign needs AWS credentials and a region")
    signer = SigV4Auth(credentials, "execute-api", region)

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = AWSRequest(request.method, request.url, {"content-type": "application/json"}, request.body)
        try:
            signer.add_auth(signed)
        except BotoCoreError as error:
            raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
        request.headers.update(dict(signed.headers))
        return request

    return sign


def bearer() -> Auth:
    """Send the token in the environment variable ``TOKEN``; the command line is visible to other users."""
    token = os.environ.get("TOKEN", "").strip()
    if not token:
        raise UnusableError("--token needs a token in the environment variable TOKEN")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UnusableError("the environment variable TOKEN contains characters that no token can have")

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def read(path: Path) -> Iterator[Row]:
    """Yield the transactions of a file; raise :class:`FileError` if it cannot be read or has another format."""
    try:
        with path.open("rb") as file:
            binary = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(GZIP_MAGIC) else file
            encoding = _encoding(path, binary.peek(CHUNK_CHARACTERS))
            with io.TextIOWrapper(binary, encoding=encoding, newline="") as text:
                yield from _rows(path, text)
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not valid {error.encoding.upper()}: save it as UTF-8 first") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is damaged or truncated: {error}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _encoding(path: Path, head: bytes) -> str:
    """Return the encoding of a text file from its first bytes; spreadsheets write UTF-16 and byte order marks."""
    for magic, kind in SIGNATURES.items():
        if head.startswith(magic):
            raise FileError(f"{path} is {kind}; this script reads {ACCEPTED}")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # In UTF-16, every other byte of ASCII text is zero.
    for encoding, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if zeros.count(0) > len(zeros) // 2 and 0 not in others:
            return encoding
    if 0 in head:
        raise FileError(f"{path} is a binary file; this script reads {ACCEPTED}")
    return "utf-8-sig"


def _rows(path: Path, text: TextIO) -> Iterator[Row]:
    head = text.read(CHUNK_CHARACTERS)
    start = head.lstrip()
    first_line = _first_line(start)
    if start.startswith("<"):
        raise FileError(f"{path} looks like HTML or XML; this script reads {ACCEPTED}")
    if name := _wrapper(start):
        raise FileError(f"{path} is one object, not a list; the rows seem to be under {name!r}")
    if start.startswith("[") or (start.startswith("{") and _end(first_line) is None and _end(start)):
        yield from _json_values(path, head + text.read())
    elif start.startswith("{"):
        lines = enumerate(_lines(head, text), start=1)
        yield from (_json_row(number, line.strip()) for number, line in lines if line.strip())
    elif start:
        yield from _csv_rows(path, start, _lines(head, text))


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0]


def _lines(head: str, text: TextIO) -> Iterator[str]:
    yield from io.StringIO(head + text.readline(), newline="")
    yield from text


def _end(text: str, start: int = 0) -> int | None:
    """Return the end of the JSON value at ``start``, or None if it is malformed or incomplete."""
    try:
        return SCANNER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def _wrapper(text: str) -> str | None:
    """Return the name of the list if the file is one object that contains a list of rows, else None."""
    found = WRAPPED_ROWS.match(text)
    end = _end(text) if found else None
    # An object that does not end in this text is larger than any transaction.
    if end is not None and (text[end:].strip() or "amount" in SCANNER.decode(text[:end])):
        return None
    return found["name"] if found else None


def _json_values(path: Path, text: str) -> Iterator[Row]:
    """Yield the items of a JSON array, or objects of several lines each."""
    is_array = text.lstrip().startswith("[")
    position = text.index("[") + 1 if is_array else 0
    line = 1 + text.count("\n", 0, position)
    while value := JSON_VALUE.search(text, position):
        start = value.start()
        line += text.count("\n", position, start)
        if is_array and text.startswith("]", start):
            if text[start + 1 :].strip():
                raise FileError(f"{path} has more than one JSON array: text follows the bracket on line {line}")
            return
        end = _end(text, start)
        if end is None:
            raise FileError(f"{path} is not valid JSON from line {line} on")
        yield _json_row(line, text[start:end])
        line += text.count("\n", start, end)
        position = end
    if is_array:
        raise FileError(f"{path} is truncated: the array has no closing bracket")


def _json_row(line: int, text: str) -> Row:
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            names = {_normal(name): name for name in reversed(value)}
            name = next((names[name] for name in TX_ID_NAMES if name in names), "tx_id")
            # The service accepts only strings.
            if name != "tx_id" or type(value.get(name)) is int:
                tx_id = value.pop(name)
                value = {"tx_id": str(tx_id) if type(tx_id) is int else tx_id, **value}
                text = json.dumps(value)
        return Row(line, text, _identity(value, {}))
    except (ValueError, RecursionError):
        return Row(line, text, text)


def _identity(sent: Any, not_sent: dict[str, str]) -> str:
    # Separate, as the same key with another body is a conflict.
    return json.dumps([sent, not_sent], sort_keys=True)


def _normal(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _csv_rows(path: Path, head: str, lines: Iterator[str]) -> Iterator[Row]:
    separator = SEPARATOR_LINE.match(head)
    header = head[separator.end() :] if separator else head
    delimiter = _delimiter(path, _first_line(header), separator[1] if separator else DELIMITERS)
    rows = _csv_cells(path, lines, delimiter)
    if separator:
        next(rows)
    _, names = next(rows)
    positions = _positions(path, names)
    note = _columns(names, positions)
    # With commas as delimiters, the decimal mark is a point; otherwise the first fraction determines it.
    decimal_mark = "." if delimiter == "," else ""
    for line, cells in rows:
        texts = {field: cells[at] for field, at in positions.items() if at < len(cells) and cells[at].strip()}
        amount = texts.get("amount", "").strip()
        problem = _problem(cells, len(names), amount, delimiter, decimal_mark)
        if not problem and (number := NUMBER.fullmatch(amount)):
            decimal_mark = decimal_mark or number["mark"] or ""
        transaction = {field: _value(field, text, decimal_mark) for field, text in texts.items()}
        others = {names[at]: cells[at] for at in range(min(len(names), len(cells))) if at not in positions.values()}
        yield Row(line, json.dumps(transaction), _identity(transaction, others), problem, note)
        note = ""


def _csv_cells(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and the cells of each row that is not blank."""
    # Without strict, an unclosed quote would swallow the rows that follow.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"{path} is not valid CSV from line {line} on: {error}") from error


def _delimiter(path: Path, header: str, candidates: str) -> str:
    """Return the delimiter with which the header has a column ``amount``."""
    for delimiter in candidates:
        if "amount" in map(_normal, next(csv.reader([header], delimiter=delimiter))):
            return delimiter
    shown = _printable(header)[:SHOWN_CHARACTERS]
    raise FileError(f"{path} is neither JSON nor CSV with a column 'amount': its first line is {shown!r}")


def _positions(path: Path, names: list[str]) -> dict[str, int]:
    """Return the column index of each field that the file has."""
    normal = [_normal(name) for name in names]
    positions = {}
    for field in CSV_FIELDS:
        name = next((name for name in (TX_ID_NAMES if field == "tx_id" else (field,)) if name in normal), None)
        if name is None:
            continue
        if normal.count(name) > 1:
            raise FileError(f"{path} cannot be used: column {name!r} appears twice")
        positions[field] = normal.index(name)
    return positions


def _columns(names: list[str], positions: dict[str, int]) -> str:
    """Return a note about columns that are renamed or not sent; empty if there are none."""
    renamed = [f"{names[at]} as {field}" for field, at in positions.items() if _normal(names[at]) != field]
    ignored = [name for at, name in enumerate(names) if at not in positions.values() and name]
    parts = [f"sent {', '.join(renamed)}"] if renamed else []
    parts += [f"not sent {', '.join(ignored)}"] if ignored else []
    return f"columns: {'; '.join(parts)}" if parts else ""


def _problem(cells: list[str], columns: int, amount: str, delimiter: str, decimal_mark: str) -> str:
    """Return why a row is ambiguous; empty if it is not."""
    if any(cell.strip() for cell in cells[columns:]):
        return f"{len(cells)} cells for {columns} columns: a cell that contains {delimiter!r} must be in double quotes"
    if not decimal_mark and AMBIGUOUS_NUMBER.fullmatch(amount):
        return f"amount {amount} is ambiguous: write {re.sub('[.,]', '', amount)} or {amount}0"
    return ""


def _value(field: str, text: str, decimal_mark: str) -> Any:
    """Convert a cell to the type of its field; return the text unchanged if it is not a number."""
    kind = CSV_FIELDS[field]
    if kind is str:
        return text.strip() if field == "tx_id" else text
    number = NUMBER.fullmatch(text.strip())
    if not number or number["mark"] not in {None, decimal_mark}:
        return text
    if number[0].lstrip("+-").isdigit():
        # The request hash of the service distinguishes 5 and 5.0.
        return int(number[0])
    value = float(number[0].replace(",", "."))
    return int(value) if kind is int and value.is_integer() else value


class Keys:
    """Idempotency keys: a hash of the batch name and the content of a row, and a number that tells equal rows apart."""

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._seen: Counter[bytes] = Counter()

    def key(self, row: Row) -> str:
        digest = sha256(f"{self._batch}\n{row.identity}".encode(errors="surrogatepass")).digest()[:16]
        self._seen[digest] += 1
        return f"{digest.hex()}-{self._seen[digest]}"


class Tally:
    """Counts rows by outcome: risk level or ``failed``; and how many of them were replayed."""

    def __init__(self) -> None:
        self.outcome: Counter[str] = Counter()
        self.replayed = 0

    def print(self) -> None:
        total = self.outcome.total()
        print()
        for level in RISK_LEVELS:
            print(f"{level:<8} {self.outcome[level]:>8}  {self.outcome[level] / total:>6.1%}")
        print(f"{'failed':<8} {self.outcome['failed']:>8}")
        if self.replayed:
            print(f"{'replayed':<8} {self.replayed:>8}  already recorded, not counted again; --batch NAME counts them")


def replay(rows: Iterator[Row], url: str, auth: Auth | None, keys: Keys, tally: Tally) -> None:
    """Send the rows in order; raise :class:`UnusableError` if no further row can succeed."""
    reported = time.monotonic()
    with requests.Session() as session:
        session.auth = auth
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        for row in rows:
            if row.note:
                print(_printable(row.note))
            decision, problem = None, row.problem
            if not problem:
                response = _send(session, url, row, keys.key(row))
                decision = _decision(response)
                problem = f"{response.status_code} {_printable(response.text)[:SHOWN_CHARACTERS]}"
                tally.replayed += response.headers.get("Idempotent-Replayed") == "true"
            tally.outcome[decision["risk_level"] if decision else "failed"] += 1
            sent = tally.outcome.total()
            if decision is None:
                print(f"line {row.line}: {problem}", file=sys.stderr)
            elif sent <= SHOWN_ROWS:
                if sent - tally.outcome["failed"] == 1:
                    print(f"{'tx_id':<12} {'amount':>12}  {'level':<8} {'score':>3}  rules")
                _print_row(decision, row.body)
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                print(f"{sent} sent, {tally.outcome['failed']} failed, {tally.replayed} replayed", file=sys.stderr)


def _send(session: requests.Session, url: str, row: Row, key: str) -> requests.Response:
    headers = {"content-type": "application/json", "idempotency-key": key}
    try:
        response = session.post(
            f"{url}/score", row.body.encode(), headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
    except (OSError, ValueError, HTTPError) as error:  # requests also raises errors of its dependencies
        raise UnusableError(_unreachable(url, error)) from error
    status = response.status_code
    text = _printable(response.text)[:SHOWN_CHARACTERS]
    if response.is_redirect:
        raise UnusableError(
            f"{url} redirects to {_printable(response.headers['location'])}: pass that address as --url"
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnusableError(f"{url} refuses the request ({status} {text}): a deployed stack requires --sign or --token")
    is_json = "json" in response.headers.get("content-type", "json")
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED} or (
        status < HTTPStatus.BAD_GATEWAY and not is_json
    ):
        raise UnusableError(f"{url}/score is not a scoring service ({status} {text}): check --url")
    return response


def _unreachable(url: str, error: Exception) -> str:
    """Return a sentence that explains why there is no response, with advice if there is any."""
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy for {url} cannot be used: check HTTP_PROXY and HTTPS_PROXY, or set NO_PROXY"
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    detail = _printable(getattr(root, "strerror", None) or str(root))
    if not isinstance(error, requests.ConnectionError | requests.Timeout):
        return f"{url} cannot be used: {detail}"
    address = urlsplit(url)
    hint = ""
    if address.hostname in {"127.0.0.1", "localhost", "::1"} and isinstance(root, ConnectionRefusedError):
        port = address.port or 80
        hint = f"; start the service with `make run{'' if port == DEFAULT_PORT else f' PORT={port}'}`"
    elif "WRONG_VERSION_NUMBER" in detail:
        hint = "; try http://"
    return f"{url} cannot be reached: {detail}{hint}"


def _decision(response: requests.Response) -> dict[str, Any] | None:
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
    print(_plain(line).rstrip())


def _printable(text: str) -> str:
    """Return the text on one line, without control characters."""
    return _plain(" ".join(text.split()))


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _url(text: str) -> str:
    if not re.match(r"https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text!r} must begin with http:// or https://")
    return text.rstrip("/")


def _explain(stop: UnusableError | KeyboardInterrupt, sent: int) -> str:
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
    stop: UnusableError | KeyboardInterrupt | None = None
    try:
        auth = arguments.auth() if arguments.auth else None
        replay(read(arguments.file), arguments.url, auth, Keys(arguments.batch), tally)
    except (UnusableError, KeyboardInterrupt) as error:
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
    parser.add_argument("--url", type=_url, default=f"http://127.0.0.1:{DEFAULT_PORT}", help="address of the service")
    parser.add_argument("--batch", default="", metavar="NAME", help="count the rows again under this name")
    access = parser.add_mutually_exclusive_group()
    access.add_argument("--sign", action="store_const", dest="auth", const=sigv4, help="sign with your AWS credentials")
    access.add_argument("--token", action="store_const", dest="auth", const=bearer, help="send the token in $TOKEN")
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The encoding of the terminal may lack characters of an id.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 2
    except OSError as error:
        # Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader, `head` for example, stopped early
            return 0
        print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
