"""Read the transactions of a file: JSON Lines, a JSON array or CSV, plain or compressed with gzip.

The format is detected from the content, not from the name. Uses the standard library only.
"""

import codecs
import csv
import functools
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TextIO

# Types of fields, as a rule set declares them
TYPES = ("string", "number", "integer", "boolean", "time")
BUILT_IN_FIELDS = {
    "tx_id": "string",
    "amount": "number",
    "category": "string",
    "store": "string",
    "hour": "integer",
    "customer_id": "string",
    "timestamp": "time",
}
# The key of a CSV row depends on these and on the text of all other columns. They must not change, or a file that is
# sent again would be counted again.
_IDENTITY_FIELDS = frozenset({"tx_id", "amount", "category", "store", "hour"})
# Names that are sent as tx_id, in order of precedence
TX_ID_NAMES = ("tx_id", "transaction_id", "transactionid", "txid", "id")
DELIMITERS = ",;\t|"
# First line with which Excel declares the delimiter
SEPARATOR_LINE = re.compile(rf"sep=([{DELIMITERS}])[\r\n]+", re.IGNORECASE)
# int() rejects more than 4,300 digits; a double has at most 309.
NUMBER = re.compile(r"[+-]?\d{1,400}(?:(?P<mark>[.,])\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
# Spreadsheets write integers as 3.0; a double holds only 15 digits exactly.
WHOLE_FRACTION = re.compile(r"[.,]0+$", re.ASCII)
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
CACHED_CELLS = 1_024
# A body of this length is shorter than all that the service refuses.
SHORT_BYTES = 32_768
# Longest JSON of a character in a string: two escapes of six characters, such as \\ud83d
ESCAPED_BYTES = 12
# Longest JSON of a number whose cell is short, such as 1e308, with the quotes, the colon and the comma of its field
NUMBER_BYTES = 400
SHOWN_CHARACTERS = 200
# Finds the end of a value; numbers stay text, so that their length is not limited.
SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
# Start of a value in an array or between objects
JSON_VALUE = re.compile(r"[^ \t\r\n,]")
# The start of an object up to its first list, if that is a list of objects
WRAPPED_ROWS = re.compile(r'\{(?:[^{}\[\]]|\{[^{}\[\]]*\})*"(?P<name>[^"]+)"\s*:\s*\[\s*\{')


class FileError(Exception):
    """The file cannot be used; the user reads the message."""


class Row(Protocol):
    """A transaction of the file."""

    @property
    def line(self) -> int:
        """Number of its first line."""

    @property
    def problem(self) -> str:
        """Why the row cannot be sent; empty if it can."""

    @property
    def note(self) -> str:
        """Message to print before this row."""

    @property
    def body(self) -> str:
        """JSON text to send. A malformed row is sent too, so that the service names the problem."""

    @property
    def document(self) -> dict[str, Any] | None:
        """Content of the body, if the file has no JSON, and the body is certainly short; else None."""

    @property
    def identity(self) -> str:
        """Input of the idempotency key: the content of the row, the same whether or not its columns are declared."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Its fields in JSON, or its columns by normalized name, sent or not; empty if the row is malformed."""

    def value(self, name: str) -> Any:
        """Return a field, or a column, by its name or normalized name; raise KeyError if the row has none."""

    def sent(self, field: str) -> Any:
        """Return a field as it is sent; None if the row has none."""

    def can_have(self, field: str) -> bool:
        """Return whether any row of the file can have a field."""


class JsonRow(NamedTuple):
    """A :class:`Row` that the file has as JSON text.

    Attributes
    ----------
    content
        What the text contains.
    is_malformed
        Whether it contains nothing, since it is no JSON or repeats a name.
    """

    line: int
    body: str
    content: Any = None
    is_malformed: bool = False
    problem: str = ""
    note: str = ""

    @property
    def document(self) -> None:
        return None

    @property
    def identity(self) -> str:
        try:
            return self.body if self.is_malformed else _identity(self.content, {})
        except RecursionError:
            return self.body

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.content if isinstance(self.content, dict) else {}

    def value(self, name: str) -> Any:
        fields = self.fields
        return fields[name] if name in fields else fields[normal_name(name)]

    def sent(self, field: str) -> Any:
        return self.fields.get(field)

    def can_have(self, field: str) -> bool:  # noqa: ARG002  JSON has no columns
        return True


class CsvRow(NamedTuple):
    """A :class:`Row` of cells.

    Attributes
    ----------
    transaction
        The cells of fields, converted to their types.
    cells
        All cells.
    columns
        The columns of the file.
    """

    line: int
    transaction: dict[str, Any]
    cells: list[str]
    columns: "_Columns"
    problem: str = ""
    note: str = ""

    @property
    def body(self) -> str:
        return json.dumps(self.transaction)

    @property
    def document(self) -> dict[str, Any] | None:
        is_short = self.columns.max_bytes + ESCAPED_BYTES * sum(map(len, self.cells)) <= SHORT_BYTES
        return self.transaction if is_short else None

    @property
    def identity(self) -> str:
        values = {field: value for field, value in self.transaction.items() if field in _IDENTITY_FIELDS}
        return _identity(values, self._others())

    @property
    def fields(self) -> Mapping[str, Any]:
        return {normal_name(name): cell for name, cell in self._others().items()} | self.transaction

    def value(self, name: str) -> Any:
        index = self.columns.index
        at = index[name] if name in index else index[normal_name(name)]
        if at >= len(self.cells):
            raise KeyError(name)
        return self.cells[at]

    def sent(self, field: str) -> Any:
        return self.transaction.get(field)

    def can_have(self, field: str) -> bool:
        return field in self.columns.positions

    def _others(self) -> dict[str, str]:
        """Return the cells whose text is part of the identity, by the names of their columns."""
        columns = self.columns
        cells = enumerate(zip(columns.names, self.cells, strict=False))
        return {name: cell for at, (name, cell) in cells if at not in columns.identifying}


class _Columns:
    """The columns of a file, and which are fields.

    Parameters
    ----------
    names
        Their names in the file.
    positions
        By field, the index of its column.
    types
        By field, its type.

    Attributes
    ----------
    index
        Index by normalized name.
    identifying
        Indexes of those whose converted values are part of a row's identity.
    max_bytes
        Upper limit of the length of a body, without the characters of its cells.
    """

    def __init__(self, names: list[str], positions: Mapping[str, int], types: Mapping[str, str]) -> None:
        self.names = names
        self.index = {normal_name(name): at for at, name in enumerate(names)}
        self.positions = positions
        self.types = types
        self.identifying = {at for field, at in positions.items() if field in _IDENTITY_FIELDS}
        self.max_bytes = sum(ESCAPED_BYTES * len(field) + NUMBER_BYTES for field in positions) + 2

    def converters(self, decimal_mark: str) -> list[tuple[str, int, Callable[[str], Any] | None]]:
        """Return name, index and conversion of each field; cells of fields without conversion are sent as they are."""
        return [(field, at, _converter(field, self.types[field], decimal_mark)) for field, at in self.positions.items()]


class Keys:
    """Idempotency keys: a hash of the batch name and the content of a row, and a number that tells equal rows apart."""

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._seen: Counter[bytes] = Counter()

    def key(self, row: Row) -> str:
        digest = sha256(f"{self._batch}\n{row.identity}".encode(errors="surrogatepass")).digest()[:16]
        self._seen[digest] += 1
        return f"{digest.hex()}-{self._seen[digest]}"


def read(
    path: Path, fields: Callable[[], Mapping[str, str]], watch: Callable[[BinaryIO], object] | None = None
) -> Iterator[Row]:
    """Yield the transactions of a file.

    Parameters
    ----------
    path
        A file or a pipe.
    fields
        Returns the names and :data:`TYPES` of the fields that a rule set declares; may omit the built-in fields. Called
        once at most: for CSV, whose cells have no types, and for a JSON row that may have its ``tx_id`` under another
        name.
    watch
        Called with the opened file, whose position then shows how much of it has been read.

    Raises
    ------
    FileError
        The file cannot be read or has another format.
    """
    fields = functools.cache(fields)
    with opened(path, watch) as text:
        yield from _rows(path, text, fields)


@contextmanager
def opened(path: Path, watch: Callable[[BinaryIO], object] | None = None) -> Iterator[TextIO]:
    """Open a text file, plain or compressed, in the encoding that its first bytes show.

    Parameters
    ----------
    path
        The file.
    watch
        Called with the opened file.

    Raises
    ------
    FileError
        The file cannot be opened, or the block has read something that cannot be decoded.
    """
    try:
        with path.open("rb") as file:
            if watch:
                watch(file)
            binary = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(GZIP_MAGIC) else file
            encoding = _encoding(path, binary.peek(CHUNK_CHARACTERS))
            with io.TextIOWrapper(binary, encoding=encoding, newline="") as text:
                yield text
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not valid {error.encoding.upper()}: save it as UTF-8 first") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is damaged or truncated: {error}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def normal_name(name: str) -> str:
    """Return the name of a column as fields are named: ``Customer ID`` is ``customer_id``."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


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


def _rows(path: Path, text: TextIO, fields: Callable[[], Mapping[str, str]]) -> Iterator[Row]:
    head = text.read(CHUNK_CHARACTERS)
    start = head.lstrip()
    first_line = _first_line(start)
    if start.startswith("<"):
        raise FileError(f"{path} looks like HTML or XML; this script reads {ACCEPTED}")
    if name := _wrapper(start):
        raise FileError(f"{path} is one object, not a list; the rows seem to be under {name!r}")
    if start.startswith("[") or (start.startswith("{") and _end(first_line) is None and _end(start)):
        yield from _json_values(path, head + text.read(), fields)
    elif start.startswith("{"):
        lines = enumerate(_lines(head, text), start=1)
        yield from (_json_row(number, line.strip(), fields) for number, line in lines if line.strip())
    elif start:
        yield from _csv_rows(path, start, _lines(head, text), fields)


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


def _json_values(path: Path, text: str, fields: Callable[[], Mapping[str, str]]) -> Iterator[Row]:
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
        yield _json_row(line, text[start:end], fields)
        line += text.count("\n", start, end)
        position = end
    if is_array:
        raise FileError(f"{path} is truncated: the array has no closing bracket")


def _json_row(line: int, text: str, fields: Callable[[], Mapping[str, str]]) -> JsonRow:
    try:
        value = json.loads(text, object_pairs_hook=_object)
        if isinstance(value, dict):
            names = {normal_name(name): name for name in reversed(value)}
            # A field `id` is not sent as tx_id if the rule set declares it.
            name = next((names[name] for name in TX_ID_NAMES if name in names and _is_tx_id(name, fields)), "tx_id")
            # The service accepts only strings.
            if name != "tx_id" or type(value.get(name)) is int:
                tx_id = value.pop(name)
                value = {"tx_id": str(tx_id) if type(tx_id) is int else tx_id, **value}
                text = json.dumps(value)
        return JsonRow(line, text, value)
    except (ValueError, RecursionError):
        return JsonRow(line, text, is_malformed=True)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # Renaming a field would drop the repeated one; the service refuses the row as it is.
        raise ValueError("repeated name")
    return value


def _is_tx_id(name: str, fields: Callable[[], Mapping[str, str]]) -> bool:
    return name == "tx_id" or name not in fields()


def _identity(fields: Any, other_cells: dict[str, str]) -> str:
    # Two parts, so that a CSV row never shares the key of a JSON row that also sends the other columns.
    return json.dumps([fields, other_cells], sort_keys=True)


def _csv_rows(path: Path, head: str, lines: Iterator[str], declared: Callable[[], Mapping[str, str]]) -> Iterator[Row]:
    separator = SEPARATOR_LINE.match(head)
    header = head[separator.end() :] if separator else head
    delimiter = _delimiter(path, _first_line(header), separator[1] if separator else DELIMITERS)
    rows = csv_cells(path, lines, delimiter)
    if separator:
        next(rows)
    _, names = next(rows)
    fields = {**BUILT_IN_FIELDS, **declared()}
    positions = _positions(path, names, fields)
    columns = _Columns(names, positions, fields)
    note = _note(names, positions)
    # With commas as delimiters, the decimal mark is a point; otherwise the first fraction determines it.
    decimal_mark = "." if delimiter == "," else ""
    converters, width = columns.converters(decimal_mark), len(names)
    for line, cells in rows:
        problem = _surplus(cells, width, delimiter) if len(cells) > width else ""
        if not decimal_mark and not problem:
            numbers = {
                field: cells[at].strip()
                for field, at in positions.items()
                if fields[field] == "number" and at < len(cells)
            }
            decimal_mark = _decimal_mark(numbers.values())
            converters = columns.converters(decimal_mark)
            problem = "" if decimal_mark else _ambiguity(numbers)
        transaction = {}
        for field, at, convert in converters:
            if at < len(cells):
                text = cells[at]
                if text and not text.isspace():
                    transaction[field] = convert(text) if convert else text
        yield CsvRow(line, transaction, cells, columns, problem, note)
        note = ""


def csv_cells(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and the cells of each row that is not blank."""
    # Without strict, an unclosed quote would swallow the rows that follow.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"{path} is not valid CSV from line {line} on: {error}") from error


def _delimiter(path: Path, header: str, candidates: str) -> str:
    """Return the delimiter with which the header has a column ``amount``."""
    for delimiter in candidates:
        if "amount" in map(normal_name, next(csv.reader([header], delimiter=delimiter))):
            return delimiter
    raise FileError(
        f"{path} is neither JSON nor CSV with a column 'amount': its first line is {header[:SHOWN_CHARACTERS]!r}"
    )


def _positions(path: Path, names: list[str], fields: Mapping[str, str]) -> dict[str, int]:
    """Return the column index of each field that the file has."""
    normal = [normal_name(name) for name in names]
    positions = {}
    for field in fields:
        # A column `id` is not sent as tx_id if `id` is a field itself.
        candidates = TX_ID_NAMES if field == "tx_id" else (field,)
        name = next((name for name in candidates if name in normal and (name == field or name not in fields)), None)
        if name is None:
            continue
        if normal.count(name) > 1:
            raise FileError(f"{path} cannot be used: column {name!r} appears twice")
        positions[field] = normal.index(name)
    return positions


def _note(names: list[str], positions: Mapping[str, int]) -> str:
    """Return a note about columns that are renamed or not sent; empty if there are none."""
    renamed = [f"{names[at]} as {field}" for field, at in positions.items() if normal_name(names[at]) != field]
    ignored = [name for at, name in enumerate(names) if at not in positions.values() and name]
    parts = [f"sent {', '.join(renamed)}"] if renamed else []
    parts += [f"not sent {', '.join(ignored)}"] if ignored else []
    return f"columns: {'; '.join(parts)}" if parts else ""


def _surplus(cells: list[str], columns: int, delimiter: str) -> str:
    """Return why a row has more cells than columns; empty if it has not."""
    if any(cell.strip() for cell in cells[columns:]):
        return f"{len(cells)} cells for {columns} columns: a cell that contains {delimiter!r} must be in double quotes"
    return ""


def _decimal_mark(numbers: Iterable[str]) -> str:
    """Return the decimal mark of the first number that has one for certain; empty if none has."""
    for text in numbers:
        number = NUMBER.fullmatch(text)
        if number and number["mark"] and not AMBIGUOUS_NUMBER.fullmatch(text):
            return number["mark"]
    return ""


def _ambiguity(numbers: Mapping[str, str]) -> str:
    """Return which number is ambiguous as long as the decimal mark is unknown; empty if none is."""
    for field, text in numbers.items():
        if AMBIGUOUS_NUMBER.fullmatch(text):
            return f"{field} {text} is ambiguous: write {re.sub('[.,]', '', text)} or {text}0"
    return ""


def _converter(field: str, kind: str, decimal_mark: str) -> Callable[[str], Any] | None:
    """Return a function that converts a cell to the type of its field; None if the cell is sent as it is.

    A cell of another type is sent as text, for the service to refuse.
    """
    if kind == "string":
        return str.strip if field == "tx_id" else None
    if kind == "time":
        return str.strip
    if kind == "boolean":
        return lambda text: {"true": True, "false": False}.get(text.strip().lower(), text)
    if kind == "integer":
        # Most columns of integers have few different ones.
        return functools.lru_cache(CACHED_CELLS)(lambda text: _number(text, decimal_mark, is_integer=True))
    return lambda text: _number(text, decimal_mark)


def _number(text: str, decimal_mark: str, *, is_integer: bool = False) -> Any:
    number = NUMBER.fullmatch(text.strip())
    if not number:
        return text
    digits, mark = number.group(0, "mark")
    if mark is None:
        if digits.lstrip("+-").isdigit():
            return int(digits)
    elif mark != decimal_mark:
        return text
    if is_integer and (whole := WHOLE_FRACTION.sub("", digits)).lstrip("+-").isdigit():
        # The request hash of the service distinguishes 5 and 5.0.
        return int(whole)
    value = float(digits.replace(",", "."))
    return int(value) if is_integer and value.is_integer() else value
