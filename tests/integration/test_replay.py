"""The command ``events/replay.py``."""

import codecs
import gzip
import hmac
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests import clients
from tests.clients import QuietHandler, assert_one_error, interruptible, run, serving
from tests.local import account
from tests.local.processes import free_port
from tests.local.template import ROOT
from tests.service import LocalStack


def replay(*arguments: object, python: tuple[str, ...] = (), **environment: str) -> "subprocess.CompletedProcess[str]":
    return run("replay", *arguments, python=python, **environment)


def summary(result: "subprocess.CompletedProcess[str]") -> dict[str, int]:
    return clients.summary(result.stdout)


def test_ten_samples(stack: LocalStack) -> None:
    before = stack.stats()
    result = replay("--url", stack.url, "--batch", "samples")
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        "TX003             4500.00  CRITICAL   7  R1: amount > 3000, R2: electronics > 1500, R3: night hour\n"
        in result.stdout
    )
    assert [line.split() for line in result.stdout.splitlines()[-5:]] == [
        ["CRITICAL", "1", "10.0%"],
        ["HIGH", "2", "20.0%"],
        ["MEDIUM", "4", "40.0%"],
        ["LOW", "3", "30.0%"],
        ["failed", "0"],
    ]
    after = stack.stats()
    assert (after["total"] - before["total"], after["high"] - before["high"]) == (10, 3)


def test_csv_with_failing_rows(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "some.csv.gz"
    file.write_bytes(gzip.compress(b"ts,tx_id,amount,hour,is_fraud\n1,a,3001.5,2,0\n2,b,much,,0\n3,c,,4,1\n"))
    result = replay(file, "--url", stack.url)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        """line 3: 400 {"error":"Field 'amount' must be a number"}""",
        """line 4: 400 {"error":"Missing required field 'amount'"}""",
    ]
    assert result.stdout.splitlines()[-1].split() == ["failed", "2"]
    assert "CRITICAL   5  R1: amount > 3000, R3: night hour" in result.stdout


def test_long_file_prints_a_summary(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps({"amount": number * 100}) + "\n\n" for number in range(60)))
    result = replay(file, "--url", stack.url)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 1 + 50 + 1 + 5
    assert result.stdout.splitlines()[-2].split() == ["LOW", "31", "51.7%"]


