"""A checkout with other rules passes its tests, except those for the lab's rules.

Runs the tests that would score with the shipped rules if they did not have their own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.local.template import ROOT

FILES = (
    *(f"tests/unit/test_{name}.py" for name in ("handlers", "corpus", "openapi")),
    "tests/capacity/test_cost.py",
    *(f"tests/integration/test_{name}.py" for name in ("lab", "corpus", "exactly_once", "http")),
)
# Deselects slow tests and tests that score nothing or have other rules. The ids of TestCorpus begin with the status,
# those of test_every_case are names of rule sets.
SELECTED = (
    "not fallback and not lookup and not echo and not hello and not 2000 and not malformed_request"
    " and not mutated_requests and not disconnect and not silent_clients and (not TestCorpus or 200)"
    " and not TestCardCorpus and not TestRefusingCorpus and (not test_every_case or lab) and not responses_to_batches"
    " and not card_corpus and not of_a_model and not limits_of_lists"
)
RULES = {
    "version": "toutes, 2ᵉ",
    "fields": {"card": {"type": "string", "max_length": 20, "required": True}},
    "rules": [
        {"label": "with a card", "points": 1, "when": [{"field": "card", "operator": "is present"}]},
        {
            "label": "Überall 🂡",
            "points": 1,
            "when": [{"field": "amount", "operator": ">=", "value": 0}],
        },
    ],
    "levels": {"CRITICAL": 3, "HIGH": 2, "MEDIUM": 1},
}


def test_tests_pass_with_other_rules(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("template.yaml", "samconfig.toml", "pyproject.toml", "Makefile", "README.md"):
        shutil.copy(ROOT / name, root)
    for name in ("functions", "events", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".venv", ".tools"):
        (root / name).symlink_to(ROOT / name)
    (root / "functions/layer/scoring/scorers/rules.json").write_text(
        json.dumps(RULES, ensure_ascii=False), encoding="utf-8"
    )
    # Test the `scoring` of the copy in place of the one installed in .venv.
    environment = {**os.environ, "PYTHONPATH": str(root / "functions" / "layer")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SELECTED, *FILES]
    result = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
