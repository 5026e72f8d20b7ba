#!/usr/bin/env python3
"""Send transactions to a scoring service, one after the other, and print its decisions.

    python events/replay.py                              the ten samples, to `make run`
    python events/replay.py FILE --url ADDRESS --sign    a file, to a deployed stack
    python events/replay.py FILE --url ADDRESS --token   the same, where the stack takes tokens; reads $TOKEN

FILE holds JSON Lines, a JSON array or CSV with a header row, and may be compressed with gzip. The script detects the
format by the content, not by the name.

The idempotency key of a row is a hash of its content, so sending a file again counts nothing twice: after an
interruption, run the same command again. Converting a file between CSV and JSON can change its keys. Exits with 1 if a
row failed, with 2 if the file or the service cannot be used.
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
from collections.abc import Iterator
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
# Names of a transaction's id, the more specific first
TX_ID_NAMES = ("tx_id", "transaction_id", "transactionid", "txid", "id")
DELIMITERS = ",;\t|"
# Excel's first line that declares the delimiter
SEPARATOR_LINE = re.compile(rf"sep=([{DELIMITERS}])[\r\n]+", re.IGNORECASE)
# At most 400 digits: a double holds 309, and int() fails from 4,301 on.
NUMBER = re.compile(r"[+-]?\d{1,400}(?:(?P<mark>[.,])\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
# Three decimals, or a thousand and more?
AMBIGUOUS_NUMBER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)

GZIP_MAGIC = b"\x1f\x8b"
# What a file is that holds no text, by its first bytes
SIGNATURES = {
    GZIP_MAGIC: "compressed twice",
    b"PK\x03\x04": "an Excel workbook or another ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel or Office document",
    b"PAR1": "a Parquet file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
}
ACCEPTED = "JSON Lines, a JSON array or CSV, plain or compressed with gzip"
CHUNK_CHARACTERS = 65_536
# Far beyond the 64 KiB that the service takes.
MAX_VALUE_CHARACTERS = 1_048_576
# Only finds where a value ends, so numbers may have any length.
SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
# An object with a list of objects, after values and objects without lists
WRAPPED_ROWS = re.compile(r'\{(?:[^{}\[\]]|\{[^{}\[\]]*\})*"(?P<name>[^"]+)"\s*:\s*\[\s*\{')


class UnusableError(Exception):
    """The file, the address, the credentials or the service cannot be used; the message is a sentence for the user."""


class FileError(UnusableError):
    """The file cannot be used as it is."""


class Row(NamedTuple):
    """A transaction of the file.

    Attributes
    ----------
    line
        Line of the file.
    body
        JSON text to send. Malformed rows are sent too, for the service to name what is wrong.
    identity
        Input of the key: the fields that are sent, and the columns that are not.
    problem
        Why the row cannot be sent, if it cannot.
    note
        What to tell the user before this row.
    """

    line: int
    body: str
    identity: str
    problem: str = ""
    note: str = ""


class SigV4(requests.auth.AuthBase):
    """Sign requests for API Gateway with the AWS credentials of this machine."""

    def __init__(self) -> None:
        try:
            import boto3  # noqa: PLC0415  only a closed API needs it
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise UnusableError(
                f"--sign needs {error.name}, which this Python lacks: "
                "run `make install` once, then `.venv/bin/python events/replay.py`"
            ) from error
        self._errors = BotoCoreError
        try:
            session = boto3.Session()
            credentials, region = session.get_credentials(), session.region_name
        except BotoCoreError as error:
            raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
        if credentials is None or region is None:
            raise UnusableError("--sign needs AWS credentials and a region")
        self._credentials, self._region = credentials, region

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415

        signed = AWSRequest(request.method, request.url, {"content-type": "application/json"}, request.body)
        try:
            SigV4Auth(self._credentials, "execute-api", self._region).add_auth(signed)
        except self._errors as error:
            raise UnusableError(f"--sign cannot use the AWS credentials: {error}") from error
        request.headers.update(dict(signed.headers))
        return request


class Bearer(requests.auth.AuthBase):
    """Send the token of the environment variable ``TOKEN``, which stays out of the command line."""

    def __init__(self) -> None:
        self._token = os.environ.get("TOKEN", "").strip()
        if not self._token:
            raise UnusableError("--token needs a token in the environment variable TOKEN")
        if not re.fullmatch(r"[\x21-\x7e]+", self._token):
            raise UnusableError("the environment variable TOKEN holds characters that no token has")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def read(path: Path) -> Iterator[Row]:
    """Yield the transactions of a file, whose format is detected by its content.

    Raises
    ------
    FileError
        The file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            binary = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(GZIP_MAGIC) else file
            encoding = _encoding(path, binary.peek(CHUNK_CHARACTERS))
            with io.TextIOWrapper(binary, encoding=encoding, newline="") as text:
                yield from _rows(path, text)
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not text in {error.encoding.upper()}: save it as UTF-8 first") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is damaged or cut short: {error}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _encoding(path: Path, head: bytes) -> str:
    """Return the encoding of a text file that begins with ``head``; spreadsheets write UTF-16 and byte order marks."""
    kind = next((kind for magic, kind in SIGNATURES.items() if head.startswith(magic)), None)
    if kind or head[257:262] == b"ustar":
        raise FileError(f"{path} is {kind or 'a tar archive'}; this script reads {ACCEPTED}")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # ASCII in UTF-16 has a zero in every other byte.
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
    if start.startswith("[") or (start.startswith("{") and _ends(first_line) is None and _ends(start)):
        yield from _json_values(path, head, text)
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


