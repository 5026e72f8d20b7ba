"""What each part imports: users pay for it at every cold start."""

import os
import subprocess
import sys

import pytest

from tests.local.template import ROOT

HEAVY = {"aws_lambda_powertools", "boto3", "botocore", "pydantic", "requests"}


def imported(statement: str) -> set[str]:
    """Top-level modules that are loaded after the statement, in an interpreter of its own."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    path = os.pathsep.join([str(ROOT), str(ROOT / "functions" / "layer")])
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={"PYTHONPATH": path})
    return set(output.stdout.decode().split())


@pytest.mark.parametrize("module", ["transaction", "rules", "decision", "errors", "settings", "web"])
def test_the_core_imports_no_aws_library(module: str) -> None:
    assert not imported(f"import scoring.{module}") & HEAVY


@pytest.mark.parametrize("function", ["docs", "health", "lab", "fallback"])
def test_functions_that_need_no_store_import_no_aws_library(function: str) -> None:
    assert not imported(f"import functions.{function}.app") & HEAVY


def test_the_store_is_imported_where_it_is_used() -> None:
    """The guard above can fail: the same look at the ledger finds what it looks for."""
    assert imported("import scoring.ledger") >= {"boto3", "botocore", "aws_lambda_powertools"}
