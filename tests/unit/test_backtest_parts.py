"""Backtests on several processes, with models, and of rows that are not decoded from JSON: the result is the same."""

import contextlib
import copy
import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events import rows
from events.rows import Row
from functions.offline import backtest, backtest_report
from functions.offline.backtest_report import Contender
from functions.offline.labelled import Source
from functions.offline.replay import AnyScorer, Reader, Replay, read_histories, replay, router, sent
from functions.offline.tally import Tally
from scoring import http_api, scorers
from scoring.errors import HttpError
from scoring.scorers import rules_loader
from scoring.scorers.forest import model_file
from scoring.scorers.forest.inputs import Category, Inputs, Number
from scoring.scorers.forest.model import MEAN, Model
from scoring.scorers.forest.scorer import ForestScorer
from scoring.scorers.rules import RuleSet
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT

PAYMENTS = ROOT / "tests" / "data" / "sparkov_slim.csv.gz"
HISTORY = [
    {"label": "again", "points": 3, "when": [{"field": "customer.count_1h", "operator": ">=", "value": 2}]},
    {"label": "large", "points": 2, "when": [{"field": "customer.amount_ratio", "operator": ">", "value": 2}]},
    {"label": "new", "points": 1, "when": [{"field": "customer.is_new", "operator": "==", "value": True}]},
]
BY_STORE = {"customer": {"by": "store", "distinct": "customer_id"}}


def rule_set(**changes: Any) -> RuleSet:
    return rules_loader.from_document({**copy.deepcopy(DOCUMENT), "rules": HISTORY, **changes})


# Fraud from an amount above 50, or a second transaction within the hour
MODEL = Model(
    "small",
    Inputs([Number("amount", -1.0), Number("customer.count_1h", 0.0), Category("category", ("travel",))]),
    MEAN,
    [(0, 50.0, 0.125, (1, 0.5, 0.5, 1.0)), (2, 0.5, 0.0, 0.25)],
    (1.0, 1.0, 1.0, 1.0, 1.0),
    ((3, 0.5), (2, 0.25), (1, 0.05)),
    0.25,
    {},
)


def report(scorers_of: list[AnyScorer], tally: Tally) -> Any:
    contenders = [Contender(one, "", None, []) for one in scorers_of]
    return backtest_report.document("", "fraud", contenders, tally)


def in_parts(scorers_of: list[AnyScorer], found: list[Row], jobs: int) -> Any:
    """Decide the rows in parts, one after the other, and return the report about all."""
    parts, part = router(scorers_of, found[0], jobs)
    replays = [Replay(scorers_of, "fraud") for _ in range(parts)]
    for row in found:
        replays[part(row)].add([sent((row,), is_fraud=bool(row.fields.get("fraud")))])
    tally, *others = [one.finish() for one in replays]
    for other in others:
        tally.merge(other)
    return report(scorers_of, tally)


transactions = st.lists(
    st.fixed_dictionaries(
        {"amount": st.sampled_from([0.1, 20, 70.7, 1e17, -1, "x"]), "fraud": st.booleans()},
        optional={
            "customer_id": st.sampled_from(["A", "a", "B", "C", "", 7, None, ["A"]]),
            "timestamp": st.integers(0, 59).map(lambda second: f"2020-01-01T00:00:{second:02}Z"),
            "store": st.sampled_from("xy"),
            "tx_id": st.sampled_from("123"),
            "category": st.sampled_from(["travel", "home"]),
            "typo": st.just(1),
        },
    ),
    min_size=1,
    max_size=30,
)
CANDIDATES: list[list[AnyScorer]] = [
    [rule_set()],
    [rule_set(), rule_set(version="2", rules=HISTORY[:1])],
    [rule_set(), ForestScorer(rule_set(), MODEL, max_explained=0)],
    [rule_set(), rule_set(version="2", fields={"customer_id": {"type": "string", "case": "ignore"}})],
    [rule_set(), rule_set(version="2", histories=BY_STORE)],
    [rule_set(version="1", histories={}, rules=DOCUMENT["rules"]), rule_set(version="2")],
]


# The ids differ in case only.
PAYMENTS_OF_ONE = [
    {
        "amount": 1,
        "fraud": False,
        "customer_id": "abcdef"[:at].upper() + "abcdef"[at:],
        "timestamp": "2020-01-01T00:00:00Z",
    }
    for at in range(7)
]