def _ends(text: str) -> int | None:
    """Return where the JSON value at the start of ``text`` ends, None if it is malformed or cut."""
    try:
        return SCANNER.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return None


def _wrapper(text: str) -> str | None:
    """Return the name of the list if ``text`` begins with one object around a list of rows, else None."""
    found = WRAPPED_ROWS.match(text)
    end = _ends(text) if found else None
    # An object that does not end here is larger than any transaction.
    if end is not None and (text[end:].strip() or "amount" in SCANNER.decode(text[:end])):
        return None
    return found["name"] if found else None


def _json_values(path: Path, head: str, text: TextIO) -> Iterator[Row]:
    """Yield the items of a JSON array, or objects that take several lines each; reads only as far as it needs to."""
    is_array = head.lstrip().startswith("[")
    buffer, line = (head.replace("[", " ", 1) if is_array else head), 1
    while True:
        value = buffer.lstrip(" \t\r\n,")
        line += buffer.count("\n", 0, len(buffer) - len(value))
        buffer = value
        end = 1 if buffer.startswith("]") and is_array else _ends(buffer)
        # What ends with the buffer may go on in the file, as 12 does in 123.
        if end in {None, len(buffer)} and len(buffer) < MAX_VALUE_CHARACTERS and (more := text.read(CHUNK_CHARACTERS)):
            buffer += more
        elif is_array and not buffer:
            raise FileError(f"{path} is cut short: the array has no closing bracket")
        elif is_array and buffer.startswith("]"):
            if (buffer[1:] + text.read(CHUNK_CHARACTERS)).strip():
                raise FileError(f"{path} has more than one JSON array: text follows the bracket on line {line}")
            return
        elif not buffer:
            return
        elif end is None:
            raise FileError(f"{path} is not valid JSON from line {line} on")
        else:
            yield _json_row(line, buffer[:end])
            line += buffer.count("\n", 0, end)
            buffer = buffer[end:]


