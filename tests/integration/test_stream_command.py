"""``make stream``: what it prints, its checks, and how it ends."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from scoring.assessment import HIGH_RISK_LEVELS, RISK_LEVELS
from tests import payments
from tests.integration.test_local_stack import descendants, wait_for_end
from tests.local.environments import APP_PYTHON
from tests.local.processes import free_port
from tests.local.template import ROOT

TIMEOUT_SECONDS = 60
STREAM = (APP_PYTHON, "-m", "tests.local.stream")


def run(*options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*STREAM, *options],
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
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


@pytest.mark.parametrize("scorer", ["forest", "shadow"])
def test_stream_with_a_model(scorer: str) -> None:
    """The histories that the model needs are added to the rules."""
    result = run("--rows", "500", "--port", "0", "--logs", "json", Scorer=scorer)
    assert result.returncode == 0, result.stderr
    rules = Counter(payments.assess(row)["risk_level"] for row in payments.rows(500))
    last = [line for line in entries(result.stderr, "stream") if "per_second" in line][-1]
    levels = {level: last.get(level, 0) for level in RISK_LEVELS}
    assert sum(levels.values()) == 500
    # In shadow mode, the rules decide.
    assert (levels == {level: rules[level] for level in RISK_LEVELS}) == (scorer == "shadow")
    alerted = entries(result.stderr, "alert")
    assert len({alert["alert_id"] for alert in alerted}) == levels["HIGH"] + levels["CRITICAL"]
    assert all(("fraud_probability" in alert) == (scorer == "forest") for alert in alerted)
    summary = re.fullmatch(
        r"The model would change the level of (\d+) decisions: (.+)\.", result.stdout.splitlines()[-1]
    )
    assert bool(summary) == (scorer == "shadow")
    if summary:
        shifts = re.findall(r"(\d+) from \w+ to \w+", summary[2])
        assert int(summary[1]) == sum(map(int, shifts))
        logged = {line["decision_id"] for line in entries(result.stderr, "level would change")}
        assert len(logged) == int(summary[1])


@dataclass(frozen=True)
class Running:
    """A stream in which records are counted already."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Running]:
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
        yield Running(process, port, log)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def test_api_serves_the_decisions_of_the_stream(stream: Running) -> None:
    stats = requests.get(f"http://127.0.0.1:{stream.port}/stats", timeout=TIMEOUT_SECONDS)
    assert stats.json()["total"] > 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_end_leaves_no_process(stream: Running, ending: signal.Signals) -> None:
    processes = descendants(stream.process.pid)
    stream.process.send_signal(ending)
    assert stream.process.wait(TIMEOUT_SECONDS) == (0 if ending is signal.SIGINT else -ending)
    wait_for_end(processes)


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("ministack", "the emulator of AWS was killed by SIGKILL and its data is lost; run the command again"),
        ("tansu", "the Kafka broker was killed by SIGKILL and its records are lost; run the command again"),
        ("tests.local.api", "the API was killed by SIGKILL; run the command again"),
    ],
)
def test_death_of_a_part_ends_the_stream_with_one_line(stream: Running, program: str, error: str) -> None:
    processes = descendants(stream.process.pid)
    (part,) = (pid for pid in processes if program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(part, signal.SIGKILL)
    assert stream.process.wait(TIMEOUT_SECONDS) == 1
    wait_for_end(processes)
    assert stream.log.read_text().splitlines()[-1] == f"error: {error}"


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
