"""Backtests, as ``make backtest`` and ``make rules`` run them."""

import copy
import gzip
import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from events import rows
from functions.offline import backtest
from scoring import fields
from scoring.errors import RuleSetError
from scoring.scorers import fields_loader
from tests import events as samples
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, R1, R2, R3

SAMPLES = samples.FOLDER / "transactions.jsonl"
SUMMARY = """\
level     count  percent
CRITICAL      1    10.0%
HIGH          2    20.0%
MEDIUM        4    40.0%
LOW           3    30.0%

rule                    count  percent
R1: amount > 3000           3    30.0%
R2: electronics > 1500      3    30.0%
R3: night hour              3    30.0%
"""


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "functions.offline.backtest", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, encoding="utf-8")


def candidate(**changes: Any) -> dict[str, Any]:
    """Return the tests' rule set with changes."""
    return {**copy.deepcopy(DOCUMENT), "version": "1.1", **changes}


@pytest.fixture
def files(tmp_path: Path) -> "Files":
    return Files(tmp_path)


class Files:
    """Writes rule sets and transactions, and runs backtests with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def lines(self, *transactions: Any) -> Path:
        return self.write("data.jsonl", "".join(json.dumps(transaction) + "\n" for transaction in transactions))

    def backtest(self, data: Path, rules: Any = DOCUMENT, against: Any = None, label: str = "") -> dict[str, Any]:
        """Backtest one rule set or, if there is another one to compare it with, a candidate; return the report."""
        report = self.folder / "report.json"
        arguments = ["--jobs", "1", "--json", report, "--present", self.write("present.json", against or rules)]
        if against:
            arguments += ["--rules", self.write("rules.json", rules)]
        if label:
            arguments += ["--label", label]
        backtest.main([*map(str, arguments), str(data)])
        document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return document


def output(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines after the heading with the name of the file."""
    captured = capsys.readouterr()
    assert captured.err == ""
    blank, heading, *lines = captured.out.splitlines()
    assert blank == ""
    assert heading.startswith("/")
    return lines


def test_types_in_files_are_those_of_the_service() -> None:
    assert {field.name: field.type for field in fields.BUILT_IN} == rows.BUILT_IN_FIELDS
    for kind in rows.TYPES:
        assert fields_loader.load({"own": {"type": kind}})["own"].type == kind
    with pytest.raises(RuleSetError, match=f"known are {', '.join(rows.TYPES)}$"):
        fields_loader.load({"own": {"type": "other"}})