@settings(deadline=None, max_examples=60)
@given(transactions, st.sampled_from(CANDIDATES), st.integers(2, 4))
@example(PAYMENTS_OF_ONE, CANDIDATES[3], 4)
def test_parts_give_the_same_report(documents: list[dict[str, Any]], contenders: list[AnyScorer], jobs: int) -> None:
    found: list[Row] = [
        rows.JsonRow(line, json.dumps(document), document) for line, document in enumerate(documents, start=1)
    ]
    assert in_parts(contenders, found, jobs) == in_parts(contenders, found, 1)


def test_history_by_one_field_has_parts() -> None:
    [row] = itertools.islice(rows.read(PAYMENTS, dict), 1)
    assert router([rule_set()], row, 3)[0] == 3
    assert router([rule_set(histories={}, rules=DOCUMENT["rules"])], row, 3)[0] == 3
    assert router([rule_set(), rule_set(histories=BY_STORE)], row, 3)[0] == 1
    # The file has no addresses.
    with_address = {"fields": {"ip": {"type": "string"}}}
    histories = {"customer": {"by": "customer_id", "distinct": "store"}, "ip": {"by": "ip", "distinct": "store"}}
    assert router([rule_set(**with_address, histories=histories)], row, 3)[0] == 3


def test_only_histories_that_are_read_are_computed() -> None:
    """By the enabled rules, also in groups, and by the model."""
    condition = {"field": "store.is_new", "operator": "==", "value": True}
    rules = [
        {"label": "group", "points": 1, "when": [{"any": [{"not": condition}]}]},
        {"label": "off", "points": 1, "enabled": False, "when": [{**condition, "field": "third.is_new"}]},
    ]
    histories = {
        "customer": {"by": "customer_id", "distinct": "store"},
        "store": {"by": "store", "distinct": "customer_id"},
        "third": {"by": "category", "distinct": "store"},
    }
    some = rule_set(histories=histories, rules=rules)
    assert [one.name for one in read_histories(some)] == ["store"]
    assert [one.name for one in read_histories(ForestScorer(some, MODEL))] == ["customer", "store"]
    # As the shipped rule set, which declares a history for its responses
    unread = rule_set(rules=DOCUMENT["rules"])
    [row] = itertools.islice(rows.read(PAYMENTS, dict), 1)
    assert router([rule_set(), rule_set(rules=DOCUMENT["rules"], histories=BY_STORE)], row, 3)[0] == 3
    transaction = {"amount": 1, "customer_id": "A", "timestamp": "2020-01-01T00:00:00Z"}
    assert "customer.count_1h" in Reader([unread, rule_set()], "").read(transaction).facts
    assert "customer.count_1h" not in Reader([unread], "").read(transaction).facts


def test_processes_give_the_same_report(tmp_path: Path) -> None:
    """The command is run, since processes that are forked by a test would inherit its threads."""
    data = tmp_path / "data.csv"
    data.write_text("".join(line for line in itertools.islice(rows_of_payments(), 12_001)), encoding="utf-8")
    model = tmp_path / "small.model"
    model.write_bytes(model_file.encode(MODEL))
    found = []
    for jobs in (1, 3):
        out = tmp_path / f"{jobs}.json"
        options = ["--model", model, "--label", "is_fraud", "--jobs", jobs, "--json", out]
        command = [sys.executable, "-m", "functions.offline.backtest", data, *options]
        result = subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True, text=True)
        found.append((result.stdout, out.read_bytes()))
    assert found[0] == found[1]
    document = json.loads(found[0][1])
    assert document["transactions"] == 12_000
    assert document["changes"]["level"] > 5_000
    listed = [change["line"] for change in document["changes"]["listed"]]
    assert len(listed) == 5_000
    assert listed == sorted(listed)


def rows_of_payments() -> Iterator[str]:
    with rows.opened(PAYMENTS) as text:
        yield from text


def test_replay_in_this_process() -> None:
    def labelled() -> Iterator[tuple[tuple[Row, ...], bool]]:
        for row in itertools.islice(rows.read(PAYMENTS, dict), 1_234):
            yield (row,), False

    tally = replay([scorers.load_rules()], "", labelled(), 1)
    assert tally.total == 1_234
    assert replay([scorers.load_rules()], "", iter(()), 1).total == 0


