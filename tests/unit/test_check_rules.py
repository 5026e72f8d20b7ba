"""The rule set checker, as ``make rules`` and ``sam build`` run it."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

import check_rules
from scoring.scorers import rules_loader
from tests import forests, generated_rule_sets
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT, R1

LAYER = ROOT / "functions" / "layer"
TABLE = """\
label                   points  conditions
R1: amount > 3000            3  amount > 3000
R2: electronics > 1500       2  category == "electronics" and amount > 1500
R3: night hour               2  hour < 6

history   by           distinct
customer  customer_id  store

level     from
CRITICAL     5
HIGH         3
MEDIUM       1
LOW          0

version   1.0-tests
defaults  hour 12
"""


def check(*arguments: object, layer: Path = LAYER, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the checker in a Python without site packages."""
    command = [sys.executable, "-S", "check_rules.py", *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(command, cwd=layer, env=environment, check=False, capture_output=True, encoding="utf-8")


def write_rules(folder: Path, document: Any) -> Path:
    file = folder / "rules.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """Copy the layer's sources, as ``sam build`` does, and make its rule set invalid."""
    copied = shutil.copytree(LAYER, tmp_path / "layer", ignore=shutil.ignore_patterns("__pycache__"))
    invalid = copy.deepcopy(DOCUMENT)
    invalid["rules"][0]["points"] = "3"
    write_rules(copied / "scoring" / "scorers", invalid)
    return copied


ERROR = f"rules.json: Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"


def test_table(tmp_path: Path) -> None:
    result = check(write_rules(tmp_path, DOCUMENT))
    assert (result.returncode, result.stdout, result.stderr) == (0, TABLE, "")


FULL = {
    "version": "2",
    "fields": {
        "amount": {"maximum": 1000.5},
        "country": {"type": "string", "case": "ignore", "max_length": 2},
        "currency": {"type": "string", "one_of": ["PLN", "EUR"], "required": True},
        "home": {"type": "string"},
        "at": {"type": "time", "description": "Of the payment"},
        "usual": {"type": "number", "minimum": 0},
    },
    "histories": {
        "customer": {"by": "customer_id", "distinct": "country"},
        "shop": {"by": "store", "distinct": "customer_id"},
    },
    "unknown_fields": "refuse",
    "defaults": {"usual": 10.5, "country": "PL"},
    "rules": [
        {
            "label": "R1",
            "points": 20,
            "owner": "cards",
            "tags": ["travel", "velocity"],
            "when": [
                {"field": "amount", "operator": ">", "other": "usual", "times": 2},
                {
                    "any": [
                        {"field": "country", "operator": "!=", "other": "home"},
                        {"not": {"field": "country", "operator": "starts with", "value": "P"}},
                    ]
                },
            ],
        },
        {
            "label": "R2",
            "points": -5,
            "enabled": False,
            "when": [
                {"field": "hour", "operator": "between", "value": [22, 5]},
                {"field": "at", "of": "weekday", "operator": "in", "value": ["saturday"]},
                {"field": "country", "operator": "in list", "value": "watched_countries"},
            ],
        },
        {
            "label": "R3",
            "level": "at least CRITICAL",
            "when": [
                {
                    "not": {
                        "all": [
                            {"field": "at", "of": "hour", "operator": "<", "value": 6},
                            {"field": "amount", "operator": ">", "other": "customer.max_24h", "times": 2.5},
                            {"field": "home", "operator": "not in list", "value": "trusted"},
                            {"field": "home", "operator": "is missing"},
                            {"field": "shop.is_new", "operator": "==", "value": True},
                        ]
                    }
                }
            ],
        },
    ],
    "levels": {"CRITICAL": 50, "HIGH": 30, "MEDIUM": 10},
}
FULL_TABLE = """\
label  points  level              status    owner  tags              conditions
R1         20                               cards  travel, velocity  amount > 2 × usual and (country != home or not country starts with "P")
R2         -5                     disabled                           hour between 22 and 5 and weekday of at in ["saturday"] and country in list watched_countries
R3          0  at least CRITICAL                                     not (hour of at < 6 and amount > 2.5 × customer.max_24h and home not in list trusted and home is missing and shop.is_new == true)

field     type    limits
amount    number  required, at least 0, at most 1000.5
country   string  at most 2 characters, case ignored
currency  string  required, one of ["PLN", "EUR"]
home      string
at        time
usual     number  at least 0

history   by           distinct
customer  customer_id  country
shop      store        customer_id

level     from
CRITICAL    50
HIGH        30
MEDIUM      10
LOW          0

version         2
unknown fields  refused
defaults        usual 10.5, country "PL"
"""  # noqa: E501, RUF001  as it is printed


def test_table_of_the_whole_language() -> None:
    assert rules_loader.from_document(FULL)
    assert (f"{check_rules.report(FULL)}\n", check_rules.warnings(FULL)) == (FULL_TABLE, [])


def test_generated_rule_sets_are_printed() -> None:
    rng = Random(2026)
    for _ in range(200):
        document = generated_rule_sets.generate(rng)
        assert rules_loader.from_document(document)
        text = check_rules.report(document, "ascii")
        assert text.isascii()
        assert all(line.isprintable() for line in text.split("\n"))


def test_rules_that_can_never_hit_are_warnings(tmp_path: Path) -> None:
    amounts = [{"field": "amount", "operator": sign, "value": value} for sign, value in ((">", 5), ("<", 3))]
    stores = [{"field": "store", "operator": "==", "value": value} for value in ("a", "b")]
    groups = [{"any": [{"all": amounts}, stores[0]]}, stores[1]]
    rules = [{"label": label, "points": 1, "when": when} for label, when in (("R7", amounts), ("R8", groups))]
    result = check(write_rules(tmp_path, {**DOCUMENT, "rules": rules}))
    assert result.returncode == 0
    assert result.stdout.startswith("label  points  conditions\n")
    assert result.stderr == (
        "warning: Rule 'R7' can never hit: no value of 'amount' satisfies its conditions\n"
        "warning: Rule 'R8' can never hit: no values of 'amount' and 'store' satisfy its conditions\n"
    )


def test_special_characters_are_escaped(tmp_path: Path) -> None:
    conditions = [
        {"field": "store", "operator": "in", "value": ["Kraków", 'a "b"', "\x1b[31m", "\u202e"]},
        {"field": "amount", "operator": "<=", "value": 1e20},
    ]
    document = {**DOCUMENT, "rules": [{"label": "Café 🂡", "points": 1_000_000, "when": conditions}]}
    del document["defaults"]
    file = write_rules(tmp_path, document)
    lines = check(file).stdout.splitlines()
    shown = r"""store in ["Krak\u00f3w", "a \"b\"", "\u001b[31m", "\u202e"] and amount <= 1e+20"""
    assert lines[:2] == ["label    points  conditions", f"Café 🂡  1000000  {shown}"]
    assert lines[-1] == "defaults  none"
    ascii_only = check(file, PYTHONIOENCODING="ascii")
    assert (ascii_only.returncode, ascii_only.stderr) == (0, "")
    assert ascii_only.stdout.splitlines()[:2] == [
        "label                points  conditions",
        rf"Caf\xe9 \U0001f0a1  1000000  {shown}",
    ]


def test_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    # More output than a pipe buffers.
    rules = [{**DOCUMENT["rules"][0], "label": f"{number:0200}"} for number in range(100)]
    conditions = DOCUMENT["rules"][0]["when"] * 50
    file = write_rules(tmp_path, {**DOCUMENT, "rules": [{**rule, "when": conditions} for rule in rules]})
    command = f"{sys.executable} -S check_rules.py {file} | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=LAYER, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["label", "points", "conditions"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The file is empty"),
        (b"[", "The file is not valid JSON: Expecting value (line 1 column 2)"),
        (b"\xff\xfe{", "The file is not valid UTF-8, from byte 0 on"),
        (b"[" * 100_000, "The file is nested too deeply"),
        (b"[]", "The rule set must be an object"),
        (json.dumps({**DOCUMENT, "version": "1\n2"}).encode(), "The rule set's 'version' must have 1 to 64"),
        (json.dumps({**DOCUMENT, "rules": DOCUMENT["rules"] * 2}).encode(), f"Rule '{R1}' appears more than once"),
        (json.dumps({**DOCUMENT, "levels": {}}).encode(), "The rule set's 'levels' lacks 'CRITICAL'"),
    ],
)
def test_invalid_file_prints_one_line(tmp_path: Path, content: bytes, error: str) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(content)
    result = check(file)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"rules.json: {error}")
    assert result.stderr.count("\n") == 1


