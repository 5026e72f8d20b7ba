"""Check the rule set; print it as a table, or print the error in one line.

    python3 functions/layer/check_rules.py [FILE]

``make rules`` runs it, and ``sam build`` before it builds the layer. Needs Python 3.11 or newer and no packages; not
deployed.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from scoring import scorers
from scoring.assessment import RISK_LEVELS
from scoring.errors import RuleSetError
from scoring.scorers import rules_loader


def report(document: dict[str, Any], encoding: str = "utf-8") -> str:
    """Return a valid rule set as tables; characters that the encoding lacks are escaped."""

    def encodable(text: str) -> str:
        return text.encode(encoding, "backslashreplace").decode(encoding)

    hits = [
        (encodable(rule["label"]), str(rule["points"]), encodable(" and ".join(map(_condition, rule["when"]))))
        for rule in document["rules"]
    ]
    levels = [(level, str(document["levels"].get(level, 0))) for level in reversed(RISK_LEVELS)]
    defaults = ", ".join(f"{field} {_json(value)}" for field, value in document.get("defaults", {}).items())
    return "\n".join(
        [
            *_aligned([("label", "points", "conditions"), *hits]),
            "",
            *_aligned([("level", "from"), *levels]),
            "",
            f"version   {encodable(document['version'])}",
            f"defaults  {encodable(defaults) or 'none'}",
        ]
    )


def _condition(condition: dict[str, Any]) -> str:
    return f"{condition['field']} {condition['operator']} {_json(condition['value'])}"


def _json(value: Any) -> str:
    """Return a value as JSON, escaped if it contains characters that are not printable."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns; the second column is numeric."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return ["  ".join([f"{row[0]:{first}}", f"{row[1]:>{second}}", *row[2:]]) for row in rows]


def main() -> None:
    """Run the command line."""
    path = sys.argv[1] if len(sys.argv) > 1 else scorers.RULES_FILE
    try:
        rules_loader.from_file(path)
    except RuleSetError as error:
        sys.exit(str(error))
    try:
        print(report(json.loads(Path(path).read_text(encoding="utf-8")), sys.stdout.encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, `head` for example, stopped early. Python flushes again on exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
