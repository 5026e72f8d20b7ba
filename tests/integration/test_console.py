"""The console of `make run`: one line per request for people, JSON for programs, and each fault once."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest
from tests.service import SAM_PYTHON, STACK_LOGGING_JSON, TIMEOUT_SECONDS, LocalStack, RunningService, started

from tests.corpus import JSON
from tests.local.template import ROOT

TX003 = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
ESCAPE = "\x1b"


class Printed:
    """Returns the lines that a stack printed after its start, without the time of day and the milliseconds."""

    def __init__(self, stack: LocalStack) -> None:
        self._log = stack.log
        self._begin = len(stack.log.read_text())

    def __call__(self) -> list[str]:
        lines = self._log.read_text()[self._begin :].splitlines()
        return [re.sub(r"  \d+ ms$", "", re.sub(r"^\d\d:\d\d:\d\d  ", "", line)) for line in lines]


def test_a_request_is_one_line(checkout: Path, tmp_path: Path) -> None:
    with started(tmp_path / "stack.log", checkout) as stack:
        printed = Printed(stack)
        headers = {"Idempotency-Key": "order-17"}
        for _ in range(2):
            stack.post("/score", json=TX003, headers=headers)
        stack.post("/score", json={"tx_id": "TX000"})
        stack.post("/score", json={"amount": 1}, headers={"Idempotency-Key": "order-18"})
        stack.post("/score", json={"tx_id": "TX003", "amount": 1}, headers=headers)
        stack.get("/stats")
        stack.get("/transaction/TX003")
        stack.get("/nowhere?a=b")
        rules = "R1: amount > 3000, R2: electronics > 1500, R3: night hour"
        conflict = stack.post("/score", json={"tx_id": "TX003", "amount": 1}, headers=headers).json()["error"]
        assert printed() == [
            f"200  POST /score  CRITICAL 7  {rules}  tx TX003  decision order-17",
            f"200  POST /score  CRITICAL 7  {rules}  tx TX003  decision order-17  replayed",
            "400  POST /score  Missing required field 'amount'",
            "200  POST /score  LOW 0  no rule  tx unknown  decision order-18",
            f"422  POST /score  {conflict}",
            "200  GET /stats",
            "200  GET /transaction/TX003",
            "404  GET /nowhere?a=b  No route has the path '/nowhere'",
            f"422  POST /score  {conflict}",
        ]


def test_what_a_function_prints_is_shown_as_it_is(checkout: Path, tmp_path: Path) -> None:
    app = checkout / "functions/health/app.py"
    printing = """print("half", end=" "); print("a line"); print('{"a": 1}'); print("end", end="", flush=True)"""
    with started(tmp_path / "stack.log", checkout) as stack:
        printed = Printed(stack)
        app.write_text(app.read_text().replace("    return", f"    {printing}\n    return"))
        assert stack.get("/health").status_code == 200
        assert printed()[:2] == ["half a line", '{"a": 1}']
        assert printed()[2].startswith("end")


def test_logs_of_json_are_json_only(checkout: Path, tmp_path: Path) -> None:
    with started(tmp_path / "stack.log", checkout, arguments=STACK_LOGGING_JSON) as stack:
        begin = len(stack.log.read_text())
        before = datetime.now(UTC)
        stack.post("/score", json=TX003)
        stack.post("/score", json={"tx_id": "TX000"})
        entries = [json.loads(line) for line in stack.log.read_text()[begin:].splitlines()]
    decision, *_, first, rejection, second = entries
    assert (decision["message"], decision["score"]) == ("decision", 7)
    assert decision["_aws"]["CloudWatchMetrics"]
    assert first.pop("milliseconds") > 0
    sent = datetime.fromisoformat(first.pop("timestamp"))
    assert sent.utcoffset() == timedelta(0)
    assert before <= sent <= datetime.now(UTC)
    assert first == {"message": "request", "method": "POST", "path": "/score", "status": 200}
    assert rejection["RejectedRequests"] == 1
    assert second["status"] == 400


def test_a_caller_cannot_move_the_cursor(checkout: Path, tmp_path: Path) -> None:
    with started(tmp_path / "stack.log", checkout) as stack:
        printed = Printed(stack)
        stack.post("/score", json={"tx_id": "right\u202eto left", "amount": 1}, headers={"Idempotency-Key": "k"})
        stack.get("/\x9b31m")
        stack.get("/%1b[31m")
        assert printed() == [
            r"200  POST /score  LOW 0  no rule  tx right\u202eto left  decision k",
            "404  GET /%C2%9B31m  No route has the path '/\\x9b31m'",
            "404  GET /%1B%5B31m  No route has the path '/\\x1b[31m'",
        ]


@contextmanager
def on_a_terminal(**variables: str) -> Iterator[tuple[str, IO[str]]]:
    """A stack that prints to a terminal: its address, and what comes out there."""
    terminal, inside = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [SAM_PYTHON, *STACK_LOGGING_JSON[:-2]],
        cwd=ROOT,
        env={**environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    try:
        with open(terminal, encoding="utf-8", newline="\r\n") as output:  # noqa: PTH123  a file descriptor
            address = next(line for line in output if "Risk scoring at" in line).split(",")[0].split()[-1]
            yield address, output
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_SECONDS)


@pytest.mark.parametrize(("variables", "escapes"), [({}, 2), ({"NO_COLOR": "1"}, 0)], ids=["a terminal", "NO_COLOR"])
def test_colors_are_for_terminals(variables: dict[str, str], escapes: int) -> None:
    with on_a_terminal(**variables) as (address, output):
        RunningService(address).get("/nowhere")
        line = next(line for line in output if "GET /nowhere" in line)
    assert line.count(ESCAPE) == escapes


def test_a_file_gets_no_colors(tmp_path: Path) -> None:
    with started(tmp_path / "stack.log") as stack:
        assert stack.get("/nowhere").status_code == 404
        assert stack.post("/score", data="{", headers=dict(JSON)).status_code == 400
        assert ESCAPE not in stack.log.read_text()


def test_a_broken_rule_set_is_one_line_and_a_503_until_it_is_mended(checkout: Path, tmp_path: Path) -> None:
    rules = checkout / "functions/layer/scoring/scorers/rules.json"
    valid = rules.read_text()
    no_points = valid.replace('"points": 3', '"points": 0')
    with started(tmp_path / "stack.log", checkout) as stack:
        printed = Printed(stack)

        def is_broken() -> str:
            """The one line about it, after requests to several functions were answered with what it says."""
            before = len(printed())
            responses = []
            for _ in range(2):
                responses += [stack.post("/score", json=TX003), stack.get("/health")]
                assert stack.get("/stats").status_code == 200
            sentences = {response.json()["error"] for response in responses}
            assert len(sentences) == 1
            for response in responses:
                assert (response.status_code, list(response.json())) == (503, ["error"])
                assert int(response.headers["Retry-After"]) > 0
            line, *requests = printed()[before:]
            assert line == f"ERROR  {sentences.pop()}"
            assert requests == ["503  POST /score", "503  GET /health", "200  GET /stats"] * 2
            return line

        rules.write_text(no_points)
        assert "R1: amount > 3000" in is_broken()
        rules.write_text(valid[:-10])
        assert "rules.json" in is_broken()
        rules.write_text(valid)
        assert stack.post("/score", json=TX003).json()["score"] == 7
        rules.write_text(no_points)
        assert "R1: amount > 3000" in is_broken()
        rules.write_text(valid)
        assert stack.get("/health").status_code == 200
    assert "Traceback" not in (tmp_path / "stack.log").read_text()
