"""The CSV files of ``events/lists.py``."""

import gzip
from pathlib import Path

import pytest

from events import lists
from events.rows import FileError

NOT_IN_A_URL = "an entry that begins with a slash, or has '//' or a segment '.' or '..', cannot be sent in a URL"


def read(path: Path, content: str | bytes) -> list[lists.Row]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(lists.read(path))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("entry\na\nb\n", [(2, "a", {}), (3, "b", {})]),
        ("entry\r\na\r\n\r\nb", [(2, "a", {}), (4, "b", {})]),
        ("\ufeffEntry, Reason\na,r\n", [(2, "a", {"reason": "r"})]),
        ("sep=;\nentry;reason\na;r\n", [(3, "a", {"reason": "r"})]),
        ("expires_at;entry\n2126-01-01T00:00:00Z;a\n", [(2, "a", {"expires_at": "2126-01-01T00:00:00Z"})]),
        ("entry\treason\na\t \nb\n", [(2, "a", {}), (3, "b", {})]),
        ("entry,added_at\na,2026-11-25T08:30:00Z\n", [(2, "a", {})]),
        (
            'entry,reason\n"a,""b""","two\nlines"\nc,d\n',
            [(2, 'a,"b"', {"reason": "two\nlines"}), (4, "c", {"reason": "d"})],
        ),
        ("entry\n a \n", [(2, " a ", {})]),
        ("entry\na/b/\n", [(2, "a/b/", {})]),
        ("entry\n...\n", [(2, "...", {})]),
        ("entry\nŁódź 🂡\n", [(2, "Łódź 🂡", {})]),
        ("entry\nŁódź\n".encode("utf-16"), [(2, "Łódź", {})]),
        (gzip.compress(b"entry\na\n", mtime=0), [(2, "a", {})]),
        ("entry\n", []),
    ],
)
def test_rows(tmp_path: Path, content: str | bytes, rows: list[tuple[int, str, dict[str, str]]]) -> None:
    assert [row[:3] for row in read(tmp_path / "file", content)] == rows


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a,r,,x", "4 cells for 3 columns: a cell that contains ',' must be in double quotes"),
        (",r,", "the entry is blank"),
        ("/a,,", NOT_IN_A_URL),
        ("a//b,,", NOT_IN_A_URL),
        ("..,,", NOT_IN_A_URL),
        ("a/../b,,", NOT_IN_A_URL),
        ("a/.,,", NOT_IN_A_URL),
        ("a,r,,,", ""),
    ],
)
def test_rows_that_cannot_be_sent(tmp_path: Path, row: str, problem: str) -> None:
    first, second = read(tmp_path / "file", f"entry,reason,expires_at\n{row}\nb,,\n")
    assert (first.line, first.problem) == (2, problem)
    assert (second.line, second.problem) == (3, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not CSV with a column 'entry': its first line is ''"),
        ("a\nb\n", "is not CSV with a column 'entry': its first line is 'a'"),
        ('{"entry": "a"}\n', "is not CSV with a column 'entry'"),
        ("entry,expire_at\na,x\n", "column 'expire_at' is none of entry, reason, expires_at, added_at"),
        ("entry,,\na,x\n", "column '' is none of"),
        ("entry,reason,Reason\na,x,y\n", "column 'reason' appears twice"),
        ('entry,reason\na,"x\nb,y\n', "is not valid CSV from line 1 on"),
        (b"entry\n\xff\n", "is not valid UTF-8"),
        (gzip.compress(b"entry\na\n", mtime=0)[:-6], "is damaged or truncated"),
        (b"PK\x03\x04", "Excel workbook"),
    ],
)
def test_unusable_file(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(FileError) as error:
        read(tmp_path / "file", content)
    assert message in str(error.value)