def test_pipe_is_refused() -> None:
    # A pipe can be read only once.
    command = f"cat scoring/scorers/rules.json | {sys.executable} -S check_rules.py /dev/stdin"
    result = subprocess.run(["bash", "-c", command], cwd=LAYER, check=False, capture_output=True, text=True)
    expected = "stdin: The file must not be a pipe, since it is read twice\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_full_disk_prints_one_line() -> None:
    command = f"{sys.executable} -S check_rules.py > /dev/full"
    result = subprocess.run(["bash", "-c", command], cwd=LAYER, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "The output cannot be written: No space left on device\n")


def test_help_is_not_a_file() -> None:
    result = check("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: check_rules.py [-h] [FILE]\n")


def test_closed_output_prints_one_line() -> None:
    command = f"{sys.executable} -S check_rules.py >&-"
    result = subprocess.run(["bash", "-c", command], cwd=LAYER, check=False, capture_output=True, text=True)
    expected = "The output cannot be written: standard output is closed\n"
    assert (result.returncode, result.stderr) == (1, expected)


def test_missing_file_prints_one_line(tmp_path: Path) -> None:
    result = check(tmp_path / "rules.json")
    expected = "rules.json: The file cannot be read: No such file or directory\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)


def test_default_is_the_shipped_file(layer: Path) -> None:
    result = check(layer=layer)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"{ERROR}\n")
    write_rules(layer / "scoring" / "scorers", DOCUMENT)
    assert check(layer=layer).stdout == TABLE


