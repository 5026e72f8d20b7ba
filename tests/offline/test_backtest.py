"""Backtests of Parquet files, and their pages, as ``make backtest`` makes them."""

import csv
import datetime as dt
import gzip
import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.rows import FileError
from functions.offline import backtest, parquet
from scoring import http_api, scorers
from tests.local.template import ROOT
from tests.offline.conftest import PAYMENTS


def payments(count: int) -> list[dict[str, str]]:
    with gzip.open(PAYMENTS, "rt", encoding="utf-8") as file:
        return list(itertools.islice(csv.DictReader(file), count))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with some payments as CSV and, as other systems write them, as Parquet, and a candidate."""
    folder = tmp_path_factory.mktemp("data")
    rules = json.loads(Path(scorers.RULES_FILE).read_text(encoding="utf-8"))
    rules["rules"][0]["when"][0]["value"] = 300
    (folder / "rules.json").write_text(json.dumps({**rules, "version": "2"}), encoding="utf-8")
    rows = payments(4_000)
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = {
        "ts": pa.array([time.removesuffix("Z") for time in columns["timestamp"]]).cast(pa.timestamp("ms")),
        "tx_id": pa.array(columns["tx_id"]),
        "customer": pa.array([int(one.removeprefix("C")) for one in columns["customer_id"]], pa.int16()),
        "amount": pa.array(map(float, columns["amount"])),
        "store": pa.array(columns["store"]).dictionary_encode(),
        "category": pa.array(columns["category"]).dictionary_encode(),
        "hour": pa.array(map(int, columns["hour"]), pa.int8()),
        "is_fraud": pa.array(map(int, columns["is_fraud"]), pa.int8()),
    }
    pq.write_table(pa.table(table), folder / "data.parquet")
    return folder


def run(*arguments: object) -> None:
    backtest.main([*map(str, arguments), "--jobs", "1"])


def test_parquet_gives_the_same_report(data: Path, tmp_path: Path) -> None:
    reports = []
    for name, columns in (("data.csv", []), ("data.parquet", ["--columns", "ts=timestamp customer=customer_id"])):
        out = tmp_path / "report.json"
        run(data / name, "--rules", data / "rules.json", "--label", "is_fraud", "--json", out, *columns)
        report = json.loads(out.read_text(encoding="utf-8"))
        for scorer in (report["present"], report["candidate"]):
            scorer["notes"].clear()
        for change in report["changes"]["listed"]:
            # A CSV file has a header.
            change["line"] -= name == "data.csv"
        reports.append({**report, "data": ""})
    assert reports[0] == reports[1]
    assert reports[0]["transactions"] == 4_000
    assert reports[0]["changes"]["level"] > 10


@pytest.mark.parametrize("label", ["", "is_fraud"])
@pytest.mark.parametrize("option", ["", "--rules", "--model"])
def test_page(data: Path, tmp_path: Path, label: str, option: str) -> None:
    path = tmp_path / "page.html"
    candidate = [option, data / "rules.json" if option == "--rules" else scorers.MODEL_FILE] if option else []
    run(data / "data.csv", "--html", path, *candidate, *(["--label", label] if label else []))
    text = path.read_text(encoding="utf-8")
    headings = re.findall("<h2>(.*?)</h2>", text)
    expected = ["Precision and recall", "Money"] if label else ["Levels"]
    if candidate:
        expected.append("Level shifts")
    expected.append("Present: version 1.0-rules")
    if option == "--model":
        expected += ["Probabilities", "Thresholds"] if label else ["Probabilities"]
    if candidate:
        version = headings[-2].removeprefix("Candidate: version ")
        assert f"<h1>Backtest of {version} against 1.0-rules</h1>" in text
        expected += [f"Candidate: version {version}", "Transactions that change their level"]
    assert headings == expected
    assert text.count("<svg") == len([one for one in headings if "version" not in one and "change" not in one])
    # Readable without a network
    assert not re.search(r"(?:src|href)=\"http", text)


def test_page_of_no_frauds_and_no_hits(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("amount,is_fraud\n1,0\n", encoding="utf-8")
    run(data, "--model", scorers.MODEL_FILE, "--label", "is_fraud", "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<svg") == 5


def test_make_backtest(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = ["make", "--old-file", ".tools/offline/ready", "backtest", f"DATA={data / 'data.parquet'}", f"JSON={out}"]
    command += ["COLUMNS=ts=timestamp customer=customer_id", f"RULES={data / 'rules.json'}", "LABEL=is_fraud", "JOBS=2"]
    command += [f"HTML={tmp_path / 'page.html'}", f"MODEL={scorers.MODEL_FILE}"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert (report["label"], report["candidate"]["rules"]) == ("is_fraud", str(data / "rules.json"))
    assert report["candidate"]["model"] == scorers.MODEL_FILE
    assert "change their level" in result.stdout
    assert (tmp_path / "page.html").exists()


def test_values_of_parquet_are_what_the_service_decodes(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    table = {
        "Amount": [1.5, None, float("nan"), float("inf")],
        "hour": [1.0, 2.5, None, 3.0],
        "store": pa.array([1, 2, None, 4]),
        "category": pa.array(["a", None, "ä\U0001f600", ""]).dictionary_encode(),
        "timestamp": pa.array([dt.date(2020, 1, 1)] * 4),
        "due": pa.array([dt.datetime(2020, 7, 1, 1, 2, 3, tzinfo=dt.UTC)] * 4, pa.timestamp("us", tz="Europe/Berlin")),
        "flag": pa.array([0, 1, 2, None]),
        "Is Fraud": pa.array([0, 1, None, 1]),
    }
    pq.write_table(pa.table(table), path)
    found = list(parquet.rows(path, lambda: {"due": "time", "flag": "boolean"}, {}))
    assert [row.line for row in found] == [1, 2, 3, 4]
    assert parquet.count(path) == 4
    for row in found[:3]:
        assert row.document is not None
        assert repr(row.document) == repr(http_api.document(row.body))
    documents = [row.document or {} for row in found]
    assert documents[0] == {
        "amount": 1.5,
        "hour": 1,
        "store": "1",
        "category": "a",
        "timestamp": "2020-01-01T00:00:00Z",
        "due": "2020-07-01T03:02:03+02:00",
        "flag": False,
    }
    assert [one.get("amount") for one in documents] == [1.5, None, None, float("inf")]
    assert [one.get("flag") for one in documents] == [False, True, 2, None]
    assert [row.value("is_fraud") for row in (found[0], found[1])] == [0, 1]
    with pytest.raises(KeyError):
        found[2].value("Is Fraud")


@pytest.mark.parametrize("values", [["x" * 5_000], [[1]], [b"x"]])
def test_long_and_nested_values_are_decoded_from_json(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"amount": [1.0], "store": values}), path)
    [row] = parquet.rows(path, dict, {})
    assert row.document is None
    assert json.loads(row.body)["amount"] == 1.0


def test_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(parquet.MAGIC + b"x" * 100)
    with pytest.raises(FileError, match=r"cannot be read as Parquet: [^\n]*$"):
        parquet.count(path)
    with pytest.raises(SystemExit, match=r"^error: [^\n]*cannot be read as Parquet: [^\n]*$"):
        run(path)
