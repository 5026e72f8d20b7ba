"""Make the stacks that CloudFormation would make from a template: apply its transforms, evaluate its conditions."""

import copy
import json
import subprocess
from typing import Any

from tests.local.cloudformation import Stack
from tests.local.template import ROOT

_PYTHON = ROOT / ".tools" / "sam" / "bin" / "python"


class TransformError(Exception):
    """A template could not be transformed."""


def make(document: dict[str, Any], *parameters: dict[str, str]) -> list[Stack]:
    """Process a template once for each set of parameters.

    Parameters
    ----------
    document
        The template. The code of functions and layers counts as uploaded.
    parameters
        Values that differ from the defaults.

    Raises
    ------
    TransformError
        A transform failed, or is unknown.
    """
    document = copy.deepcopy(document)
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        properties.update(dict.fromkeys({"CodeUri", "ContentUri"} & properties.keys(), "s3://bucket/key"))
    # One process for all of them, since importing SAM CLI takes most of the time.
    result = subprocess.run(
        [_PYTHON, "-m", "tests.infrastructure.transforms"],
        cwd=ROOT,
        input=json.dumps([[document, Stack.local(document, given).parameters] for given in parameters]),
        check=False,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise TransformError(result.stderr)
    return [Stack.local(*processed) for processed in zip(json.loads(result.stdout), parameters, strict=True)]
