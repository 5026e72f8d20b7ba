"""Read the transactions of a file in any format, and their labels."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from events import rows
from events.rows import FileError, Row
from functions.offline import parquet

ACCEPTED = f"{rows.ACCEPTED}, or Parquet"
# Texts of the labels, in JSON and CSV
_FRAUD = {"0": False, "1": True, "false": False, "true": True}
_IS_FRAUD: dict[Any, bool] = {**_FRAUD, False: False, True: True}


def columns(text: str) -> dict[str, str]:
    """Return the field for each column in an option such as ``ts=timestamp customer=customer_id``."""
    found = {}
    for pair in text.split():
        column, _, field = pair.partition("=")
        if not (column and field):
            raise argparse.ArgumentTypeError(f"{pair!r} is not COLUMN=FIELD")
        found[column] = field
    return found


class Source:
    """The transactions of a file.

    Parameters
    ----------
    path
        JSON Lines, a JSON array, CSV or Parquet.
    columns
        For Parquet, the field for each column that has another name.

    Raises
    ------
    FileError
        Columns of another format would be renamed; or the Parquet file cannot be read.
    """

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self.path = path
        self._columns = columns
        self._is_parquet = parquet.is_parquet(path)
        self._size = 0
        self._file: BinaryIO | None = None
        self._line = 0
        if self._is_parquet:
            self._size = parquet.count(path)
        elif columns:
            raise FileError(f"{path} is not a Parquet file: only columns of Parquet files can be renamed")

    def rows(self, types: Mapping[str, str]) -> Iterator[Row]:
        """Yield the transactions; cells get the types of the declared fields.

        Raises
        ------
        FileError
            The file cannot be read or has another format.
        """
        if self._is_parquet:
            for row in parquet.rows(self.path, lambda: types, self._columns):
                self._line = row.line
                yield row
        else:
            yield from rows.read(self.path, lambda: types, self._watch)

    def share(self) -> float | None:
        """Return how much of the file has been read, from 0 to 1; None if that is unknown, as for a pipe."""
        if not self._size:
            return None
        if not self._file:
            return self._line / self._size
        return 1.0 if self._file.closed else self._file.tell() / self._size

    def is_fraud(self, row: Row, label: str) -> bool:
        """Return the label of a row. A malformed row is invalid, so it needs none.

        Raises
        ------
        FileError
            The row has no label, or another one than 0, 1, true and false.
        """
        if row.problem:
            return False
        try:
            found = row.value(label)
        except KeyError:
            if not row.fields:
                return False
            raise FileError(f"{self.path} line {row.line} has no label {label!r}") from None
        try:
            return _IS_FRAUD[found]
        except (KeyError, TypeError):
            text = str(found)
        is_fraud = _FRAUD.get(text.strip().lower())
        if is_fraud is None:
            raise FileError(
                f"{self.path} line {row.line}: the label {label!r} must be 0, 1, true or false, "
                f"not {text[: rows.SHOWN_CHARACTERS]!r}"
            )
        return is_fraud

    def _watch(self, file: BinaryIO) -> None:
        self._file = file
        self._size = self.path.stat().st_size