def _json_row(line: int, text: str) -> Row:
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            names = {_normal(name): name for name in reversed(value)}
            name = next((names[name] for name in TX_ID_NAMES if name in names), "tx_id")
            # The service takes text only.
            if name != "tx_id" or type(value.get(name)) is int:
                tx_id = value.pop(name)
                value = {"tx_id": str(tx_id) if type(tx_id) is int else tx_id, **value}
                text = json.dumps(value)
        return Row(line, text, _identity(value, {}))
    except (ValueError, RecursionError):
        return Row(line, text, text)


def _identity(sent: Any, not_sent: dict[str, str]) -> str:
    # Kept apart, because the service refuses a key it knows with another body.
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
    # Next to commas decimals are written with a point; next to other delimiters the first amount tells.
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
    """Yield the cells of each row that is not blank, with the line on which the row begins."""
    # Without strict, an unclosed quote swallows the rows after it.
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
    """Return the delimiter that splits the header so that one of its columns is ``amount``."""
    for delimiter in candidates:
        if "amount" in map(_normal, next(csv.reader([header], delimiter=delimiter))):
            return delimiter
    shown = _printable(header)[:SHOWN_CHARACTERS]
    raise FileError(f"{path} is neither JSON nor CSV with a column 'amount': its first line is {shown!r}")


def _positions(path: Path, names: list[str]) -> dict[str, int]:
    """Return which column holds each field of a transaction."""
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
    """Say which columns are sent under another name or not at all; an empty string if none is."""
    renamed = [f"{names[at]} as {field}" for field, at in positions.items() if _normal(names[at]) != field]
    ignored = [name for at, name in enumerate(names) if at not in positions.values() and name]
    parts = [f"sent {', '.join(renamed)}"] if renamed else []
    parts += [f"not sent {', '.join(ignored)}"] if ignored else []
    return f"columns: {'; '.join(parts)}" if parts else ""


def _problem(cells: list[str], columns: int, amount: str, delimiter: str, decimal_mark: str) -> str:
    """Return why a row would be misread, or an empty string."""
    if any(cell.strip() for cell in cells[columns:]):
        return f"{len(cells)} cells for {columns} columns: a cell that contains {delimiter!r} must be in double quotes"
    if not decimal_mark and AMBIGUOUS_NUMBER.fullmatch(amount):
        return f"amount {amount} is ambiguous: write {re.sub('[.,]', '', amount)} or {amount}0"
    return ""


def _value(field: str, text: str, decimal_mark: str) -> Any:
    """Return a cell as the service takes it, or unchanged if it is not a number."""
    kind = CSV_FIELDS[field]
    if kind is str:
        return text.strip() if field == "tx_id" else text
    number = NUMBER.fullmatch(text.strip())
    if not number or number["mark"] not in {None, decimal_mark}:
        return text
    if number[0].lstrip("+-").isdigit():
        # As JSON has it: the service tells 5 from 5.0.
        return int(number[0])
    value = float(number[0].replace(",", "."))
    return int(value) if kind is int and value.is_integer() else value


class Keys:
    """Derives an idempotency key from each row: a hash of its content, and which of its equals in the file it is.

    Parameters
    ----------
    batch
        Part of the hash: the same rows have other keys in another batch.
    """

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._seen: Counter[bytes] = Counter()

    def key(self, row: Row) -> str:
        digest = sha256(f"{self._batch}\n{row.identity}".encode(errors="surrogatepass")).digest()[:16]
        self._seen[digest] += 1
        return f"{digest.hex()}-{self._seen[digest]}"


class Tally:
    """Counts what became of the rows: by risk level, ``failed``, and how many were ``replayed``."""

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