def test_csv_of_a_spreadsheet(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "excel.csv"
    file.write_text("tx_id,amount,hour\r\nTX-bom,20,3.0\r\n", encoding="utf-8-sig")
    result = replay(file, "--url", stack.url)
    assert "TX-bom              20.00  MEDIUM     2  R3: night hour\n" in result.stdout


def unreliable(stack: LocalStack) -> type[QuietHandler]:
    """Return a handler that fails one of three requests and drops the response to another."""
    turns = itertools.count()

    class Handler(QuietHandler):
        def post(self) -> None:
            turn = next(turns) % 3
            body = self.body()
            if turn == 0:
                self.respond(503, Retry_After="0")
                return
            reply = stack.post(self.path, data=body, headers=dict(self.headers))
            if turn == 1:
                self.close_connection = True
                return
            self.respond(reply.status_code, reply.content)

    return Handler


def test_retried_requests_are_counted_once(stack: LocalStack) -> None:
    before = stack.stats()["total"]
    with serving(unreliable(stack)) as url:
        result = replay("--url", url, "--batch", "unreliable")
    assert (result.returncode, result.stderr) == (0, "")
    assert stack.stats()["total"] == before + 10


def test_signature_follows_version_4(tmp_path: Path) -> None:
    """Computes the signature step by step as in the specification of AWS Signature Version 4."""
    seen: list[tuple[dict[str, str], bytes]] = []

    class Handler(QuietHandler):
        def post(self) -> None:
            seen.append(({name.lower(): value for name, value in self.headers.items()}, self.body()))
            self.respond(200, b'{"tx_id": "T", "risk_level": "LOW", "score": 0, "triggered_rules": []}')

    file = tmp_path / "one.jsonl"
    file.write_text('{"tx_id": "T", "amount": 1}')
    with serving(Handler) as url:
        assert replay(file, "--url", url, "--sign").returncode == 0

    ((headers, body),) = seen
    scheme, _, fields = headers["authorization"].partition(" ")
    parts = dict(field.split("=", 1) for field in fields.split(", "))
    day = headers["x-amz-date"][:8]
    scope = f"{day}/{account.REGION}/execute-api/aws4_request"
    names = parts["SignedHeaders"].split(";")
    assert scheme == "AWS4-HMAC-SHA256"
    assert parts["Credential"] == f"{account.CREDENTIALS['AWS_ACCESS_KEY_ID']}/{scope}"
    assert {"host", "x-amz-date"} <= set(names)
    canonical = "\n".join(
        [
            "POST",
            "/score",
            "",
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            sha256(body).hexdigest(),
        ]
    )
    to_sign = "\n".join([scheme, headers["x-amz-date"], scope, sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{account.CREDENTIALS['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    assert parts["Signature"] == key.hex()


DECISION = b'{"tx_id": "T", "risk_level": "LOW", "score": 0, "triggered_rules": []}'


@dataclass
class Receiver:
    """A service that records its requests."""

    url: str = ""
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    document: bytes = b'{"components": {"schemas": {"Transaction": {"properties": {}}}}}'
    document_status: int = 200
    document_requests: int = 0

    def declare(self, **properties: Any) -> None:
        """Declare fields in the OpenAPI document."""
        self.document = json.dumps({"components": {"schemas": {"Transaction": {"properties": properties}}}}).encode()

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.sent]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.sent]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(QuietHandler):
        def get(self) -> None:
            assert self.path == "/openapi.json"
            receiver.document_requests += 1
            self.respond(receiver.document_status, receiver.document, Content_Type="application/json")

        def post(self) -> None:
            receiver.sent.append((self.headers["Idempotency-Key"], json.loads(self.body())))
            self.respond(200, DECISION, Content_Type="application/json")

    with serving(Handler) as receiver.url:
        yield receiver


def test_repeated_file_counts_nothing_twice(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    rows = [json.dumps({"tx_id": f"TX-again-{number}", "amount": 1}) for number in range(4)]
    file.write_text("\n".join(rows))
    before = stack.stats()["total"]
    assert "replayed" not in summary(replay(file, "--url", stack.url))
    again = replay(file, "--url", stack.url)
    assert again.returncode == 0
    assert summary(again)["replayed"] == 4
    assert "--batch" in again.stdout.splitlines()[-1]
    # Old rows keep their keys in a longer file; a corrected row is a new one.
    file.write_text("\n".join([rows[3], rows[1].replace("1}", "2}"), "", *rows, rows[0]]))
    assert summary(replay(file, "--url", stack.url))["replayed"] == 4
    assert stack.stats()["total"] == before + 4 + 3
    assert "replayed" not in summary(replay(file, "--url", stack.url, "--batch", "another"))
    assert stack.stats()["total"] == before + 4 + 3 + 7


def test_stopped_replay_continues_when_repeated(stack: LocalStack, tmp_path: Path) -> None:
    turns = itertools.count()

    class Handler(QuietHandler):
        def post(self) -> None:
            body = self.body()
            if next(turns) >= 3:
                self.respond(403, b'{"message":"Forbidden"}', Content_Type="application/json")
                return
            reply = stack.post(self.path, data=body, headers=dict(self.headers))
            self.respond(reply.status_code, reply.content)

    file = tmp_path / "some.jsonl"
    file.write_text("".join(f'{{"amount": {number}, "store": "resumed"}}\n' for number in range(8)))
    before = stack.stats()["total"]
    with serving(Handler) as url:
        stopped = replay(file, "--url", url)
    assert stopped.returncode == 2
    assert stopped.stderr.startswith(f"error: {url} refuses the request (403 ")
    assert stopped.stderr.endswith("; stopped after 3 rows; run the same command again to continue\n")
    # Keys depend neither on the caller nor on the path of the file.
    moved = file.rename(tmp_path / "moved")
    result = replay(moved, "--url", stack.url, "--token", TOKEN="abc")  # noqa: S106
    assert (result.returncode, summary(result)["replayed"]) == (0, 3)
    assert stack.stats()["total"] == before + 8


def test_keys_are_valid_and_distinct(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"amount": 1}\n{"amount": 1}\n{"amount": 1.0}\n{"amount": "\\ud800"}\n')
    assert replay(file, "--url", receiver.url, "--batch", "ą, \u2028").returncode == 0
    assert len(set(receiver.keys)) == 4
    assert all(re.fullmatch(r"[\x21-\x2b\x2d-\x7e]{1,128}", key) for key in receiver.keys)


JSON_LINES = """
{"tx_id": "A", "amount": 3001.5, "store": "Łódź, \\"x\\"", "hour": 3}
{"tx_id": "B", "amount": 20}
"""
CSV = """tx_id;amount;store;hour\nA;3001,50;"Łódź, ""x""\";3\nB;20;;\n;;;\n"""
ARRAY = "[" + JSON_LINES.strip().replace("\n", ",\n") + "]\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(JSON_LINES.encode(), id="JSON Lines"),
        pytest.param(JSON_LINES.replace("\n", "\r\n").encode("utf-8-sig"), id="JSON Lines from Windows"),
        pytest.param(ARRAY.encode(), id="JSON array"),
        pytest.param(json.dumps(json.loads(ARRAY), indent=2).encode(), id="pretty JSON array"),
        pytest.param(
            json.dumps(json.loads(ARRAY), separators=(",", ":")).encode("utf-16-le"), id="JSON array in UTF-16"
        ),
        pytest.param(
            "\n".join(json.dumps(item, indent=2) for item in json.loads(ARRAY)).encode(), id="pretty JSON objects"
        ),
        pytest.param(CSV.encode(), id="semicolons"),
        pytest.param(CSV.replace(";", "\t").encode("utf-16"), id="Unicode text of a spreadsheet"),
        pytest.param(CSV.replace(";", "\t").encode("utf-16-be"), id="UTF-16 without a byte order mark"),
        pytest.param(CSV.replace("3001,50", "3001.50").replace(";", "|").encode(), id="bars"),
        pytest.param(CSV.replace("3001,50", "3001.5").replace(";", ",").encode("utf-8-sig"), id="commas"),
        pytest.param(("sep=;\r\n" + CSV).encode(), id="delimiter declared by Excel"),
        pytest.param(CSV.replace("\nB;", "\n B ;").encode(), id="spaces around an id"),
        pytest.param(CSV.replace("tx_id;amount", "Transaction ID; Amount ").encode(), id="other names"),
        pytest.param(ARRAY.replace("tx_id", "transactionId").encode(), id="other names in JSON"),
        pytest.param(gzip.compress(ARRAY.encode()), id="compressed"),
    ],
)
def test_equal_rows_have_equal_keys_in_every_format(receiver: Receiver, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plain").write_text(JSON_LINES)
    (tmp_path / "file").write_bytes(content)
    assert replay(tmp_path / "plain", "--url", receiver.url).returncode == 0
    result = replay(tmp_path / "file", "--url", receiver.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert receiver.bodies[:2] == [
        {"tx_id": "A", "amount": 3001.5, "store": 'Łódź, "x"', "hour": 3},
        {"tx_id": "B", "amount": 20},
    ]
    assert receiver.sent[2:] == receiver.sent[:2]


def test_whole_amount_is_an_integer(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("amount,hour\n5,3.0\n5.0,3\n5e0,\n12345678901234567890,\n" + "9" * 5_000 + ",\n")
    assert replay(file, "--url", receiver.url).returncode == 0
    amounts = [body["amount"] for body in receiver.bodies]
    # Compare the text, because 5 == 5.0 in Python.
    assert list(map(repr, amounts[:4])) == ["5", "5.0", "5.0", "12345678901234567890"]
    assert amounts[4] == "9" * 5_000
    assert [body["hour"] for body in receiver.bodies[:2]] == [3, 3]


def test_key_depends_on_the_fields_that_are_sent(stack: LocalStack, tmp_path: Path) -> None:
    """JSON rows are sent with all their fields, and the service refuses a known key with another body."""
    (tmp_path / "csv").write_text("ts,tx_id,amount\nx,TX-convert,5.5\n")
    (tmp_path / "json").write_text('{"ts": "x", "tx_id": "TX-convert", "amount": 5.5}')
    for name in ("csv", "json"):
        assert replay(tmp_path / name, "--url", stack.url).returncode == 0


OWN_FIELDS = {
    "country": {"type": "string"},
    "card_present": {"type": "boolean"},
    "items": {"type": "integer"},
    "limit": {"type": "number"},
    "paid_at": {"type": "string", "format": "date-time"},
}


def test_declared_columns_are_sent_with_their_types(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text(
        "tx_id,amount,Country,Card Present,items,limit,paid_at,note\n"
        "A,5,048,TRUE,12345678901234567.0,2.5, 2026-11-25T08:30:00+01:00,x\n"
        "B,5,,false,3.5,x,,x\n"
        "C,5,PL,yes,1e3,,,x\n"
    )
    receiver.declare(**OWN_FIELDS, note={"type": ["string", "null"]})
    result = replay(file, "--url", receiver.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("columns: not sent note\n")
    assert receiver.bodies == [
        {
            "tx_id": "A",
            "amount": 5,
            "country": "048",
            "card_present": True,
            "items": 12345678901234567,
            "limit": 2.5,
            "paid_at": "2026-11-25T08:30:00+01:00",
        },
        {"tx_id": "B", "amount": 5, "card_present": False, "items": 3.5, "limit": "x"},
        {"tx_id": "C", "amount": 5, "country": "PL", "card_present": "yes", "items": 1000},
    ]
    assert receiver.document_requests == 1


def test_row_keeps_its_key_when_a_column_is_declared(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("tx_id,amount,limit\nA,5,2.50\nA,5,3\n")
    assert replay(file, "--url", receiver.url).returncode == 0
    receiver.declare(**OWN_FIELDS)
    assert replay(file, "--url", receiver.url).returncode == 0
    assert receiver.bodies[2:] == [{"tx_id": "A", "amount": 5, "limit": 2.5}, {"tx_id": "A", "amount": 5, "limit": 3}]
    assert receiver.keys[2:] == receiver.keys[:2]
    assert receiver.keys[0] != receiver.keys[1]


def test_keys_of_files_in_progress(receiver: Receiver, tmp_path: Path) -> None:
    """A new version of the script must not count the rows of an interrupted replay again."""
    (tmp_path / "csv").write_text("ts,tx_id,amount,hour,store\n1,A,3001.50,3.0,Łódź\n")
    (tmp_path / "json").write_text('{"id": 17, "amount": 5.0, "country": "PL"}')
    for name in ("csv", "json"):
        assert replay(tmp_path / name, "--url", receiver.url, "--batch", "june").returncode == 0
    assert receiver.keys == ["f870d637518ff9ece745becc9eea4f58-1", "ea93f9431233a87de23de6065829af89-1"]


@pytest.mark.parametrize("content", ["id,amount\nA,5\nB,6\n", '{"id": "A", "amount": 5}\n{"id": "B", "amount": 6}\n'])
def test_declared_id_is_not_sent_as_tx_id(receiver: Receiver, tmp_path: Path, content: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    receiver.declare(id={"type": "string"})
    assert replay(file, "--url", receiver.url).returncode == 0
    assert receiver.bodies == [{"id": "A", "amount": 5}, {"id": "B", "amount": 6}]
    assert receiver.document_requests == 1


def test_json_row_with_a_repeated_name_is_refused(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('{"id": "A", "amount": 1, "amount": 5000}\n')
    result = replay(file, "--url", stack.url)
    assert result.returncode == 1
    assert "'amount' appears more than once" in result.stdout + result.stderr


def test_decimal_mark_of_a_declared_column(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("amount;limit;items\n5;3,001;1\n5;2,5;1\n3,001;3,001;2,0\n5;2.5;1\n")
    receiver.declare(**OWN_FIELDS)
    result = replay(file, "--url", receiver.url)
    assert result.stderr == "line 2: limit 3,001 is ambiguous: write 3001 or 3,0010\n"
    assert receiver.bodies == [
        {"amount": 5, "limit": 2.5, "items": 1},
        {"amount": 3.001, "limit": 3.001, "items": 2},
        {"amount": 5, "limit": "2.5", "items": 1},
    ]


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (403, b'{"message":"Forbidden"}'),
        (404, b'{"error":"No"}'),
        (503, b'{"error":"Later"}'),
        (200, b"<html>"),
        (200, b'{"components": {"schemas": []}}'),
        (200, b'{"components": {"schemas": {"Transaction": {"properties": {"limit": true}}}}}'),
        (200, b"[" * 100_000),
    ],
)
def test_without_the_document_only_built_in_fields_are_sent(
    receiver: Receiver, tmp_path: Path, status: int, document: bytes
) -> None:
    file = tmp_path / "some.csv"
    file.write_text("amount,limit\n5,2.5\n")
    receiver.document_status, receiver.document = status, document
    result = replay(file, "--url", receiver.url)
    assert result.returncode == 0
    reason = f"{status} {document.decode()[:200]}"
    assert result.stderr == f"{receiver.url}/openapi.json cannot be read ({reason}): only built-in fields are sent\n"
    assert receiver.bodies == [{"amount": 5}]


def test_json_needs_no_document(receiver: Receiver, tmp_path: Path) -> None:
    for content in (JSON_LINES, ARRAY, json.dumps({"amount": 5, "limit": 2.5}, indent=2)):
        (tmp_path / "file").write_text(content)
        assert replay(tmp_path / "file", "--url", receiver.url).returncode == 0
    assert receiver.bodies[-1] == {"amount": 5, "limit": 2.5}
    assert receiver.document_requests == 0


def test_warnings_are_counted_and_printed_once(tmp_path: Path) -> None:
    class Handler(QuietHandler):
        def post(self) -> None:
            unknown = [name for name in json.loads(self.body()) if name != "amount"]
            warnings = {"warnings": [f"Unknown field {name!r} was ignored" for name in unknown]} if unknown else {}
            self.respond(200, json.dumps(json.loads(DECISION) | warnings).encode())

    file = tmp_path / "some.jsonl"
    typos = (
        [{"categroy": "x"}] * 60 + [{}, {"sotre": "x", "categroy": "x"}] + [{f"x{number}": 1} for number in range(9)]
    )
    file.write_text("".join(json.dumps({"amount": 5, **typo}) + "\n" for typo in typos))
    with serving(Handler) as url:
        result = replay(file, "--url", url)
    assert result.returncode == 0
    assert result.stderr.splitlines() == [
        "line 1: Unknown field 'categroy' was ignored",
        "line 62: Unknown field 'sotre' was ignored",
        "line 63: Unknown field 'x0' was ignored",
        "line 64: Unknown field 'x1' was ignored",
        "line 65: Unknown field 'x2' was ignored",
    ]
    assert summary(result)["warned"] == 70


def test_delimiter_declared_by_excel(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("sep=;\namount\n5,5\nmuch\n")
    assert replay(file, "--url", receiver.url).returncode == 0
    assert [body["amount"] for body in receiver.bodies] == [5.5, "much"]


def test_amount_beyond_a_double_is_shown_as_unknown(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"amount": 1' + "0" * 400 + "}")
    result = replay(file, "--url", receiver.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert "T                       ?  LOW        0\n" in result.stdout


def test_large_array_on_one_line(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    store = "x" * 1_000
    file.write_text(json.dumps([{"amount": number, "store": store} for number in range(150)]))
    assert replay(file, "--url", receiver.url).returncode == 0
    assert [body["amount"] for body in receiver.bodies] == list(range(150))


def test_file_may_be_a_pipe(receiver: Receiver, tmp_path: Path) -> None:
    for content in (gzip.compress(CSV.encode()), ARRAY.encode()):
        command = [sys.executable, "events/replay.py", "/dev/stdin", "--url", receiver.url]
        assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True, input=content).returncode == 0
    assert receiver.bodies[:2] == receiver.bodies[2:] == json.loads(ARRAY)


def test_renamed_and_omitted_columns_are_reported(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text("ts,transaction_id,amount,is_fraud\n1,17,5,0\n2,17,5,0\n")
    result = replay(file, "--url", receiver.url)
    assert result.stdout.startswith("columns: sent transaction_id as tx_id; not sent ts, is_fraud\n")
    assert receiver.bodies == [{"tx_id": "17", "amount": 5}] * 2
    # Omitted columns still distinguish rows.
    assert [key.rpartition("-")[2] for key in receiver.keys] == ["1", "1"]
    assert receiver.keys[0] != receiver.keys[1]


def test_numeric_id_in_json_is_sent_as_text(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    rows = ({"id": 17}, {"tx_id": 17}, {"TX ID": 17}, {"id": 1, "tx_id": "A"}, {"tx_id": True})
    file.write_text("".join(json.dumps({**row, "amount": 5}) + "\n" for row in rows))
    assert replay(file, "--url", receiver.url).returncode == 0
    assert receiver.bodies == [
        {"tx_id": "17", "amount": 5},
        {"tx_id": "17", "amount": 5},
        {"tx_id": "17", "amount": 5},
        {"id": 1, "tx_id": "A", "amount": 5},
        {"tx_id": True, "amount": 5},
    ]


def test_ambiguous_rows_are_not_sent(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("amount,store\n3001,50,Kraków\n20,Kraków,\n")
    result = replay(file, "--url", receiver.url)
    assert result.returncode == 1
    assert result.stderr == "line 2: 3 cells for 2 columns: a cell that contains ',' must be in double quotes\n"
    file.write_text("amount;store\n3,001;a\n1.234;a\n2,5;b\n2.500;c\n1.234,50;d\n3,001;e\n")
    result = replay(file, "--url", receiver.url)
    assert result.stderr.splitlines() == [
        "line 2: amount 3,001 is ambiguous: write 3001 or 3,0010",
        "line 3: amount 1.234 is ambiguous: write 1234 or 1.2340",
    ]
    # With decimal commas established, other values are sent as text for the service to refuse.
    assert [body["amount"] for body in receiver.bodies] == [20.0, 2.5, "2.500", "1.234,50", 3.001]


def test_quotes_inside_a_cell(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text('amount,store\n1,a "q" b\n2,"two\nlines"\n3,x,y\n')
    result = replay(file, "--url", receiver.url)
    assert [body["store"] for body in receiver.bodies] == ['a "q" b', "two\nlines"]
    assert result.stderr.startswith("line 5: 3 cells for 2 columns")


def test_object_with_a_list_can_be_a_row(receiver: Receiver, tmp_path: Path) -> None:
    row = {"items": [{"amount": 2}, {"amount": 3}], "amount": 5}
    for indent in (None, 2):
        (tmp_path / "file").write_text(json.dumps(row, indent=indent))
        assert replay(tmp_path / "file", "--url", receiver.url).returncode == 0
    (tmp_path / "file").write_text('{"items": [{}]}\n{"amount": 5}')
    assert replay(tmp_path / "file", "--url", receiver.url).returncode == 0
    assert receiver.bodies == [row, row, {"items": [{}]}, {"amount": 5}]


def test_damage_found_midway_stops_the_replay(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "some"
    for content, sent, problem in (
        ('[{"amount": 1},\n{"amount": 2},\n', "2 rows", "is truncated: the array has no closing bracket"),
        ('amount,store\n1,"a\nb"\n2,"c\n3,d\n', "1 row", "is not valid CSV from line 4 on: unexpected end of data"),
    ):
        file.write_text(content)
        result = replay(file, "--url", receiver.url)
        assert result.returncode == 2
        assert result.stderr == f"error: stopped after {sent}: {file} {problem}; fix it and run the command again\n"


WRAPPED = {"count": 1, "meta": {"page": 1}, "transactions": [{"amount": 1, "items": [{"n": 1}]}]}


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no transactions"),
        (b" \n\n", "contains no transactions"),
        (b"[]", "contains no transactions"),
        (b"amount\n", "contains no transactions"),
        (gzip.compress(b"", mtime=0), "contains no transactions"),
        (gzip.compress(b'{"amount": 1}\n' * 99, mtime=0)[:30], "is damaged or truncated: Compressed file ended"),
        (gzip.compress(b'{"amount": 1}\n' * 99, mtime=0)[:-8] + bytes(8), "is damaged or truncated: CRC check failed"),
        (b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 40, "is damaged or truncated"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "compressed twice"),
        (b"a,b\n1,2\n", "neither JSON nor CSV with a column 'amount': its first line is 'a,b'"),
        (b"hello \x1b[31m", r"its first line is 'hello \x1b[31m'"),
        (b"amount,store\n1," + b"x" * 200_000 + b"\n", "is not valid CSV from line 2 on: field larger than field"),
        (b'id,amount,store\nN1,5,"abc\nN2,6,x\n', "is not valid CSV from line 2 on: unexpected end of data"),
        (b'id,amount,store\nN1,5,"un"closed\nN2,6,x\n', "is not valid CSV from line 2 on: ',' expected after '\"'"),
        (b"amount,store, Amount\n1,x,2\n", "column 'amount' appears twice"),
        (b"id,Store,amount,store\n1,x,2,y\n", "column 'store' appears twice"),
        (b"id,amount,ID\n1,2,3\n", "column 'id' appears twice"),
        (b"sep=;\na;b\n", "neither JSON nor CSV with a column 'amount': its first line is 'a;b'"),
        (b"sep=;\n", "neither JSON nor CSV with a column 'amount': its first line is ''"),
        (json.dumps(WRAPPED).encode(), "is one object, not a list; the rows seem to be under 'transactions'"),
        (json.dumps(WRAPPED, indent=2).encode(), "is one object, not a list; the rows seem to be under 'transactions'"),
        (json.dumps({"rows": [{"amount": 1}] * 9_999}, indent=1).encode(), "the rows seem to be under 'rows'"),
        (b"amount,store\n1,\xff\n", "is not valid UTF-8: save it as UTF-8"),
        (codecs.BOM_UTF16_LE + b"a\0\0", "is not valid UTF-16"),
        (b'[{"amount": 1},\n{"amount" 2}]', "is not valid JSON from line 2 on"),
        (b'[{"amount": 1},\n{"amount": 2', "is not valid JSON from line 2 on"),
        (b'[{"amount": 1},\n', "the array has no closing bracket"),
        (b'[{"amount": 1}]\n[]', "text follows the bracket on line 1"),
        (b"[]" + b" " * 70_000 + b"[]", "text follows the bracket on line 1"),
        (b"[" * 100_000, "is not valid JSON from line 1 on"),
        (workbook(), "an Excel workbook"),
        (b"PAR1\x15\x04\x15", "a Parquet file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "a binary file"),
        (b"<!DOCTYPE html>\n<html></html>", "looks like HTML or XML"),
    ],
)
def test_unusable_file_prints_one_line(receiver: Receiver, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    result = replay(tmp_path / "file", "--url", receiver.url)
    assert result.returncode == 2
    assert message in result.stderr
    assert str(tmp_path / "file") in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_unreadable_file_prints_one_line(tmp_path: Path) -> None:
    assert_one_error(replay(tmp_path / "missing"), f"{tmp_path}/missing cannot be read: No such file or directory")
    assert_one_error(replay(tmp_path), f"{tmp_path} cannot be read: Is a directory")


def test_dead_port_suggests_make_run() -> None:
    port = free_port()
    urls = [*(f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")), "http://nowhere.invalid"]
    # Each spends seconds on retries.
    with ThreadPoolExecutor() as pool:
        *refused, unresolved = pool.map(lambda url: replay("--url", f"{url}/"), urls)
    for url, result in zip(urls, refused, strict=False):
        command = f"make run PORT={port}"
        message = f"error: {url} cannot be reached: Connection refused; start the service with `{command}`\n"
        assert_one_error(result, message)
    assert_one_error(unresolved, "http://nowhere.invalid cannot be reached: ")


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://127.0.0.1", "http://", "localhost", ""])
def test_invalid_url_is_refused(url: str) -> None:
    result = replay("--url", url)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith(f"{url!r} must begin with http:// or https://\n")


@pytest.mark.parametrize("url", ["http://[::1", "http://a..b", "http://127.0.0.1:99999", "http://a b", "http://*"])
def test_unusable_url_prints_one_line(url: str) -> None:
    assert_one_error(replay("--url", url), f"error: {url} cannot be used: ")


def test_proxy_and_certificate_errors(receiver: Receiver) -> None:
    def by_proxy(proxy: str) -> "subprocess.CompletedProcess[str]":
        return replay("--url", receiver.url, HTTP_PROXY=proxy, http_proxy=proxy, NO_PROXY="", no_proxy="")

    https = receiver.url.replace("http:", "https:")
    # Run at the same time: two of them spend seconds on retries.
    with ThreadPoolExecutor() as pool:
        unreachable = pool.submit(by_proxy, f"http://127.0.0.1:{free_port()}")
        no_tls = pool.submit(replay, "--url", https)
        no_bundle = pool.submit(replay, "--url", https, REQUESTS_CA_BUNDLE="/nowhere.pem")
        unusable = pool.map(by_proxy, ("http://[::1", "nonsense://x", "http://a b:1", "http://127.0.0.1:99999"))
    assert_one_error(unreachable.result(), f"error: the proxy for {receiver.url} cannot be used: check HTTP_PROXY")
    for result in unusable:
        assert_one_error(result, f"error: {receiver.url} cannot be used: ")
    assert_one_error(no_tls.result(), f"error: {https} cannot be reached: [SSL")
    assert no_tls.result().stderr.endswith("; try http://\n")
    missing = f"error: {https} cannot be used: Could not find a suitable TLS CA certificate bundle"
    assert_one_error(no_bundle.result(), missing)


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (301, b"", {"Location": "https://example.org/score"}, "redirects to https://example.org/score"),
        (307, b"", {"Location": "/elsewhere"}, "redirects to /elsewhere: pass that address as --url"),
        (403, b'{"message":"Forbidden"}', {"Content-Type": "application/json"}, "requires --sign or --token"),
        (401, b'{"message":"Unauthorized"}', {"Content-Type": "application/json"}, "requires --sign or --token"),
        (404, b'{"error":"No"}', {"Content-Type": "application/json"}, "is not a scoring service (404 {"),
        (200, b"<html>\n<p>\x1b[1mHi", {"Content-Type": "text/html"}, "is not a scoring service (200 <html> <p>"),
    ],
)
def test_refusal_stops_after_one_request(status: int, body: bytes, headers: dict[str, str], message: str) -> None:
    received = []

    class Handler(QuietHandler):
        def post(self) -> None:
            received.append(self.body())
            self.respond(status, body, **headers)

    with serving(Handler) as url:
        result = replay("--url", url)
    assert_one_error(result, message)
    assert len(received) == 1


def test_html_502_fails_the_row() -> None:
    class Handler(QuietHandler):
        def post(self) -> None:
            self.body()
            self.respond(502, b"<html>\n<h1>Bad gateway</h1>", Content_Type="text/html")

    with serving(Handler) as url:
        result = replay("--url", url)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "line 1: 502 <html> <h1>Bad gateway</h1>"
    assert summary(result)["failed"] == 10


def test_missing_packages_name_the_command_to_run(tmp_path: Path) -> None:
    advice = "run `make install` once, then `.venv/bin/python events/replay.py`\n"
    assert_one_error(replay(python=("-S",)), f"error: this Python has no requests: {advice}")
    # Other programs read files without it.
    subprocess.run([sys.executable, "-S", "-c", "from events import rows"], cwd=ROOT, check=True)
    site = Path(sysconfig.get_path("purelib"))
    for name in ("requests", "urllib3", "idna", "certifi", "charset_normalizer"):
        (tmp_path / name).symlink_to(site / name)
    result = replay("--sign", python=("-S",), PYTHONPATH=str(tmp_path))
    assert_one_error(result, f"error: --sign needs boto3, which this Python lacks: {advice}")


def test_unusable_credentials_are_one_line() -> None:
    assert_one_error(
        replay("--sign", AWS_PROFILE="nobody"), "--sign cannot use the AWS credentials: The config profile"
    )
    assert_one_error(replay("--token", TOKEN=""), "--token needs a token in the environment variable TOKEN")
    result = replay("--token", TOKEN="secret\nX-Other: 1")  # noqa: S106
    assert_one_error(result, "TOKEN contains characters that no token can have")
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (0, "error: interrupted\n"),
        (3, "error: interrupted after 3 rows; run the same command again to continue\n"),
    ],
)
def test_interrupt(responses: int, message: str) -> None:
    turns, waiting = itertools.count(), threading.Event()

    class Handler(QuietHandler):
        def post(self) -> None:
            self.body()
            if next(turns) < responses:
                self.respond(200, DECISION)
            else:
                waiting.set()
                self.rfile.read(1)

    with serving(Handler) as url, interruptible():
        command = [sys.executable, "events/replay.py", "--url", url]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert waiting.wait(30)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (2, message)
    assert bool(output) == bool(responses)


def test_output_that_cannot_be_written_or_encoded(stack: LocalStack, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "events/replay.py", "--url", stack.url]
        result = subprocess.run(command, cwd=ROOT, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (2, "error: the output cannot be written: No space left on device\n")
    file = tmp_path / "some.jsonl"
    file.write_text('{"tx_id": "TX-\u2028Łódź", "amount": 1}')
    shown = replay(file, "--url", stack.url, PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert r"TX- \u0141\xf3d\u017a" in shown.stdout


def test_closed_output_pipe(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"amount": 1}\n' * 40)
    # Unbuffered, and buffered until the end
    for option, reader in (("-u", "head -n 1"), ("-X utf8", "true")):
        command = f"{sys.executable} {option} events/replay.py {file} --url {stack.url} | {reader}"
        result = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
        assert result.stderr == ""
        assert len(result.stdout.splitlines()) == (reader != "true")


def test_response_that_is_not_a_decision_fails() -> None:
    class Handler(QuietHandler):
        def post(self) -> None:
            self.body()
            self.respond(200, b"[1]")

    with serving(Handler) as url:
        result = replay("--url", url)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "line 1: 200 [1]"
