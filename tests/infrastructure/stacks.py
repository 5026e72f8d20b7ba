"""Stacks of the template as CloudFormation would make them: all transforms applied, conditions evaluated."""

import json
import subprocess
from typing import Any

from tests.e2e.stack import Stack, parameter_value
from tests.local.template import ROOT

_PYTHON = ROOT / ".tools" / "sam" / "bin" / "python"
_ARN = "arn:aws:cloudformation:eu-central-1:123456789012:stack/risk-scoring/1"


class TransformError(Exception):
    """A template could not be transformed."""


def make(document: dict[str, Any], *parameters: dict[str, str]) -> list[Stack]:
    """Process a template once for each set of parameters.

    Parameters
    ----------
    document
        The template. The code of functions and layers is taken as uploaded already.
    parameters
        Values that differ from the defaults.

    Raises
    ------
    TransformError
        A transform failed, or is not known.
    """
    values = [_values(document, given) for given in parameters]
    # One process for all of them, since importing SAM CLI takes most of the time.
    result = subprocess.run(
        [_PYTHON, "-m", "tests.infrastructure.transforms"],
        cwd=ROOT,
        input=json.dumps([[_uploaded(document), one] for one in values]),
        check=False,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise TransformError(result.stderr)
    return [
        Stack(
            template=template,
            parameters=one,
            resources={logical_id: logical_id for logical_id in template["Resources"]},
            outputs={},
            arn=_ARN,
        )
        for template, one in zip(json.loads(result.stdout), values, strict=True)
    ]


def _values(document: dict[str, Any], given: dict[str, str]) -> dict[str, str | list[str]]:
    declared = document["Parameters"]
    return {
        name: parameter_value(declared[name]["Type"], value)
        for name, value in ({name: str(one["Default"]) for name, one in declared.items()} | given).items()
    }


def _uploaded(document: dict[str, Any]) -> dict[str, Any]:
    resources = {
        logical_id: resource
        | {
            "Properties": {
                name: "s3://bucket/key" if name in {"CodeUri", "ContentUri"} else value
                for name, value in resource.get("Properties", {}).items()
            }
        }
        for logical_id, resource in document["Resources"].items()
    }
    return document | {"Resources": resources}
