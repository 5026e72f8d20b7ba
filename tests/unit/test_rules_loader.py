"""Rule set documents and files: every error names its cause in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from scoring.errors import RuleSetError
from scoring.scorers import rules_loader
from tests.rule_set import DOCUMENT, R1

WHEN = f"Rule '{R1}' when[0]"
LEVEL = "must be an integer from 1 to 200000000"
NESTED_LIST: list[Any] = []
for _ in range(100_000):
    NESTED_LIST = [NESTED_LIST]


def changed(**changes: Any) -> dict[str, Any]:
    return {**DOCUMENT, **changes}


def with_rule(**changes: Any) -> dict[str, Any]:
    return changed(rules=[{**DOCUMENT["rules"][0], **changes}])


def with_condition(**changes: Any) -> dict[str, Any]:
    return with_rule(when=[{"field": "amount", "operator": ">", "value": 3000, **changes}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "The rule set must be an object"),
        ({}, "The rule set lacks 'levels'"),
        (changed(extra=1), "The rule set has an unknown name 'extra'"),
        (changed(version=""), "'version' must have 1 to 64 printable characters"),
        (changed(version="x" * 65), "'version' must have 1 to 64 printable characters"),
        (changed(version="   "), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0\nrules"), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0\x1b[31m"), "'version' must have 1 to 64 printable characters"),
        (changed(version="1.0-\ud83c"), "'version' must have 1 to 64 printable characters"),
        (changed(version=1), "'version' must have 1 to 64 printable characters"),
        (changed(rules=[]), "'rules' must be a list of 1 to 200 rules"),
        (changed(rules=DOCUMENT["rules"] * 67), "'rules' must be a list of 1 to 200 rules"),
        (changed(rules=DOCUMENT["rules"] * 2), f"Rule '{R1}' appears more than once"),
        (changed(rules=["R1"]), "Rule number 1 must be an object"),
        (changed(rules=[{"points": 1}]), "Rule number 1 lacks 'label'"),
        (with_rule(label=""), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="  "), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="two\nlines"), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(label="x" * 201), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(points=-1_000_001), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=True), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=1.5), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=1_000_001), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=10**5000), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(points=1e400), f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000"),
        (with_rule(label="half a pair: \ud83c"), "Rule number 1: 'label' must have 1 to 200 printable characters"),
        (with_rule(note="x"), f"Rule '{R1}' has an unknown name 'note'"),
        (with_rule(when=[]), f"Rule '{R1}' when: must be a list of at least one condition"),
        (with_rule(**{"two\nlines": 1}), f"Rule '{R1}' has an unknown name 'two\\nlines'"),
        (with_rule(**{"x" * 100: 1}), f"Rule '{R1}' has an unknown name '{'x' * 64}'"),
        (with_rule(when=["amount > 1"]), f"{WHEN}: the condition must be an object"),
        (with_rule(when=[{"field": "amount"}]), f"{WHEN}: the condition lacks 'operator'"),
        (
            with_condition(field="colour"),
            f"{WHEN}: unknown field 'colour'; known are amount, category, hour, store, tx_id",
        ),
        (with_condition(field=["amount"]), f"{WHEN}: unknown field an array"),
        (
            with_condition(operator="=>"),
            f"{WHEN}: unknown operator '=>'; known are ==, !=, >, >=, <, <=, in, ",
        ),
        (with_condition(operator={}), f"{WHEN}: unknown operator an object"),
        (
            with_condition(field="store"),
            f"{WHEN}: operator '>' does not apply to a string",
        ),
        (with_condition(value="3000"), f"{WHEN}: the value must be a number, not '3000'"),
        (with_condition(value=True), f"{WHEN}: the value must be a number, not a boolean"),
        (with_condition(value=float("nan")), f"{WHEN}: the value must be a finite number"),
        (with_condition(value=1e400), f"{WHEN}: the value must be a finite number"),
        (
            with_condition(value=NESTED_LIST),
            f"{WHEN}: the value must be a number, not an array",
        ),
        (
            with_condition(operator="in", value=[1, 10**400]),
            f"{WHEN}: the value must be a finite number",
        ),
        (
            with_condition(field="store", operator="==", value="\ud83c"),
            f"{WHEN}: the value must be valid Unicode text, not '\\ud83c'",
        ),
        (
            with_condition(field="store", operator="in", value=["A", "\ud83c"]),
            f"{WHEN}: the value must be valid Unicode text, not '\\ud83c'",
        ),
        (
            with_condition(field="store", operator="==", value=1),
            f"{WHEN}: the value must be a string",
        ),
        (with_condition(operator="in"), f"{WHEN}: the value of operator 'in' must be a list"),
        (with_condition(operator="in", value=[]), f"{WHEN}: the value of operator 'in' must be a list"),
        (
            with_condition(operator="in", value=["a"]),
            f"{WHEN}: the value must be a number, not 'a'",
        ),
        (changed(levels={"CRITICAL": 5, "HIGH": 3}), "The rule set's 'levels' lacks 'MEDIUM'"),
        (
            changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": "1"}),
            f"level MEDIUM {LEVEL}",
        ),
        (changed(levels={"CRITICAL": 3, "HIGH": 3, "MEDIUM": 1}), "must decrease from CRITICAL to HIGH to MEDIUM"),
        (
            changed(levels={"CRITICAL": 5, "HIGH": 3, "MEDIUM": 0}),
            f"level MEDIUM {LEVEL}",
        ),
        (
            changed(levels={"CRITICAL": 10**5000, "HIGH": 3, "MEDIUM": 1}),
            f"level CRITICAL {LEVEL}",
        ),
        (changed(defaults=None), "The rule set's 'defaults' must be an object"),
        (changed(defaults={"store": "\ud83c"}), "'defaults': Field 'store' must be valid Unicode text"),
        (changed(defaults={"amount": 1}), "The rule set's 'defaults' has an unknown name 'amount'"),
        (changed(defaults={"hour": "noon"}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (changed(defaults={"hour": 99}), "The rule set's 'defaults': Field 'hour' must be an integer from 0 to 23"),
        (with_condition(value=10**400), f"{WHEN}: the value must be a finite number"),
    ],
)
def test_invalid_document(document: Any, message: str) -> None:
    with pytest.raises(RuleSetError) as caught:
        rules_loader.from_document(document)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 500


def repeating(member: str) -> bytes:
    """Return a file in which one object contains a member twice."""
    return json.dumps(DOCUMENT).replace(member, f"{member}, {member}", 1).encode()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The file is empty"),
        (b" \n", "The file is empty"),
        (b"{", "The file is not valid JSON: Expecting property name enclosed in double quotes (line 1 column 2)"),
        (b"\xef\xbb\xbf{}", "The file is not valid JSON: it starts with a byte order mark"),
        (b'{"version": NaN}', "The file is not valid JSON: NaN is not a number in JSON"),
        (b'{"version": ' + b"1" * 4301 + b"}", "The file is not valid JSON: a number has too many digits"),
        (b"[" * 100_000, "The file is nested too deeply"),
        (b'{"version": "1", "version": "2"}', "The rule set has the name 'version' more than once"),
        (repeating('"points": 3'), f"Rule '{R1}' has the name 'points' more than once"),
        (repeating('"value": 3000'), f"{WHEN}: the condition has the name 'value' more than once"),
        (repeating('"HIGH": 3'), "The rule set's 'levels' has the name 'HIGH' more than once"),
        (repeating('"hour": 12'), "The rule set's 'defaults' has the name 'hour' more than once"),
        (b'{"version": "\xff"}', "The file is not valid UTF-8, from byte 13 on"),
        ('{"version": "1"}'.encode("utf-16"), "The file is not valid UTF-8, from byte 0 on"),
        (b" " * 1_000_001, "The file is larger than 1000000 bytes"),
        (b"[]", "The rule set must be an object"),
        (b"{}", "The rule set lacks 'levels'"),
        (
            json.dumps(with_rule(points=10**6 + 1)).encode(),
            f"Rule '{R1}': 'points' must be an integer from -1000000 to 1000000",
        ),
    ],
)
def test_invalid_file(tmp_path: Path, content: bytes, error: str) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(content)
    with pytest.raises(RuleSetError) as caught:
        rules_loader.from_file(str(file))
    assert str(caught.value) == f"rules.json: {error}"


def test_unreadable_file(tmp_path: Path) -> None:
    for path, reason in {tmp_path: "Is a directory", tmp_path / "none.json": "No such file or directory"}.items():
        with pytest.raises(RuleSetError) as caught:
            rules_loader.from_file(str(path))
        assert str(caught.value) == f"{path.name}: The file cannot be read: {reason}"


def test_file_of_the_maximum_size(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(json.dumps(DOCUMENT).encode().ljust(rules_loader.MAX_FILE_BYTES))
    assert rules_loader.from_file(str(file)).version == DOCUMENT["version"]
