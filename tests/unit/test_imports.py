"""Imports of each module and function, which every cold start pays for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forests
from tests.local import account, emulator, template
from tests.local.template import ROOT

AWS_LIBRARIES = {"aws_lambda_powertools", "boto3", "botocore", "pydantic", "requests", "urllib3"}
# Needed to call AWS without boto3.
NETWORK = {"socket", "ssl"}


def imported(statement: str, **environment: str) -> set[str]:
    """Return the packages and the modules of the layer that a statement loads in a new interpreter."""
    code = f"{statement}; import sys; print(*sys.modules)"
    variables = {
        **template.functions()["ScoreFunction"].variables,
        **account.CREDENTIALS,
        **emulator.variables("http://127.0.0.1:9"),
        "AWS_DEFAULT_REGION": account.REGION,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "functions" / "layer")]),
        **environment,
    }
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=variables)
    names = output.stdout.decode().split()
    return {name if name.startswith("scoring.") else name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "module", ["transaction", "scorers", "decision", "errors", "settings", "http_api", "batches", "deadlines"]
)
def test_core_imports_no_network_modules(module: str) -> None:
    modules = imported(f"import scoring.{module}")
    assert not modules & (AWS_LIBRARIES | NETWORK)
    assert not any(name.startswith(("scoring.aws", "scoring.ledger")) for name in modules)


@pytest.mark.parametrize("scorer", ["", "rules", "shadow"])
def test_rules_import_no_model(scorer: str) -> None:
    modules = imported("from scoring import scorers; scorers.load()", SCORER=scorer)
    assert "scoring.scorers.rules" in modules
    assert not any(name.startswith("scoring.scorers.forest") for name in modules)


def test_model_imports_explanations_only_for_the_first_alert(tmp_path: Path) -> None:
    path = str(forests.write(tmp_path / "forest.model"))
    start = (
        "from tests.rule_set import RULE_SET; from scoring.scorers.forest import model_file, scorer; "
        f"forest = scorer.ForestScorer(RULE_SET, model_file.from_file({path!r})); forest.assess(RULE_SET.fields.read"
    )
    before = imported(f"{start}({{'amount': 20}}))")
    after = imported(f"{start}({{'amount': 4000}}))")
    assert after - before == {"scoring.scorers.forest.shapley"}
    assert not after & (AWS_LIBRARIES | NETWORK | {"dataclasses", "inspect", "logging", "pathlib"})


@pytest.mark.parametrize("function", ["lab", "fallback", "transaction", "reconcile"])
def test_functions_that_do_not_score_import_no_scorer(function: str) -> None:
    assert "scoring.scorers" not in imported(f"import functions.{function}.app")


@pytest.mark.parametrize("function", ["docs", "health", "lab", "fallback"])
def test_functions_without_store_import_no_network_modules(function: str) -> None:
    assert not imported(f"import functions.{function}.app") & (AWS_LIBRARIES | NETWORK)


@pytest.mark.parametrize("function", ["score", "stats", "transaction", "lists", "customer"])
def test_store_functions_import_no_aws_library(function: str) -> None:
    modules = imported(f"import functions.{function}.app")
    assert not modules & (AWS_LIBRARIES | {"dataclasses", "inspect", "logging", "pathlib"})
    assert modules >= NETWORK


def test_rules_alone_import_no_model() -> None:
    """In shadow mode, the score function must be that of the rules."""
    of_model = {"scoring.images", "scoring.shadow"}
    modules = imported("import functions.score.app", SCORER="shadow")
    assert not modules & of_model
    assert not any(name.startswith("scoring.scorers.forest") for name in modules)
    assert modules == imported("import functions.score.app")


def test_imported_finds_the_libraries() -> None:
    """Without this, the tests above could pass because they find nothing."""
    assert imported("import boto3") >= {"boto3", "botocore", "urllib3"} | NETWORK
    assert "aws_lambda_powertools" in imported("import functions.reconcile.app")