def replay(rows: Iterator[Row], url: str, auth: requests.auth.AuthBase | None, keys: Keys, tally: Tally) -> None:
    """Send the rows in their order.

    Raises
    ------
    UnusableError
        The file or the service cannot be used, or the service refuses every request of this caller.
    """
    reported = time.monotonic()
    with requests.Session() as session:
        session.auth = auth
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        for row in rows:
            if row.note:
                print(_printable(row.note))
            answer, problem = None, row.problem
            if not problem:
                response = _send(session, url, row, keys.key(row))
                answer = _answer(response)
                problem = f"{response.status_code} {_printable(response.text)[:SHOWN_CHARACTERS]}"
                tally.replayed += response.headers.get("Idempotent-Replayed") == "true"
            tally.outcome[answer["risk_level"] if answer else "failed"] += 1
            sent = tally.outcome.total()
            if answer is None:
                print(f"line {row.line}: {problem}", file=sys.stderr)
            elif sent <= SHOWN_ROWS:
                if sent - tally.outcome["failed"] == 1:
                    print(f"{'tx_id':<12} {'amount':>12}  {'level':<8} {'score':>3}  rules")
                _print_row(answer, row.body)
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                print(f"{sent} sent, {tally.outcome['failed']} failed, {tally.replayed} replayed", file=sys.stderr)


def _send(session: requests.Session, url: str, row: Row, key: str) -> requests.Response:
    headers = {"content-type": "application/json", "idempotency-key": key}
    try:
        response = session.post(
            f"{url}/score", row.body.encode(), headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
    except (OSError, ValueError, HTTPError) as error:  # requests raises more than its own errors
        raise UnusableError(_unreachable(url, error)) from error
    status = response.status_code
    text = _printable(response.text)[:SHOWN_CHARACTERS]
    if response.is_redirect:
        raise UnusableError(
            f"{url} redirects to {_printable(response.headers['location'])}: pass that address as --url"
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnusableError(f"{url} refuses the request ({status} {text}): a deployed stack asks for --sign or --token")
    is_json = "json" in response.headers.get("content-type", "json")
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED} or (
        status < HTTPStatus.BAD_GATEWAY and not is_json
    ):
        raise UnusableError(f"{url}/score is not a scoring service ({status} {text}): check --url")
    return response


def _unreachable(url: str, error: Exception) -> str:
    """Return a sentence that says why no response came, and what to do where that is known."""
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


def _answer(response: requests.Response) -> dict[str, Any] | None:
    """Return the decision of a response, None if it is something else."""
    if response.status_code != HTTPStatus.OK:
        return None
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return None
    is_decision = isinstance(answer, dict) and answer.get("risk_level") in RISK_LEVELS
    return answer if is_decision else None


def _print_row(answer: dict[str, Any], body: str) -> None:
    try:
        amount = f"{json.loads(body)['amount']:.2f}"
    except (ValueError, LookupError, TypeError, ArithmeticError):
        amount = "?"  # more digits than a double holds, for example
    tx_id, score, rules = (answer.get(name, "?") for name in ("tx_id", "score", "triggered_rules"))
    labels = ", ".join(map(str, rules)) if isinstance(rules, list) else "?"
    line = f"{tx_id!s:<12} {amount:>12}  {answer['risk_level']:<8} {score!s:>3}  {labels}"
    print(_plain(line).rstrip())


def _printable(text: str) -> str:
    """Return a text on one line, without what a terminal would obey."""
    return _plain(" ".join(text.split()))


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _url(text: str) -> str:
    if not re.match(r"https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text!r} must begin with http:// or https://")
    return text.rstrip("/")


def _explain(stop: UnusableError | KeyboardInterrupt, sent: int) -> str:
    """Return a sentence that says why the replay stopped, and how to continue."""
    problem = str(stop) or "interrupted"
    if not sent:
        return problem
    rows = "1 row" if sent == 1 else f"{sent} rows"
    if isinstance(stop, FileError):
        return f"stopped after {rows}: {problem}; mend it and run the command again"
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
        stop = FileError(f"{arguments.file} holds no transactions")
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
    access.add_argument("--sign", action="store_const", dest="auth", const=SigV4, help="with your AWS credentials")
    access.add_argument("--token", action="store_const", dest="auth", const=Bearer, help="with the token in $TOKEN")
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal need not know every character of an id.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, `head` for example, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 2
    except OSError as error:
        print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
