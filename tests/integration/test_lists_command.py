"""The command ``events/lists.py``."""

import csv
import itertools
import json
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest
import requests

from tests import clients
from tests.clients import QuietHandler, assert_one_error, interruptible, run, serving, summary
from tests.lists_corpus import NOT_TIME
from tests.service import TIMEOUT_SECONDS, LocalStack

if TYPE_CHECKING:
    import subprocess

HEADER = "entry,reason,expires_at"
TIME = "2126-01-01T00:00:00Z"


def importing(name: str, file: Path, url: str, *options: object) -> "subprocess.CompletedProcess[str]":
    return run("lists", "import", name, file, "--url", url, *options)


def exported(name: str, url: str) -> list[dict[str, str]]:
    result = run("lists", "export", name, "--url", url)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert result.stderr == f"{len(rows)} entries\n"
    return rows


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows, ""]), encoding="utf-8")
    return path


def unused(name: str) -> str:
    return f"No rule of version '1.0-tests' uses the list {name!r}\n"


def test_file_is_imported_and_exported(stack: LocalStack, tmp_path: Path) -> None:
    values = [f"C-{number:04}" for number in range(1_005)]
    rows = [f'"{value}","because, {value}",{TIME if at % 2 else ""}' for at, value in enumerate(values)]
    result = importing("imported", write(tmp_path / "file", *rows), stack.url, "--parallel", 16)
    assert (result.returncode, summary("\n" + result.stdout)) == (0, {"added": len(values), "failed": 0})
    # Progress depends on the speed of the machine.
    assert [line for line in result.stderr.splitlines(keepends=True) if "/s" not in line] == [unused("imported")]
    found = exported("imported", stack.url)
    assert [row["entry"] for row in found] == sorted(values, key=str.encode)
    for row in found:
        at = values.index(row["entry"])
        assert (row["reason"], row["expires_at"]) == (f"because, {row['entry']}", TIME if at % 2 else "")
        assert row["added_at"].endswith("Z")


def test_exported_file_can_be_imported(stack: LocalStack, tmp_path: Path) -> None:
    values = ["DE/4711", "50%off", "a?b=1#c", "Łódź 🂡", " x ", "%41", "a/", 'q"q', "x,y"]
    rows = [",".join(['"' + value.replace('"', '""') + '"', "r", TIME]) for value in values]
    importing("original", write(tmp_path / "file", *rows), stack.url)
    copy = tmp_path / "copy"
    copy.write_text(run("lists", "export", "original", "--url", stack.url).stdout, encoding="utf-8")
    assert importing("copied", copy, stack.url).returncode == 0
    original, copied = (
        [{**row, "added_at": ""} for row in exported(name, stack.url)] for name in ("original", "copied")
    )
    assert copied == original
    assert {row["entry"] for row in copied} == set(values)


def test_failing_rows_are_named_by_line(stack: LocalStack, tmp_path: Path) -> None:
    rows = ["a,,", "b,,2020-01-01T00:00:00Z", "c,,tomorrow", f"{'x' * 257},,", ",r,", "/d,,", "a,,", "a,again,", "e,r,"]
    result = importing("failing", write(tmp_path / "file", *rows), stack.url)
    assert result.returncode == 1
    assert summary("\n" + result.stdout) == {"added": 2, "failed": 6, "repeated": 1}
    lines = sorted(line for line in result.stderr.splitlines() if line.startswith("line "))
    assert lines == [
        """line 3: 400 {"error":"Field 'expires_at' must be in the future"}""",
        f"""line 4: 400 {{"error":"{NOT_TIME}"}}""",
        """line 5: 400 {"error":"Field 'entry' must have 1 to 256 characters"}""",
        "line 6: the entry is blank",
        "line 7: an entry that begins with a slash, or has '//' or a segment '.' or '..', cannot be sent in a URL",
        "line 9: the entry is on line 2, with another reason or expires_at",
    ]
    assert [row["entry"] for row in exported("failing", stack.url)] == ["a", "e"]


def test_import_again_replaces(stack: LocalStack, tmp_path: Path) -> None:
    importing("again", write(tmp_path / "file", f"a,first,{TIME}", "b,,"), stack.url)
    importing("again", write(tmp_path / "file", "a,second,"), stack.url)
    assert [(row["entry"], row["reason"], row["expires_at"]) for row in exported("again", stack.url)] == [
        ("a", "second", ""),
        ("b", "", ""),
    ]


