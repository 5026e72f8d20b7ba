"""Check the rule set; print it as tables, or print the error in one line.

    python3 functions/layer/check_rules.py [FILE]

A rule that can never hit is a warning on standard error. ``make rules`` runs this script, and ``sam build`` before it
builds the layer. Without FILE, it also checks the model: a damaged one is an error, and one that does not fit the rule
set is a warning, since only some values of the parameter ``Scorer`` use it. Needs Python 3.11 or newer and no packages;
not deployed.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import contradictions
from scoring import scorers
from scoring.assessment import RISK_LEVELS
from scoring.errors import ConfigurationError, ModelError
from scoring.fields import Field
from scoring.scorers import fields_loader, rules_loader
from scoring.scorers.forest import model_file
from scoring.scorers.forest.model import Model
from scoring.scorers.forest.scorer import ForestScorer
from scoring.scorers.rules import RuleSet

_NUMERIC_COLUMNS = {"points", "from"}
# Compare with the name of a list.
_LIST_OPERATORS = {"in list", "not in list"}


def report(document: dict[str, Any], encoding: str = "utf-8") -> str:
    """Return a valid rule set as tables; characters that the encoding lacks are escaped."""

    def encodable(text: str) -> str:
        return text.encode(encoding, "backslashreplace").decode(encoding)

    tables = [_rules(document["rules"])]
    if document.get("fields"):
        declared = fields_loader.load(document["fields"])
        tables.append([("field", "type", "limits"), *(_field(declared[name]) for name in document["fields"])])
    if document.get("histories"):
        rows = [(name, one["by"], one["distinct"]) for name, one in document["histories"].items()]
        tables.append([("history", "by", "distinct"), *rows])
    levels = [(level, str(document["levels"].get(level, 0))) for level in reversed(RISK_LEVELS)]
    tables.append([("level", "from"), *levels])
    defaults = ", ".join(f"{field} {_json(value)}" for field, value in document.get("defaults", {}).items())
    settings: list[tuple[str, ...]] = [("version", document["version"]), ("defaults", defaults or "none")]
    if document.get("unknown_fields") == "refuse":
        settings.insert(1, ("unknown fields", "refused"))
    tables.append(settings)
    escaped = [[tuple(map(encodable, row)) for row in table] for table in tables]
    return "\n\n".join("\n".join(_aligned(table)) for table in escaped)


def warnings(document: dict[str, Any]) -> list[str]:
    """Return a sentence about every enabled rule of a valid rule set that can never hit."""
    return [
        f"Rule {label!r} can never hit: no {'value' if len(names) == 1 else 'values'} of "
        f"{' and '.join(map(repr, names))} {'satisfies' if len(names) == 1 else 'satisfy'} its conditions"
        for label, names in contradictions.find(document, rules_loader.from_document(document))
    ]


def _rules(rules: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return rules as rows under a header; columns that would be empty are left out."""
    columns = {
        "label": [rule["label"] for rule in rules],
        "points": [str(rule.get("points", 0)) for rule in rules],
        "level": [rule.get("level", "") for rule in rules],
        "status": ["" if rule.get("enabled", True) else "disabled" for rule in rules],
        "owner": [rule.get("owner", "") for rule in rules],
        "tags": [", ".join(rule.get("tags", [])) for rule in rules],
        "conditions": [" and ".join(map(_condition, rule["when"])) for rule in rules],
    }
    used = {name: cells for name, cells in columns.items() if any(cells)}
    return [tuple(used), *zip(*used.values(), strict=True)]


def _condition(condition: dict[str, Any]) -> str:
    if "field" in condition:
        return _comparison(**condition)
    [(group, parts)] = condition.items()
    if group == "not":
        return f"not {_condition(parts)}"
    joint = " and " if group == "all" else " or "
    return f"({joint.join(map(_condition, parts))})"


def _comparison(field: str, operator: str, of: str = "", times: float = 1, **compared: Any) -> str:
    if of:
        field = f"{of} of {field}"
    if "other" in compared:
        other = compared["other"]
        return f"{field} {operator} {other if times == 1 else f'{_json(times)} × {other}'}"  # noqa: RUF001  a multiplication sign
    if "value" not in compared:
        return f"{field} {operator}"
    value = compared["value"]
    if operator == "between":
        return f"{field} {operator} {' and '.join(map(_json, value))}"
    return f"{field} {operator} {value if operator in _LIST_OPERATORS else _json(value)}"


def _field(field: Field) -> tuple[str, str, str]:
    limits = {
        "at least {}": field.minimum,
        "at most {}": field.maximum,
        "at most {} characters": field.max_length,
        "one of {}": field.one_of,
    }
    texts = ["required"] if field.required else []
    texts += [text.format(_json(limit)) for text, limit in limits.items() if limit is not None]
    if field.ignores_case:
        texts.append("case ignored")
    return field.name, field.type, ", ".join(texts)


def _json(value: Any) -> str:
    """Return a value as JSON, escaped if it contains characters that are not printable."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [name in _NUMERIC_COLUMNS for name in rows[0]]
    return [
        "  ".join(
            f"{cell:>{width}}" if right else f"{cell:{width}}"
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]


def _misfits(rules: RuleSet, model: Model) -> list[str]:
    """Return a sentence if the model cannot be combined with the rule set."""
    try:
        ForestScorer(rules, model)
    except ModelError as error:
        return [f"Scorer=forest and Scorer=shadow will fail: {error}"]
    return []


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default=scorers.RULES_FILE, metavar="FILE", help="default: the shipped file")
    path = parser.parse_args().file
    if sys.stdout is None:
        sys.exit("The output cannot be written: standard output is closed")
    if Path(path).is_fifo():
        sys.exit(f"{Path(path).name}: The file must not be a pipe, since it is read twice")
    try:
        rules = rules_loader.from_file(path)
        model = model_file.from_file(scorers.MODEL_FILE) if path == scorers.RULES_FILE else None
    except ConfigurationError as error:
        sys.exit(str(error))
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        print(report(document, sys.stdout.encoding), flush=True)
    except OSError as error:
        # Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The reader, `head` for example, may stop early.
        if not isinstance(error, BrokenPipeError):
            sys.exit(f"The output cannot be written: {error.strerror}")
    for warning in [*warnings(document), *(_misfits(rules, model) if model else [])]:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    main()
