"""The replay script, as a person runs it."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

from tests.integration.service import Service, free_port
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


def test_nothing_to_send_or_nobody_there(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    missing = replay(tmp_path / "missing.jsonl", "--url", nowhere)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    unreachable = replay("--url", nowhere)
    assert unreachable.returncode == 2
    assert unreachable.stderr.startswith(f"error: stopped after 0 transactions: {nowhere} cannot be reached")
