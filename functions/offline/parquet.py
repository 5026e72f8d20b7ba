"""Read the transactions of a Parquet file, as events/rows.py reads those of other files."""

import datetime as dt
import decimal
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from events.rows import BUILT_IN_FIELDS, ESCAPED_BYTES, NUMBER_BYTES, SHORT_BYTES, FileError, Row, normal_name

MAGIC = b"PAR1"
_BATCH_ROWS = 10_000
# Types of values that JSON has
_PLAIN = {str, int, float, bool, type(None)}


class _Columns(NamedTuple):
    """The columns of a batch.

    Attributes
    ----------
    sent
        Names of those that are fields.
    others
        Index of each other column, by its name.
    is_short
        Whether the body of every row is certainly short, and contains what the row does.
    """

    sent: tuple[str, ...]
    others: Mapping[str, int]
    is_short: bool


class ParquetRow(NamedTuple):
    """A :class:`~events.rows.Row` of values. ``unsent`` are those of the columns that are no fields."""

    line: int
    transaction: dict[str, Any]
    unsent: tuple[Any, ...]
    columns: _Columns
    problem: str = ""
    note: str = ""

    @property
    def body(self) -> str:
        return json.dumps(self.transaction, default=str)

    @property
    def document(self) -> dict[str, Any] | None:
        return self.transaction if self.columns.is_short else None

    @property
    def identity(self) -> str:
        return self.body

    @property
    def fields(self) -> Mapping[str, Any]:
        others = {name: self.unsent[at] for name, at in self.columns.others.items()}
        return {name: value for name, value in others.items() if value is not None} | self.transaction

    def value(self, name: str) -> Any:
        others = self.columns.others
        at = others[name] if name in others else others[normal_name(name)]
        if self.unsent[at] is None:
            raise KeyError(name)
        return self.unsent[at]

    def sent(self, field: str) -> Any:
        return self.transaction.get(field)

    def can_have(self, field: str) -> bool:
        return field in self.columns.sent


def is_parquet(path: Path) -> bool:
    """Return whether a file begins as Parquet files do; a pipe, or a file that cannot be read, does not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def count(path: Path) -> int:
    """Return the number of transactions in a file; raise FileError if it cannot be read."""
    # Imported here and below, since only Parquet needs it.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def rows(path: Path, fields: Callable[[], Mapping[str, str]], columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the transactions of a file.

    A null or NaN is a missing field. A date or time without an offset is in UTC. An integer becomes text if the field
    is a string.

    Parameters
    ----------
    path
        The file.
    fields
        Returns the names and types of the fields that a rule set declares; may omit the built-in fields.
    columns
        The field for each column that has another name.

    Raises
    ------
    FileError
        The file cannot be read, or has not the columns.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {**BUILT_IN_FIELDS, **fields()}
    line = 1
    try:
        with pq.ParquetFile(path) as file:
            names = _names(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from _rows_of(dict(zip(names, batch.columns, strict=True)), batch.num_rows, types, line)
                line += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _rows_of(batch: Mapping[str, Any], number: int, types: Mapping[str, str], line: int) -> Iterator[Row]:
    """Yield the rows of a batch of columns; the first has this line."""
    sent = {name: _values(column, types[name]) for name, column in batch.items() if name in types}
    others = {name: _values(column) for name, column in batch.items() if name not in types}
    columns = _Columns(tuple(sent), {name: at for at, name in enumerate(others)}, _are_short(sent))
    # Of no columns, zip() would make no rows.
    unsent = zip(*others.values(), strict=True) if others else [()] * number
    for at, (values, rest) in enumerate(zip(zip(*sent.values(), strict=True), unsent, strict=True), start=line):
        transaction = {name: value for name, value in zip(columns.sent, values, strict=True) if value is not None}
        yield ParquetRow(at, transaction, rest, columns)


def _values(column: Any, kind: str = "") -> list[Any]:
    """Return the values of a column as a field of this type has them in JSON; None for a missing one."""
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_dictionary(column.type):
        # Values one by one would be looked up slowly.
        column = column.dictionary_decode()
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type):
        values = [None if value is None or math.isnan(value) else value for value in values]
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if (
        not kind
        or is_text
        or (is_number and kind == "number")
        or (pa.types.is_integer(column.type) and kind == "integer")
    ):
        return values
    return [value if value is None else _value(kind, value) for value in values]


def _are_short(sent: Mapping[str, list[Any]]) -> bool:
    total = 2
    for name, values in sent.items():
        if not {*map(type, values)} <= _PLAIN:
            return False
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
        total += NUMBER_BYTES + ESCAPED_BYTES * (len(name) + longest)
    return total <= SHORT_BYTES


def _names(path: Path, found: list[str], columns: Mapping[str, str]) -> list[str]:
    for column in columns:
        if column not in found:
            raise FileError(f"{path} has no column {column!r}; it has {', '.join(found)}")
    names = [columns.get(name) or normal_name(name) for name in found]
    for name in names:
        if names.count(name) > 1:
            raise FileError(f"{path} cannot be used: column {name!r} appears twice")
    if "amount" not in names:
        raise FileError(f"{path} has no column 'amount'; it has {', '.join(found)}")
    return names


def _unreadable(path: Path, error: Exception) -> FileError:
    return FileError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}")


def _value(kind: str, value: Any) -> Any:
    """Return a value as JSON has it; one of another type stays as it is, for the service to refuse."""
    if isinstance(value, dt.date):
        time = value if isinstance(value, dt.datetime) else dt.datetime.combine(value, dt.time())
        return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).isoformat().replace("+00:00", "Z")
    if isinstance(value, decimal.Decimal):
        return float(value)
    if kind == "string" and type(value) is int:
        return str(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return bool(value) if kind == "boolean" and value in (0, 1) else value
