"""The command ``events/export.py``: a backtest of what it exports decides as the service did."""

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.clients import assert_one_error, run
from tests.local import account
from tests.local.template import ROOT
from tests.service import LocalStack

TABLE = "DecisionsTable"
TRANSACTIONS = [
    {"tx_id": "E1", "customer_id": "export-1", "amount": 5, "store": "A"},
    {"tx_id": "E2", "customer_id": "export-1", "amount": 4500.0, "category": "electronics", "hour": 3, "typo": 1},
    {"customer_id": "export-2", "amount": 3001},
    {"tx_id": "E2", "customer_id": "export-1", "amount": 4500.0, "category": "electronics", "hour": 3},
    {"tx_id": "E4", "customer_id": "export-1", "amount": 7.25, "timestamp": "2026-01-01T04:00:00+01:00"},
    {"tx_id": "E5", "amount": 1, "timestamp": "2026-01-01T12:00:00Z"},
]


def endpoint(stack: LocalStack) -> str:
    """Return the address of the emulator that a local stack started."""
    pid = stack.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        variables = dict(one.split("=", 1) for one in Path(f"/proc/{child}/environ").read_text().split("\0") if one)
        if port := variables.get("GATEWAY_PORT"):
            return f"http://127.0.0.1:{port}"
    raise AssertionError("no emulator")


def export(address: str, *options: object) -> "subprocess.CompletedProcess[str]":
    return run(
        "export",
        "--table",
        TABLE,
        *options,
        AWS_ACCESS_KEY_ID=account.CREDENTIALS["AWS_ACCESS_KEY_ID"],
        AWS_SECRET_ACCESS_KEY=account.CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        AWS_DEFAULT_REGION=account.REGION,
        AWS_ENDPOINT_URL_DYNAMODB=address,
    )


def backtest(data: Path, rules: Path, report: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "functions.offline.backtest", data, "--present", rules, "--json", report]
    subprocess.run([*map(str, command), "--jobs", "2"], cwd=ROOT, check=True, capture_output=True)
    document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return document["present"]  # type: ignore[no-any-return]


def test_backtest_of_an_export_decides_alike(stack: LocalStack, tmp_path: Path) -> None:
    since = datetime.now(UTC).isoformat()
    decided = []
    for transaction in TRANSACTIONS:
        response = stack.post("/score", json=transaction)
        assert response.status_code == 200, response.text
        decided.append(response.json())
    address, file = endpoint(stack), tmp_path / "decisions.jsonl.gz"
    result = export(address, file, "--since", since)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith(f"{len(TRANSACTIONS)} decisions exported, ")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert [line["timestamp"] for line in lines] == [
        transaction.get("timestamp", decision["evaluated_at"])
        for transaction, decision in zip(TRANSACTIONS, decided, strict=True)
    ]
    sent = [{name: value for name, value in one.items() if name != "typo"} for one in TRANSACTIONS]
    assert [{name: line[name] for name in one} for line, one in zip(lines, sent, strict=True)] == sent
    # A rule set that tells every history apart, to compare it, too
    rules = json.loads((stack.root / "functions/layer/scoring/scorers/rules.json").read_text(encoding="utf-8"))
    (tmp_path / "rules.json").write_text(json.dumps(rules), encoding="utf-8")
    found = backtest(file, tmp_path / "rules.json", tmp_path / "report.json")
    levels = [decision["risk_level"] for decision in decided]
    assert {level: counts["hits"] for level, counts in found["levels"].items()} == {
        level: levels.count(level) for level in found["levels"]
    }
    assert {label: counts["hits"] for label, counts in found["by_rule"].items()} == {
        label: sum(label in decision["triggered_rules"] for decision in decided) for label in found["by_rule"]
    }
    assert (found["valid"], found["without_timestamp"]) == (len(TRANSACTIONS), 0)
    history = [decision["history"]["customer"]["count_24h"] for decision in decided if "history" in decision]
    for count in range(1, max(history) + 1):
        when = [{"field": "customer.count_24h", "operator": ">=", "value": count}]
        rules["rules"] = [{"label": "earlier", "points": 1, "when": when}]
        (tmp_path / "rules.json").write_text(json.dumps(rules), encoding="utf-8")
        found = backtest(file, tmp_path / "rules.json", tmp_path / "report.json")
        assert found["by_rule"]["earlier"]["hits"] == sum(one >= count for one in history) > 0


def test_export_to_standard_output(stack: LocalStack) -> None:
    stack.post("/score", json={"amount": 5, "tx_id": "to-stdout"})
    address = endpoint(stack)
    result = export(address)
    assert result.returncode == 0
    assert "to-stdout" in [json.loads(line).get("tx_id") for line in result.stdout.splitlines()]
    later = export(address, "--since", "2126-01-01")
    assert (later.returncode, later.stdout) == (0, "")
    assert later.stderr.startswith("0 decisions exported, ")


def test_unusable_table_and_file(stack: LocalStack, tmp_path: Path) -> None:
    address = endpoint(stack)
    assert_one_error(export(address, "--table", "Other"), "table 'Other' cannot be read: ResourceNotFoundException: ")
    assert_one_error(export("http://127.0.0.1:9"), "table 'DecisionsTable' cannot be read: Could not connect to the")
    assert_one_error(export("nothing"), "table 'DecisionsTable' cannot be read: Invalid endpoint: nothing")
    assert_one_error(export(address, tmp_path / "no" / "file"), "file cannot be written: No such file or directory")
    (tmp_path / "folder.gz").mkdir()
    assert_one_error(export(address, tmp_path / "folder.gz"), "folder.gz cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.gz"]


@pytest.mark.parametrize("limit", ["yesterday", "2026-13-01"])
def test_wrong_limit_prints_the_usage(limit: str) -> None:
    result = run("export", "--table", TABLE, "--since", limit)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{limit!r} is neither a date nor a time" in result.stderr


def test_missing_credentials_print_one_line(tmp_path: Path) -> None:
    result = run(
        "export",
        "--table",
        TABLE,
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
        AWS_CONFIG_FILE=str(tmp_path / "none"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
        AWS_EC2_METADATA_DISABLED="true",
        AWS_DEFAULT_REGION="eu-central-1",
    )
    assert_one_error(result, "table 'DecisionsTable' cannot be read: Unable to locate credentials")


def test_closed_output_prints_one_line() -> None:
    command = f"{sys.executable} events/export.py --table {TABLE} >&-"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    expected = "error: the output cannot be written: standard output is closed\n"
    assert (result.returncode, result.stderr) == (2, expected)
