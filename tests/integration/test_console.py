"""The console of `make run`: one line per request as text or JSON, and each error once."""

import io
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import pytest

from tests.corpus import JSON
from tests.local.console import Console
from tests.local.template import ROOT
from tests.rule_set import R1, R2, R3, assess
from tests.service import SAM_PYTHON, STACK, TIMEOUT_SECONDS, LocalStack, RunningService

TX003 = {"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}
ESCAPE = "\x1b"


class Printed:
    """Returns the lines printed since its creation, without alerts, the time of day and the milliseconds."""

    def __init__(self, stack: LocalStack) -> None:
        self._log = stack.log
        self._begin = len(stack.log.read_text())

    def __call__(self) -> list[str]:
        lines = self._log.read_text()[self._begin :].splitlines()
        printed = [re.sub(r"  \d+ ms$", "", re.sub(r"^\d\d:\d\d:\d\d  ", "", line)) for line in lines]
        # Alerts are printed when they are published, after the response.
        return [line for line in printed if not line.startswith("ALERT")]


def test_each_request_prints_one_line(stack: LocalStack) -> None:
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
    conflict = stack.post("/score", json={"tx_id": "TX003", "amount": 1}, headers=headers).json()["error"]
    assert printed() == [
        f"200  POST /score  CRITICAL 7  {R1}, {R2}, {R3}  tx TX003  decision order-17",
        f"200  POST /score  CRITICAL 7  {R1}, {R2}, {R3}  tx TX003  decision order-17  replayed",
        "400  POST /score  Missing required field 'amount'",
        "200  POST /score  LOW 0  no rule  tx unknown  decision order-18",
        f"422  POST /score  {conflict}",
        "200  GET /stats",
        "200  GET /transaction/TX003",
        "404  GET /nowhere?a=b  No route has the path '/nowhere'",
        f"422  POST /score  {conflict}",
    ]


def test_batch_prints_one_line(stack: LocalStack) -> None:
    printed = Printed(stack)
    items = [{"amount": 1}, {"amount": 2}, {"amount": 3}, {"amount": -1}]
    for batch in (items[:2], items):
        stack.post("/score/batch", json=batch, headers={"Idempotency-Key": "batch-17"})
    stack.post("/score/batch", json={})
    assert printed() == [
        "200  POST /score/batch  2 transactions",
        "200  POST /score/batch  4 transactions  2 replayed  1 rejected",
        "400  POST /score/batch  The body must be a JSON array of transactions, not an object",
    ]


def test_output_of_a_function_is_shown_unchanged(stack: LocalStack) -> None:
    printed = Printed(stack)
    printing = """print("half", end=" "); print("a line"); print('{"a": 1}'); print("end", end="", flush=True)"""
    with stack.edited("functions/health/app.py", "    return", f"    {printing}\n    return"):
        assert stack.get("/health").status_code == 200
    assert printed()[:2] == ["half a line", '{"a": 1}']
    assert printed()[2].startswith("end")


def is_about_alerts(entry: dict[str, Any]) -> bool:
    return "AlertsPublished" in entry or entry.get("message") in {"alert", "alert published"}


def test_json_log_is_only_json(service: LocalStack) -> None:
    begin = len(service.log.read_text())
    before = datetime.now(UTC)
    service.post("/score", json=TX003)
    service.post("/score", json={"tx_id": "TX000"})
    entries = [json.loads(line) for line in service.log.read_text()[begin:].splitlines()]
    entries = [entry for entry in entries if not is_about_alerts(entry)]
    decision, *_, first, rejection, second = entries
    assert (decision["message"], decision["score"]) == ("decision", assess(TX003)["score"])
    assert decision["_aws"]["CloudWatchMetrics"]
    assert first.pop("milliseconds") > 0
    sent = datetime.fromisoformat(first.pop("timestamp"))
    assert sent.utcoffset() == timedelta(0)
    assert before <= sent <= datetime.now(UTC)
    assert first == {"message": "request", "method": "POST", "path": "/score", "status": 200}
    assert rejection["RejectedRequests"] == 1
    assert second["status"] == 400


def test_control_characters_are_escaped(stack: LocalStack) -> None:
    printed = Printed(stack)
    stack.post("/score", json={"tx_id": "right\u202eto left", "amount": 1}, headers={"Idempotency-Key": "k"})
    stack.get("/\x9b31m")
    stack.get("/%1b[31m")
    assert printed() == [
        r"200  POST /score  LOW 0  no rule  tx right\u202eto left  decision k",
        "404  GET /%C2%9B31m  No route has the path '/\\x9b31m'",
        "404  GET /%1B%5B31m  No route has the path '/\\x1b[31m'",
    ]


ALERT = {
    "alert_id": "0123",
    "tx_id": "TX003",
    "decision_id": "order-17",
    "risk_level": "CRITICAL",
    "score": 7,
    "triggered_rules": [R1, R3],
    "version": "1.0",
    "evaluated_at": "2026-11-22T11:42:26.344028Z",
    "transaction": {"amount": 4500.0},
}


def test_alert_is_one_line_without_its_transaction() -> None:
    text, lines = io.StringIO(), io.StringIO()
    Console("text", text).alert(ALERT)
    Console("json", lines).alert(ALERT)
    assert text.getvalue()[10:] == f"ALERT  CRITICAL 7  {R1}, {R3}  tx TX003  decision order-17\n"
    entry = json.loads(lines.getvalue())
    del entry["timestamp"]
    assert entry == {"message": "alert", **{name: ALERT[name] for name in ALERT if name != "transaction"}}


@contextmanager
def on_a_terminal(**variables: str) -> Iterator[tuple[str, IO[str]]]:
    """Start a stack on a terminal; yield its URL and the terminal's output."""
    terminal, inside = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [SAM_PYTHON, *STACK],
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
def test_terminals_get_colors_unless_no_color_is_set(variables: dict[str, str], escapes: int) -> None:
    with on_a_terminal(**variables) as (address, output):
        RunningService(address).get("/nowhere")
        line = next(line for line in output if "GET /nowhere" in line)
    assert line.count(ESCAPE) == escapes


def test_files_get_no_colors(stack: LocalStack) -> None:
    printed = Printed(stack)
    assert stack.get("/nowhere").status_code == 404
    assert stack.post("/score", data="{", headers=dict(JSON)).status_code == 400
    assert len(printed()) == 2
    assert ESCAPE not in stack.log.read_text()


def test_invalid_rules_are_one_line_and_503_until_fixed(stack: LocalStack) -> None:
    rules = stack.root / "functions/layer/scoring/scorers/rules.json"
    valid = rules.read_text()
    no_points = valid.replace('"points": 3', '"points": "3"')
    printed = Printed(stack)

    def error_line() -> str:
        """Return the single line about the error, after several functions have responded with its message."""
        before = len(printed())
        responses = []
        for _ in range(2):
            responses += [stack.post("/score", json=TX003), stack.get("/health")]
            assert stack.get("/stats").status_code == 200
        messages = {response.json()["error"] for response in responses}
        assert len(messages) == 1
        for response in responses:
            assert (response.status_code, list(response.json())) == (503, ["error"])
            assert int(response.headers["Retry-After"]) > 0
        line, *requests = printed()[before:]
        assert line == f"ERROR  {messages.pop()}"
        assert requests == ["503  POST /score", "503  GET /health", "200  GET /stats"] * 2
        return line

    try:
        rules.write_text(no_points)
        assert R1 in error_line()
        rules.write_text(valid[:-10])
        assert "rules.json" in error_line()
        rules.write_text(valid)
        assert stack.post("/score", json=TX003).json()["score"] == 7
        rules.write_text(no_points)
        assert R1 in error_line()
    finally:
        rules.write_text(valid)
    assert stack.get("/health").status_code == 200
    assert "Traceback" not in "\n".join(printed())