def test_samples(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(SAMPLES)
    assert capsys.readouterr() == (f"\n{SAMPLES}: 10 transactions, version 1.0-tests\n\n{SUMMARY}", "")


@pytest.mark.parametrize("name", ["json", "jsonl.gz", "csv"])
def test_formats(files: Files, capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = SAMPLES.read_text(encoding="utf-8")
    transactions = [json.loads(line) for line in text.splitlines()]
    path = files.folder / f"data.{name}"
    names = ["tx_id", "amount", "category", "store", "hour"]
    cells = [",".join(str(transaction.get(field, "")) for field in names) for transaction in transactions]
    content = {
        "json": json.dumps(transactions, indent=2).encode(),
        "jsonl.gz": gzip.compress(text.encode()),
        "csv": "\n".join([",".join(names), *cells]).encode(),
    }
    path.write_bytes(content[name])
    files.backtest(path)
    assert output(capsys) == ["", *SUMMARY.splitlines()]


def test_rules_and_levels_without_hits(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(files.lines({"amount": 1}, {"amount": 5000}, {"amount": 5000}))
    lines = output(capsys)
    assert lines[2] == "CRITICAL      0    never"
    assert lines[3] == "HIGH          2    66.7%"
    assert lines[-3:] == [
        f"{R1}           2    66.7%",
        f"{R2}      0    never",
        f"{R3}              0    never",
    ]


def test_disabled_rules_are_not_listed(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rules = candidate()
    rules["rules"][1]["enabled"] = False
    files.backtest(SAMPLES, rules)
    assert R2 not in "\n".join(output(capsys))
    files.backtest(SAMPLES, candidate(rules=[{**rule, "enabled": False} for rule in DOCUMENT["rules"]]))
    assert output(capsys)[4:] == ["MEDIUM        0    never", "LOW          10   100.0%", "", "rule  count  percent"]


def test_invalid_transactions(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    text = '{"amount": 1, "amount": 2}\n[]\n\n{"amount": "1"}\n{\n{"amount": 1}\n' + "{}\n" * 3
    files.backtest(files.write("data.jsonl", text))
    assert output(capsys)[:10] == [
        "",
        "7 invalid:",
        "  line 1: Field 'amount' appears more than once",
        "  line 2: The transaction must be a JSON object, not an array",
        "  line 4: Field 'amount' must be a number",
        "  line 5: The body is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)",
        "  line 7: Missing required field 'amount'",
        "  and 2 more",
        "",
        "level     count  percent",
    ]


def test_only_invalid_transactions(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(files.lines({"amount": -1}))
    assert output(capsys) == ["", "1 invalid:", "  line 1: Field 'amount' must not be negative"]


def test_transaction_larger_than_a_request(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(files.lines({"amount": 1, "store": "x" * 65_536}))
    assert output(capsys)[2] == "  line 1: The body is larger than 65536 bytes"


def test_unknown_fields(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    data = files.lines({"amount": 1, "b": 1, "categroy": "x"}, {"amount": 1}, {"amount": 1, "\x1b": 1, "categroy": 1})
    files.backtest(data)
    found = output(capsys)
    assert found[:2] == ["", r"2 with unknown fields: 'categroy' in 2, '\x1b' in 1, 'b' in 1"]
    files.backtest(data, candidate(unknown_fields="refuse"))
    assert output(capsys)[1:3] == ["2 invalid:", "  line 1: Unknown field 'b'"]
    files.backtest(files.lines({"amount": 1, **{f"{n:02}": n for n in range(11)}}))
    assert output(capsys)[1].endswith(" '09' in 1, ...")


def test_columns_of_csv(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    data = files.write("data.csv", "id;amount;country;items\nA;10,5;PL;x\n")
    files.backtest(data, candidate(fields={"items": {"type": "integer"}}))
    assert output(capsys)[:4] == [
        "columns: sent id as tx_id; not sent country",
        "",
        "1 invalid:",
        "  line 2: Field 'items' must be an integer of 64 bits",
    ]


def comparison(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines about the changes: from which level to which, and the transactions."""
    lines = output(capsys)
    return lines[next(at for at, line in enumerate(lines) if line.startswith("from / to")) :]


def changes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines about the transactions that change their level."""
    lines = comparison(capsys)
    return lines[lines.index("") + 1 :]


def test_comparison(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rules = candidate(fields={"amount": {"maximum": 10_000}})
    rules["rules"][0]["when"][0]["value"] = 4000
    rules["rules"][2] = {**rules["rules"][2], "label": "late", "points": 1}
    data = files.lines(
        {"tx_id": "same", "amount": 1},
        {"tx_id": "level", "amount": 3500, "hour": 3},
        {"tx_id": "rule", "amount": 4500},
        {"tx_id": "invalid", "amount": 10_001},
        {"tx_id": "invalid", "amount": "both"},
        {"amount": 1, "hour": 3},
        {"tx_id": "\u202e\u2028", "amount": 1, "hour": 4},
    )
    report = files.backtest(data, rules, DOCUMENT)
    assert comparison(capsys) == [
        "from / to  CRITICAL  HIGH  MEDIUM  LOW  invalid",
        "CRITICAL          -     -       1    -        -",
        "HIGH              -     1       -    -        1",
        "MEDIUM            -     -       2    -        -",
        "LOW               -     -       -    1        -",
        "invalid           -     -       -    -        1",
        "",
        "2 of 7 change their level:",
        "  line 2  level  CRITICAL 5 -> MEDIUM 1  + late  - R1: amount > 3000  - R3: night hour",
        "  line 4  invalid  HIGH 3 -> invalid (Field 'amount' must be at most 10000)  - R1: amount > 3000",
        "2 keep their level, but hit other rules",
    ]
    assert report["shifts"]["CRITICAL"] == {"CRITICAL": 0, "HIGH": 0, "MEDIUM": 1, "LOW": 0, "invalid": 0}
    assert sum(sum(row.values()) for row in report["shifts"].values()) == report["transactions"] == 7
    assert report["changes"]["rules"] == 2
    assert report["changes"]["listed"][1] == {
        "line": 4,
        "tx_id": "invalid",
        "amount": 10_001,
        "present": {"level": "HIGH", "score": 3, "rules": [R1]},
        "candidate": {"level": "invalid", "error": "Field 'amount' must be at most 10000"},
    }


def test_comparison_accepts_what_was_invalid(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    present = {**DOCUMENT, "fields": {"amount": {"maximum": 10}}}
    files.backtest(files.lines({"tx_id": "A", "amount": 4000}), candidate(), present)
    assert changes(capsys) == [
        "1 of 1 change their level:",
        "  line 1  A  invalid (Field 'amount' must be at most 10) -> HIGH 3  + R1: amount > 3000",
    ]


def test_comparison_without_a_difference(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(SAMPLES, candidate(), DOCUMENT)
    assert changes(capsys) == ["0 of 10 change their level"]


def test_ids_are_printable(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    data = files.lines({"tx_id": "\u202e\u2028", "amount": 3500})
    files.backtest(data, candidate(fields={"amount": {"maximum": 1}}), DOCUMENT)
    assert changes(capsys)[1].startswith(r"  line 1  '\u202e\u2028'  HIGH 3 -> invalid ")


def test_comparison_lists_50_transactions(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rules = candidate()
    rules["rules"][0]["when"][0]["value"] = 1000
    report = files.backtest(files.lines(*[{"amount": 1500}] * 53), rules, DOCUMENT)
    lines = changes(capsys)
    assert lines[0] == "53 of 53 change their level:"
    assert lines[50:] == ["  line 50  unknown  LOW 0 -> HIGH 3  + R1: amount > 3000", "  and 3 more"]
    assert [change["line"] for change in report["changes"]["listed"]] == list(range(1, 54))


def test_comparison_reads_csv_with_the_types_of_each_rule_set(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    when = [{"field": "items", "operator": "==", "value": "7"}]
    rules = candidate(
        fields={"items": {"type": "string"}},
        rules=[{"label": "seven", "points": 1, "when": when}],
        unknown_fields="refuse",
    )
    present = {**DOCUMENT, "fields": {"items": {"type": "integer"}}}
    data = files.write("data.csv", "tx_id,amount,items\nA,1,7\nB,1,8\n")
    files.backtest(data, rules, present)
    assert changes(capsys) == ["1 of 2 change their level:", "  line 2  A  LOW 0 -> MEDIUM 1  + seven"]
    # The present rule set does not declare the column.
    files.backtest(data, rules, {**DOCUMENT, "unknown_fields": "refuse"})
    assert changes(capsys)[0] == "1 of 2 change their level:"


def payment(time: str, **fields: Any) -> dict[str, Any]:
    return {"customer_id": "C1", "timestamp": f"2020-11-25T{time}+01:00", "amount": 10, **fields}


def rule(label: str, *when: tuple[str, str, Any]) -> dict[str, Any]:
    conditions = [{"field": field, "operator": operator, "value": value} for field, operator, value in when]
    return {"label": label, "points": 1, "when": conditions}


def hits(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Return how often each rule hit."""
    lines = output(capsys)
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("rule ")) + 1 :]
    return {label: int(count) for label, count, _ in (line.split() for line in table)}


HISTORY = [
    rule("earlier", ("customer.count_1h", ">=", 1)),
    rule("second", ("customer.seconds_since_last", "==", 1)),
    rule("hour", ("customer.seconds_since_last", "==", 3600)),
    rule("ratio", ("customer.amount_ratio", ">", 5)),
    rule("known", ("customer.is_new", "==", False)),
]


@pytest.mark.parametrize(
    ("transactions", "expected"),
    [
        ([payment("08:00:00")], {}),
        ([payment("08:00:00"), payment("08:00:01.9")], {"earlier": 1, "second": 1}),
        ([payment("08:00:00"), payment("09:00:00")], {"hour": 1}),
        # The order of the file counts: what comes later in it is not known.
        ([payment("08:00:01"), payment("08:00:00")], {}),
        ([payment("08:00:00"), payment("08:00:01", customer_id="C2")], {}),
        ([payment("08:00:00"), payment("08:00:01", customer_id="C2"), payment("08:01:00")], {"earlier": 1}),
        ([payment("08:00:00"), payment("06:00:00", amount=50.1)], {"ratio": 1}),
        ([payment("08:00:00", store="A"), payment("10:00:00", store="A")], {"known": 1}),
        ([payment("08:00:00", store="A"), payment("10:00:00", store="B")], {}),
        # Invalid
        ([payment("08:00:00", hour=24), payment("08:00:01")], {}),
        # Without a customer
        ([{"amount": 1, "timestamp": "2020-11-25T08:00:00Z"}] * 2, {}),
    ],
)
def test_history(
    files: Files, capsys: pytest.CaptureFixture[str], transactions: list[Any], expected: dict[str, int]
) -> None:
    files.backtest(files.lines(*transactions), candidate(rules=HISTORY))
    assert {label: count for label, count in hits(capsys).items() if count} == expected


def test_history_needs_timestamps(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    without = {"customer_id": "C1", "amount": 10}
    data = files.lines(payment("08:00:00"), without, {"amount": 1}, payment("08:00:01"))
    report = files.backtest(data, candidate(rules=HISTORY))
    found = output(capsys)
    assert found[0] == "1 without a timestamp: decided without history, and in no other's history"
    assert "second       1    25.0%" in found
    assert report["present"]["without_timestamp"] == 1


def test_rule_sets_have_histories_of_their_own(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    data = files.lines(payment("08:00:00", tx_id="A"), payment("08:00:01", tx_id="B"))
    present = candidate(rules=HISTORY[:1], version="1.0-tests")
    by_store = candidate(
        histories={"customer": {"by": "store", "distinct": "customer_id"}}, rules=HISTORY[:2], fields={}
    )
    files.backtest(data, by_store, present)
    assert changes(capsys) == ["1 of 2 change their level:", "  line 2  B  MEDIUM 1 -> LOW 0  - earlier"]


def test_lists_are_not_read(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [
        rule("blocked", ("customer_id", "in list", "blocked")),
        rule("not_known", ("customer_id", "not in list", "known")),
        rule("store", ("store", "in list", "blocked")),
        {**rule("disabled", ("store", "in list", "disabled")), "enabled": False},
    ]
    data = files.lines(payment("08:00:00", store="A"))
    report = files.backtest(data, candidate(rules=rules))
    lines = output(capsys)
    assert lines[0] == "lists are not read, so no condition on blocked, known holds"
    assert report["present"]["unread_lists"] == ["blocked", "known"]
    assert "blocked        0    never" in lines
    assert "not_known      0    never" in lines


LABELLED = """3 of 6 valid transactions are frauds: 8,001 of 12,003

level            count  frauds  precision  recall  false positives  money caught  money blocked
CRITICAL             1       1     100.0%   33.3%           0.000%         4,000              0
HIGH or above        3       2      66.7%   66.7%          33.333%         8,000          4,000
MEDIUM or above      4       2      50.0%   66.7%          66.667%         8,000          4,001

rule                    count  frauds  precision  recall  false positives  money caught  money blocked
R1: amount > 3000           3       2      66.7%   66.7%          33.333%         8,000          4,000
R2: electronics > 1500      0       0          -    0.0%           0.000%             0              0
R3: night hour              2       1      50.0%   33.3%          33.333%         4,000              1
"""
FRAUDS = [
    ({"amount": 4000, "hour": 3}, True),
    ({"amount": 4000, "hour": 9}, True),
    ({"amount": 4000, "hour": 10}, False),
    ({"amount": 1, "hour": 3}, False),
    ({"amount": 1, "hour": 11}, True),
    ({"amount": 1, "hour": 12}, False),
    ({"amount": -1, "hour": 12}, True),
]


@pytest.mark.parametrize("texts", [(False, True), (0, 1), ("0", "1"), ("false", "true"), ("False", " TRUE ")])
def test_labels_in_json(files: Files, capsys: pytest.CaptureFixture[str], texts: tuple[Any, Any]) -> None:
    data = files.lines(*[{**transaction, "isFraud": texts[is_fraud]} for transaction, is_fraud in FRAUDS])
    files.backtest(data, candidate(unknown_fields="refuse"), label="isFraud")
    text = "\n".join(output(capsys))
    assert text.startswith("\n1 invalid:\n  line 7: Field 'amount' must not be negative\n\nlevel     count  percent\n")
    assert text.endswith(f"LOW           2    33.3%\n\n{LABELLED}".rstrip())


@pytest.mark.parametrize("column", ["isFraud", "Is Fraud", "is_fraud"])
def test_labels_in_csv(files: Files, capsys: pytest.CaptureFixture[str], column: str) -> None:
    rows = [f"{fields['amount']},{fields['hour']},{is_fraud:d}" for fields, is_fraud in FRAUDS]
    data = files.write("data.csv", "\n".join([f"amount,hour,{column}", *rows]))
    files.backtest(data, label=column)
    text = "\n".join(output(capsys))
    assert text.startswith(f"columns: not sent {column}\n")
    assert text.endswith(LABELLED.rstrip())


def test_labels_in_a_comparison(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rules = candidate()
    rules["rules"][0]["when"][0]["value"] = 5000
    data = files.lines(*[{**transaction, "fraud": is_fraud} for transaction, is_fraud in FRAUDS])
    report = files.backtest(data, rules, DOCUMENT, label="fraud")
    lines = output(capsys)
    present, other = lines.index("present: version 1.0-tests"), lines.index("candidate: version 1.1")
    assert lines[present:other][-len(LABELLED.splitlines()) - 1 : -1] == LABELLED.splitlines()
    cells = next(line for line in lines[other:] if line.startswith(R1)).removeprefix(R1).split()
    assert cells == ["0", "0", "-", "0.0%", "0.000%", "0", "0"]
    assert [change["fraud"] for change in report["changes"]["listed"]] == [True, True, False]


def test_labels_in_the_report(files: Files) -> None:
    data = files.lines(*[{**transaction, "fraud": is_fraud} for transaction, is_fraud in FRAUDS])
    report = files.backtest(data, label="fraud")
    found = report["present"]
    assert (report["label"], report["candidate"], report["shifts"], report["changes"]) == ("fraud", None, None, None)
    assert (found["valid"], found["invalid"], found["frauds"]) == (6, 1, 3)
    assert (found["money"], found["money_frauds"]) == (12_003, 8_001)
    assert found["errors"] == [{"line": 7, "error": "Field 'amount' must not be negative"}]
    assert found["at_least"]["HIGH"] == {
        "hits": 3,
        "money": 12_000,
        "frauds": 2,
        "precision": 2 / 3,
        "recall": 2 / 3,
        "false_positive_rate": 1 / 3,
        "money_caught": 8_000,
        "money_blocked": 4_000,
    }
    assert {level: counts["hits"] for level, counts in found["levels"].items()} == {
        "CRITICAL": 1,
        "HIGH": 2,
        "MEDIUM": 1,
        "LOW": 2,
    }
    assert list(found["by_rule"]) == [R1, R2, R3]
    assert found["by_rule"][R2]["precision"] is None


def test_report_without_labels_has_counts_only(files: Files) -> None:
    report = files.backtest(files.lines({"amount": 4000.25}, {"amount": 4000.5}, {"amount": 1}))
    assert report["label"] is None
    assert report["present"]["by_rule"][R1] == {"hits": 2, "money": 8_000.75}
    assert "frauds" not in report["present"]


@pytest.mark.parametrize(
    ("amounts", "total"),
    [
        ([0.1] * 10, math.fsum([0.1] * 10)),
        ([1e16, 1.0, 1.0], 1e16 + 2),
        ([1e300, 1.0], 1e300),
        ([10**300, 5], 1e300),
        # More than a double can hold
        ([1.7e308, 1.7e308], 2.0**1023),
    ],
)
def test_money_does_not_depend_on_the_order(files: Files, amounts: list[float], total: float) -> None:
    for ordered in (amounts, amounts[::-1]):
        assert files.backtest(files.lines(*({"amount": one} for one in ordered)))["present"]["money"] == total


def test_labels_without_a_fraud(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(files.lines({"amount": 4000, "fraud": 0}), label="fraud")
    lines = output(capsys)
    assert "0 of 1 valid transactions are frauds: 0 of 4,000" in lines
    cells = next(line for line in lines if line.startswith("HIGH or above")).removeprefix("HIGH or above").split()
    assert cells == ["1", "0", "0.0%", "-", "100.000%", "0", "4,000"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"amount": 1, "fraud": 1}\n{"amount": 1}\n', "line 2 has no label 'fraud'"),
        ('{"amount": 1, "Fraud": 1}\n', "line 1 has no label 'fraud'"),
        ("amount,label\n1,1\n", "line 2 has no label 'fraud'"),
        ("amount,fraud\n1,1\n1\n", "line 3 has no label 'fraud'"),
        ("amount,fraud\n1,1\n1,\n", "line 3: the label 'fraud' must be 0, 1, true or false, not ''"),
        ('\n{"amount": 1, "fraud": 2}\n', "line 2: the label 'fraud' must be 0, 1, true or false, not '2'"),
        ('{"amount": 1, "fraud": null}', "line 1: the label 'fraud' must be 0, 1, true or false, not 'None'"),
        ('{"amount": 1, "fraud": [true]}', "line 1: the label 'fraud' must be 0, 1, true or false, not '[True]'"),
        ("amount,fraud\n1,yes\n", "line 2: the label 'fraud' must be 0, 1, true or false, not 'yes'"),
    ],
)
def test_missing_or_wrong_label_prints_one_line(files: Files, content: str, error: str) -> None:
    data = files.write("data", content)
    with pytest.raises(SystemExit) as raised:
        files.backtest(data, label="fraud")
    assert raised.value.code == f"error: {data} {error}"


def test_malformed_row_needs_no_label(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.backtest(files.write("data.jsonl", '{"amount": 1, "fraud": 1}\n{"amount": 1\n[]\n'), label="fraud")
    assert "1 of 1 valid transactions are frauds: 1 of 1" in output(capsys)


@pytest.mark.parametrize("label", ["amount", "Paid Back"])
def test_label_must_not_be_a_field(files: Files, label: str) -> None:
    rules = candidate(fields={"paid_back": {"type": "boolean"}})
    with pytest.raises(SystemExit) as raised:
        files.backtest(files.lines({"amount": 1}), rules, label=label)
    assert raised.value.code == f"error: {label!r} is a field of version 1.1, so it cannot be the label"


def test_pipe_cannot_be_read_twice(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(
        SystemExit, match=r"^error: .*pipe must be a regular file: the rule sets declare different fields"
    ):
        files.backtest(pipe, candidate(fields={"items": {"type": "integer"}}), DOCUMENT)


def test_memory_does_not_grow_with_the_file(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rules = candidate()
    rules["rules"][0]["when"][0]["value"] = 3100
    data = files.lines(*({"tx_id": f"TX{n}", "amount": n, f"{n:02000}": n} for n in range(6_000)))
    tracemalloc.start()
    try:
        files.backtest(data, rules, DOCUMENT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data.stat().st_size > 12_000_000
    assert peak < 8_000_000
    assert "6000 with unknown fields: '000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "contains no transactions"),
        ("[", "is truncated: the array has no closing bracket"),
        ("a,b\n1,2\n", "is neither JSON nor CSV with a column 'amount'"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_unusable_file_prints_one_line(files: Files, content: str | None, error: str) -> None:
    data = files.folder / "data"
    if content is not None:
        files.write("data", content)
    result = run(data)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {data} {error}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--rules", "--present"])
def test_invalid_rule_set_prints_one_line(files: Files, option: str) -> None:
    result = run(option, files.write("wrong.json", []), SAMPLES)
    expected = "error: wrong.json: The rule set must be an object\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--json", "/none/report"], "/none/report cannot be written: /none is not a directory"),
        (["--json", "/"], "/ cannot be written: Is a directory"),
        (["--html", "/none/report"], "/none/report cannot be written: /none is not a directory"),
        (["--model", "none.model"], "none.model: The file cannot be read: No such file or directory"),
        (["--model", "README.md"], "README.md: The file is not a model: it does not begin with a line of risk-scoring"),
        (["--columns", "a=b"], f"{SAMPLES} is not a Parquet file: only columns of Parquet files can be renamed"),
        (["--html", "page.html"], "this Python has no matplotlib: use `make backtest`"),
    ],
)
def test_unusable_option_prints_one_line(options: list[str], error: str) -> None:
    result = run(SAMPLES, *options)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"error: {error}")


@pytest.mark.parametrize(
    ("options", "error"), [(["--jobs", "0"], "argument --jobs: "), (["--columns", "a"], "argument --columns: ")]
)
def test_wrong_option_prints_the_usage(options: list[str], error: str) -> None:
    result = run(SAMPLES, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: backtest")
    assert error in result.stderr


def test_closed_output_prints_one_line() -> None:
    command = f"{sys.executable} -m functions.offline.backtest {SAMPLES} >&-"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    expected = "error: the output cannot be written: standard output is closed\n"
    assert (result.returncode, result.stderr) == (1, expected)


def test_closed_pipe_is_not_an_error(files: Files) -> None:
    rules = [{**DOCUMENT["rules"][0], "label": f"{number:0100}"} for number in range(200)]
    path = files.write("rules.json", candidate(rules=rules))
    command = (
        f"{sys.executable} -m functions.offline.backtest --present {path} --rules {path} {SAMPLES} "
        "| head -n 1; exit ${PIPESTATUS[0]}"
    )
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_output_that_cannot_be_written_prints_one_line() -> None:
    command = f"{sys.executable} -m functions.offline.backtest {SAMPLES} > /dev/full"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    expected = "error: the output cannot be written: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, expected)


def test_make_rules_scores_the_samples(files: Files) -> None:
    rules = files.write("my rules.json", candidate())
    command = ["make", "--old-file", ".venv/ready", "rules", f"RULES={rules}"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, encoding="utf-8")
    assert (result.returncode, result.stderr) == (0, "")
    assert "version   1.1\n" in result.stdout
    assert "\nevents/transactions.jsonl: 10 transactions, version 1.1\n" in result.stdout


def test_make_rules_stops_at_an_invalid_candidate(files: Files) -> None:
    rules = files.write("candidate.json", [])
    command = ["make", "--old-file", ".venv/ready", "rules", f"RULES={rules}"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, encoding="utf-8")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("candidate.json: The rule set must be an object\nmake")