def test_empty_list_is_exported_as_a_header(stack: LocalStack) -> None:
    result = run("lists", "export", "never_used", "--url", stack.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{HEADER},added_at\n", "0 entries\n")


def test_requests_are_retried(stack: LocalStack, tmp_path: Path) -> None:
    attempts: Counter[str] = Counter()

    class Handler(QuietHandler):
        def put(self) -> None:
            body = self.body()
            attempts[self.path] += 1
            kind = int(self.path.rpartition("-")[2]) % 4 if attempts[self.path] == 1 else None
            if kind == 0:
                self.respond(503, Retry_After="0")
                return
            if kind == 1:
                self.respond(429, b'{"message":"Too Many Requests"}', Retry_After="0")
                return
            headers = {"content-type": "application/json"}
            reply = requests.put(stack.url + self.path, data=body, headers=headers, timeout=TIMEOUT_SECONDS)
            if kind == 2:
                self.close_connection = True
                return
            self.respond(reply.status_code, reply.content)

    values = [f"C-{number}" for number in range(20)]
    with serving(Handler) as url:
        result = importing("retried", write(tmp_path / "file", *(f"{one},r," for one in values)), url)
    assert (result.returncode, result.stderr) == (0, unused("retried"))
    assert summary("\n" + result.stdout) == {"added": 20, "failed": 0}
    assert [row["entry"] for row in exported("retried", stack.url)] == sorted(values)
    assert Counter(attempts.values()) == {1: 5, 2: 15}


def answering(status: int, body: bytes, **headers: str) -> type[QuietHandler]:
    class Handler(QuietHandler):
        def put(self) -> None:
            self.body()
            self.respond(status, body, **headers)

        def get(self) -> None:
            self.respond(status, body, **headers)

    return Handler


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (403, b'{"message":"Forbidden"}', "a deployed stack requires --sign\n"),
        (404, b'{"error":"No"}', "/lists/some is not a scoring service (404 {"),
        (500, b'{"message":"Internal Server Error"}', 'is unavailable (500 {"message":"Internal Server Error"})'),
        (503, b'{"error":"Later"}', 'is unavailable (503 {"error":"Later"})'),
    ],
)
def test_refusal_stops_the_command(tmp_path: Path, status: int, body: bytes, message: str) -> None:
    file = write(tmp_path / "file", *(f"{number},," for number in range(100)))
    handler = answering(status, body, Retry_After="0", Content_Type="application/json")
    # Both at the same time, since retries take seconds.
    with serving(handler) as url, ThreadPoolExecutor() as pool:
        exporting = pool.submit(run, "lists", "export", "some", "--url", url)
        assert_one_error(importing("some", file, url), message)
        assert_one_error(exporting.result(), message)


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"entry": 5}', b"{"])
def test_response_that_is_not_an_entry_fails(tmp_path: Path, body: bytes) -> None:
    with serving(answering(200, body, Content_Type="application/json")) as url:
        result = importing("some", write(tmp_path / "file", "a,,"), url)
        assert (result.returncode, result.stderr) == (1, f"line 2: 200 {body.decode()}\n")
        assert_one_error(run("lists", "export", "some", "--url", url), "/lists/some cannot be read (200 ")


def test_entry_that_arrives_changed_fails(tmp_path: Path) -> None:
    class Handler(QuietHandler):
        def put(self) -> None:
            entry = unquote(self.path.rpartition("/")[2])
            self.respond(200, json.dumps({"entry": entry.partition("?")[0].casefold()}).encode())

    with serving(Handler) as url:
        result = importing("some", write(tmp_path / "file", "a?b,,", "C,,", "c,,", "c ,r,", "D,r,", "d,s,"), url)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "line 2: the service added 'a' instead",
        "line 7: except for case, the entry is on line 6, with another reason or expires_at",
    ]
    assert summary("\n" + result.stdout) == {"added": 3, "failed": 2, "repeated": 1}


def test_interrupted_import_can_be_continued(tmp_path: Path) -> None:
    turns, waiting, release = itertools.count(), threading.Event(), threading.Event()

    class Handler(QuietHandler):
        def put(self) -> None:
            if next(turns) == 20:
                waiting.set()
            if waiting.is_set():
                release.wait(TIMEOUT_SECONDS)
            self.respond(200, json.dumps({"entry": unquote(self.path.rpartition("/")[2])}).encode())

    file = write(tmp_path / "file", *(f"{number},," for number in range(1_000)))
    with serving(Handler) as url, interruptible():
        process = clients.start("lists", "import", "some", file, "--url", url)
        assert waiting.wait(TIMEOUT_SECONDS)
        process.send_signal(signal.SIGINT)
        release.set()
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 2
    assert "rows; run the same command again to continue" in errors
    assert errors.startswith("error: interrupted after")
    # What was sent was finished; nothing else was sent.
    assert next(turns) < 60
    assert summary("\n" + output)["failed"] == 0


def test_unusable_file_and_arguments(tmp_path: Path) -> None:
    assert_one_error(run("lists", "import", "some", tmp_path / "none"), "cannot be read: No such file or directory")
    assert_one_error(run("lists", "import", "some", write(tmp_path / "file")), "contains no entries")
    for arguments in (
        ("import", "Some", "file"),
        ("import", "some", "file", "--parallel", "0"),
        ("export", "some", "--token"),
    ):
        result = run("lists", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("usage: lists.py")


def test_signed_path_is_the_sent_path(tmp_path: Path) -> None:
    """The path is signed as it is sent, once encoded; the signature encodes it again."""
    seen: list[tuple[str, str]] = []

    class Handler(QuietHandler):
        def put(self) -> None:
            seen.append((self.path, self.headers["authorization"]))
            self.respond(200, json.dumps({"entry": "Łódź 50%/x"}).encode())

    with serving(Handler) as url:
        result = importing("some", write(tmp_path / "file", "Łódź 50%/x,,"), url, "--sign")
    assert result.returncode == 0, result.stderr
    ((path, authorization),) = seen
    assert path == f"/lists/some/{quote('Łódź 50%/x')}"
    assert "/execute-api/aws4_request" in authorization