def test_killed_process_prints_one_line(tmp_path: Path) -> None:
    data = tmp_path / "pipe"
    os.mkfifo(data)
    command = [sys.executable, "-m", "functions.offline.backtest", "--jobs", "2", str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with data.open("w", encoding="utf-8") as pipe:
            pipe.write("amount\n1\n" + "2\n" * 100_000)
            pipe.flush()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (found := children.read_text().split()):
                time.sleep(0.01)
            os.kill(int(found[0]), signal.SIGKILL)
            with contextlib.suppress(BrokenPipeError):
                pipe.write("3\n" * 100_000)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors.splitlines()[-1] == "error: a process that decides has ended with exit code -9"


@pytest.mark.parametrize("label", ["", "is_fraud"])
def test_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str) -> None:
    cells = ["a,40,travel,0", "b,60,home,1", "c,60,travel,1", "d,5000,home,0"]
    data = tmp_path / "data.csv"
    data.write_text("\n".join(["tx_id,amount,category,is_fraud", *cells]), encoding="utf-8")
    model, out = tmp_path / "small.model", tmp_path / "report.json"
    model.write_bytes(model_file.encode(MODEL))
    options = ["--label", label] if label else []
    backtest.main([str(data), "--model", str(model), "--json", str(out), "--jobs", "1", *options])
    document = json.loads(out.read_text())
    assert document["candidate"]["version"] == f"{scorers.load_rules().version}+small"
    # Probabilities: (0.125 + 0.25) / 2, (0.5 + 0) / 2, (0.5 + 0.25) / 2, (0.5 + 0) / 2
    assert [(change["tx_id"], change["candidate"]) for change in document["changes"]["listed"]] == [
        ("a", {"level": "MEDIUM", "score": 0, "rules": [], "fraud_probability": 0.1875}),
        ("b", {"level": "HIGH", "score": 0, "rules": [], "fraud_probability": 0.25}),
        ("c", {"level": "HIGH", "score": 0, "rules": [], "fraud_probability": 0.375}),
    ]
    bins = [(0.187, [1, 0]), (0.25, [1, 1]), (0.375, [0, 1])]
    assert document["candidate"]["probabilities"] == [
        {"from": start, "to": pytest.approx(start + 0.001)}
        | ({"others": others, "frauds": frauds} if label else {"transactions": others + frauds})
        for start, (others, frauds) in bins
    ]
    assert "  line 3  b  LOW 0 -> HIGH 0 (0.2500)\n" in capsys.readouterr().out


def test_model_must_fit_the_rules(tmp_path: Path) -> None:
    model, rules, data = tmp_path / "small.model", tmp_path / "rules.json", tmp_path / "data.csv"
    model.write_bytes(model_file.encode(MODEL))
    rules.write_text(json.dumps({**DOCUMENT, "version": "2", "histories": {}}))
    data.write_text("amount\n1\n")
    with pytest.raises(SystemExit) as raised:
        backtest.main([str(data), "--model", str(model), "--rules", str(rules)])
    expected = "error: Model 'small' needs 'customer.count_1h', which rule set '2' does not declare"
    assert raised.value.code == expected


TEXTS = st.sampled_from(
    [
        "",
        " ",
        "1",
        "1.50",
        " 7 ",
        "1e400",
        "-1",
        "nan",
        "1,5",
        "true",
        "x",
        "ä\U0001f600",
        "\ud7ff",
        "2020-01-01T00:00:00Z",
    ]
) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)
TYPES = {"flag": "boolean", "items": "integer", "limit": "number", "due": "time"}
COLUMNS = [*rows.BUILT_IN_FIELDS, *TYPES, "other"]


@given(
    st.lists(st.lists(TEXTS, min_size=len(COLUMNS), max_size=len(COLUMNS)), min_size=1, max_size=5),
    st.sampled_from(",;"),
)
def test_cells_are_what_the_service_decodes(
    tmp_path_factory: pytest.TempPathFactory, cells: Any, delimiter: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([COLUMNS, *cells])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    for row in rows.read(path, lambda: TYPES):
        assert row.document is not None
        try:
            decoded = http_api.document(row.body)
        except HttpError:
            # JSON has no infinity, and neither do the fields.
            assert float("inf") in row.document.values()
        else:
            assert repr(decoded) == repr(row.document)


@pytest.mark.parametrize("length", [2_000, 10_000, 60_000])
def test_long_cells_are_decoded_from_json(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(f"amount,store\n1,{'ä' * length}\n", encoding="utf-8")
    [row] = rows.read(path, dict)
    assert (row.document is None) == (length > 2_000)
    if row.document is not None:
        http_api.document(row.body)


def test_infinity_is_refused_as_the_service_does(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("amount\n1e400\n")
    contender = Contender(scorers.load_rules(), "", None, [])
    document = backtest.backtest(Source(path, {}), [contender])
    expected = "The body is not valid JSON: Infinity is not a number in JSON"
    assert document["present"]["errors"] == [{"line": 2, "error": expected}]
