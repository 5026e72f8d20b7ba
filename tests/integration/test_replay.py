"""The replay script, as a person runs it."""

import gzip
import hmac
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.service import Service
from tests.local import account
from tests.local.processes import free_port
from tests.local.template import ROOT


def replay(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "events/replay.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_the_ten_samples(service: Service) -> None:
    before = service.stats()
    result = replay("--url", service.url)
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
    after = service.stats()
    assert (after["total"] - before["total"], after["high"] - before["high"]) == (10, 3)


def test_a_csv_file_and_its_failures(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "some.csv.gz"
    file.write_bytes(gzip.compress(b"ts,tx_id,amount,hour,is_fraud\n1,a,3001.5,2,0\n2,b,much,,0\n3,c,,4,1\n"))
    result = replay(file, "--url", service.url)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        """line 3: 400 {"error":"Field 'amount' must be a number"}""",
        """line 4: 400 {"error":"Missing required field 'amount'"}""",
    ]
    assert result.stdout.splitlines()[-1].split() == ["failed", "2"]
    assert "CRITICAL   5  R1: amount > 3000, R3: night hour" in result.stdout


def test_a_long_file_is_summed_up(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps({"amount": number * 100}) + "\n\n" for number in range(60)))
    result = replay(file, "--url", service.url)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 1 + 50 + 1 + 5
    assert result.stdout.splitlines()[-2].split() == ["LOW", "31", "51.7%"]


def test_what_a_spreadsheet_writes(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "excel.csv"
    file.write_text("tx_id,amount,hour\r\nTX-bom,20,3.0\r\n", encoding="utf-8-sig")
    result = replay(file, "--url", service.url)
    assert "TX-bom              20.00  MEDIUM     2  R3: night hour\n" in result.stdout


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server on loopback; yields its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(BaseHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def unreliable(service: Service) -> type[Quiet]:
    """Stands in front of the service, fails one request in three, and drops the reply to another."""
    turns = itertools.count()

    class Handler(Quiet):
        def do_POST(self) -> None:  # the name that http.server calls
            turn = next(turns) % 3
            body = self.body()
            if turn == 0:
                self.answer(503, Retry_After="0")
                return
            reply = service.post(self.path, data=body, headers=dict(self.headers))
            if turn == 1:
                self.close_connection = True
                return
            self.answer(reply.status_code, reply.content)

    return Handler


def test_what_is_sent_again_is_counted_once(service: Service) -> None:
    before = service.stats()["total"]
    with serving(unreliable(service)) as url:
        result = replay("--url", url)
    assert (result.returncode, result.stderr) == (0, "")
    assert service.stats()["total"] == before + 10


def test_requests_are_signed_as_api_gateway_asks(tmp_path: Path) -> None:
    """The signature is worked out anew here, step by step as AWS Signature Version 4 is specified."""
    seen: list[tuple[dict[str, str], bytes]] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            seen.append(({name.lower(): value for name, value in self.headers.items()}, self.body()))
            self.answer(200, b'{"tx_id": "T", "risk_level": "LOW", "score": 0, "triggered_rules": []}')

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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "holds no transactions"),
        ("cut.jsonl.gz", gzip.compress(b'{"amount": 1}\n' * 99)[:30], "Compressed file ended"),
        ("columns.csv", b"a,b\n1,2\n", "'amount' among them"),
        ("long.csv", b"amount,store\n1," + b"x" * 200_000 + b"\n", "field larger than field limit"),
        ("latin.csv", b"amount,store\n1,\xff\n", "codec can't decode"),
    ],
)
def test_a_file_that_cannot_be_used(service: Service, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = replay(tmp_path / name, "--url", service.url)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_to_send_or_nobody_there(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    missing = replay(tmp_path / "missing.jsonl", "--url", nowhere)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    unreachable = replay("--url", nowhere)
    assert unreachable.returncode == 2
    assert (unreachable.stdout, unreachable.stderr) == (
        "",
        f"error: stopped after 0 transactions: {nowhere} cannot be reached (ConnectionError)\n",
    )
    assert "stopped after 0 transactions: No connection adapters" in replay("--url", "127.0.0.1:3000").stderr


def test_a_reader_that_has_seen_enough(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"amount": 1}\n' * 40)
    command = f"{sys.executable} -u events/replay.py {file} --url {service.url} | head -n 1"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1


def test_an_answer_that_is_no_decision_is_a_failure() -> None:
    class Handler(Quiet):
        def do_POST(self) -> None:
            self.body()
            self.answer(200, b"[1]")

    with serving(Handler) as url:
        result = replay("--url", url)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "line 1: 200 [1]"
