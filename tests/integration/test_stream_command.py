"""``make stream``: what it prints, its checks, and how it ends."""

import json
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from scoring.assessment import HIGH_RISK_LEVELS
from tests import payments
from tests.integration.test_local_stack import descendants, wait_for_end
from tests.local.environments import APP_PYTHON
from tests.local.processes import free_port
from tests.local.template import ROOT

TIMEOUT_SECONDS = 60
STREAM = (APP_PYTHON, "-m", "tests.local.stream")


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*STREAM, *options], cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )


def entries(log: str, message: str) -> list[dict[str, Any]]:
    """Return the JSON lines with this message."""
    found = [json.loads(line) for line in log.splitlines()]
    return [entry for entry in found if entry.get("message") == message]


def test_stream_counts_and_alerts_every_record() -> None:
    result = run("--rows", "2000", "--port", "0", "--logs", "json")
    assert result.returncode == 0, result.stderr
    # The stream function logs the same message.
    lines = [line for line in entries(result.stderr, "stream") if "per_second" in line]
    records = [line["records"] for line in lines]
    assert records == sorted(records)
    last = lines[-1]
    del last["timestamp"], last["per_second"]
    levels = Counter(payments.assess(row)["risk_level"] for row in payments.rows(2000))
    high = sum(levels[level] for level in HIGH_RISK_LEVELS)
    assert high
    assert last == {"message": "stream", "records": 2002, "lag": 0, **levels, "alerts": high, "dead_letters": 2}
    alerted = entries(result.stderr, "alert")
    assert len({alert["alert_id"] for alert in alerted}) == high
    assert {alert["risk_level"] for alert in alerted} == HIGH_RISK_LEVELS
    summary = (
        r"2,002 records in \d+ s: 2,000 counted, 2 in StreamDeadLetterQueue\. "
        rf"{high} decisions are HIGH or CRITICAL, {high} were alerted\."
    )
    assert re.fullmatch(summary, result.stdout.splitlines()[-1])


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_ends_everything_without_a_traceback(tmp_path: Path, ending: signal.Signals) -> None:
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*STREAM, "--rate", "50", "--port", str(port)], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not re.search(r"  STREAM  records [1-9]", log.read_text()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert requests.get(f"http://127.0.0.1:{port}/stats", timeout=TIMEOUT_SECONDS).json()["total"] > 0
        processes = descendants(process.pid)
        process.send_signal(ending)
        assert process.wait(TIMEOUT_SECONDS) == (0 if ending is signal.SIGINT else -ending)
        wait_for_end(processes)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--rows", "many"), "ROWS must be a positive integer, not 'many'"),
        (("--rows", "0"), "ROWS must be a positive integer, not '0'"),
        (("--rate", "-1"), "RATE must be a positive integer, not '-1'"),
        (("--logs", "xml"), "LOGS must be text or json, not 'xml'"),
        (("--port", "abc"), "'abc' is not a port number"),
        (("--port", "70000"), "port 70000 on 127.0.0.1 cannot be used: "),
    ],
)
def test_invalid_option_is_one_line(options: tuple[str, str], error: str) -> None:
    result = run("=".join(options))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {error}")
    assert len(result.stderr.splitlines()) == 1