def test_model_that_does_not_fit_the_rules_is_a_warning(layer: Path) -> None:
    folder = layer / "scoring" / "scorers"
    model = forests.write(folder / "forest.model")
    write_rules(folder, DOCUMENT)
    assert check(layer=layer).stderr == ""
    without_histories = {**DOCUMENT, "histories": {}}
    write_rules(folder, without_histories)
    result = check(layer=layer)
    warning = (
        f"warning: Scorer=forest and Scorer=shadow will fail: Model '{forests.VERSION}' needs 'customer.count_1h', "
        "which rule set '1.0-tests' does not declare\n"
    )
    assert (result.returncode, result.stderr) == (0, warning)
    model.unlink()
    assert check(write_rules(layer, without_histories), layer=layer).stderr == ""


DAMAGED = "forest.model: The model is damaged: its content does not have the SHA-256 of its first line"


@pytest.mark.parametrize("damaged", ["rules", "model"])
def test_damaged_file_stops_the_build(layer: Path, damaged: str) -> None:
    if damaged == "model":
        write_rules(layer / "scoring" / "scorers", DOCUMENT)
        model = layer / "scoring" / "scorers" / "forest.model"
        model.write_bytes(model.read_bytes()[:-1])
    artifacts = layer / "artifacts"
    command = ["make", "build-ScoringLayer", f"ARTIFACTS_DIR={artifacts}", f"PYTHON={sys.executable}"]
    result = subprocess.run(command, cwd=layer, check=False, capture_output=True, text=True)
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert (errors, result.stdout) == ([ERROR if damaged == "rules" else DAMAGED], "")
    assert not artifacts.exists()


def test_make_rules() -> None:
    # --old-file keeps make from updating the virtual environment.
    command = ["make", "--old-file", ".venv/ready", "rules"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, encoding="utf-8")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{check().stdout}\nevents/transactions.jsonl: 10 transactions")
    assert (
        "make rules " in subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    )
