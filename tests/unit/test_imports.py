"""What each part imports: users pay for it at every cold start."""

import os
import subprocess
import sys

import pytest

from tests.local import account, emulator, template
from tests.local.template import ROOT

AWS_LIBRARIES = {"aws_lambda_powertools", "boto3", "botocore", "pydantic", "requests", "urllib3"}
# What a function needs to reach AWS by itself
NETWORK = {"socket", "ssl"}


def imported(statement: str) -> set[str]:
    """Return the modules that a statement loads in a new interpreter: those of the layer, and top-level packages."""
    code = f"{statement}; import sys; print(*sys.modules)"
    variables = {
        **template.functions()["ScoreFunction"].variables,
        **account.CREDENTIALS,
        **emulator.variables("http://127.0.0.1:9"),
        "AWS_DEFAULT_REGION": account.REGION,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "functions" / "layer")]),
    }
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=variables)
    names = output.stdout.decode().split()
    return {name if name.startswith("scoring.") else name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "module", ["transaction", "scorers", "decision", "errors", "settings", "http_api", "deadlines"]
)
def test_core_imports_no_network_modules(module: str) -> None:
    modules = imported(f"import scoring.{module}")
    assert not modules & (AWS_LIBRARIES | NETWORK)
    assert not any(name.startswith(("scoring.aws", "scoring.ledger")) for name in modules)


@pytest.mark.parametrize("function", ["docs", "lab", "fallback", "transaction", "reconcile"])
def test_functions_that_decide_nothing_load_no_scorer(function: str) -> None:
    assert "scoring.scorers" not in imported(f"import functions.{function}.app")


@pytest.mark.parametrize("function", ["docs", "health", "lab", "fallback"])
def test_functions_that_need_no_store_do_without_a_client(function: str) -> None:
    assert not imported(f"import functions.{function}.app") & (AWS_LIBRARIES | NETWORK)


@pytest.mark.parametrize("function", ["score", "stats", "transaction"])
def test_functions_that_a_caller_waits_for_import_no_aws_library(function: str) -> None:
    modules = imported(f"import functions.{function}.app")
    assert not modules & (AWS_LIBRARIES | {"dataclasses", "inspect", "logging", "pathlib"})
    assert modules >= NETWORK


def test_the_libraries_are_imported_where_they_are_used() -> None:
    """The guards above can fail: the same look finds what it looks for."""
    assert imported("import boto3") >= {"boto3", "botocore", "urllib3"} | NETWORK
    assert "aws_lambda_powertools" in imported("import functions.reconcile.app")
