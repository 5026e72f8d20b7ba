"""Read the transactions of a Parquet file, as events/rows.py reads those of other files."""

import datetime as dt
import decimal
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from events.rows import BUILT_IN_FIELDS, FileError, Row, normal_name

MAGIC = b"PAR1"
_BATCH_ROWS = 10_000


def is_parquet(path: Path) -> bool:
    """Return whether a file begins as Parquet files do; a file that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


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
    # Imported here, since only Parquet needs it.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {**BUILT_IN_FIELDS, **fields()}
    line = 1
    try:
        with pq.ParquetFile(path) as file:
            names = _names(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(_BATCH_ROWS):
                for values in batch.rename_columns(names).to_pylist():
                    found = {name: value for name, value in values.items() if not _is_missing(value)}
                    sent = {name: _value(types[name], value) for name, value in found.items() if name in types}
                    body = json.dumps(sent, default=str)
                    yield Row(line, body, body, fields={**found, **sent})
                    line += 1
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


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


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


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
    return bool(value) if kind == "boolean" and value in {0, 1} else value
