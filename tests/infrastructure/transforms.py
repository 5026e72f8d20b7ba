"""The transforms that a template can name, as CloudFormation runs them before it creates a stack.

    .tools/sam/bin/python -m tests.infrastructure.transforms < requests.json

Reads a JSON list of ``[template, parameters]`` and writes the list of processed templates. It runs under SAM CLI's own
Python, for its port of ``AWS::LanguageExtensions`` and its version of the SAM transform.
"""

import json
import os
import sys
from typing import Any

from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator


def _language_extensions(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    expanded: dict[str, Any] = expand_language_extensions(template, parameters, enabled=True).expanded_template
    return expanded


def _serverless(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    translated: dict[str, Any] = Translator({}, Parser()).translate(template, parameters)
    return translated


_TRANSFORMS = {
    "AWS::LanguageExtensions": _language_extensions,
    "AWS::Serverless-2016-10-31": _serverless,
}


def process(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Apply every transform that a template names, in that order.

    Raises
    ------
    KeyError
        The template names a transform that is not known here.
    """
    named = template["Transform"]
    for name in [named] if isinstance(named, str) else named:
        template = _TRANSFORMS[name](template, parameters)
    return template


def main() -> None:
    """Process what is on standard input."""
    os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"  # the SAM transform asks for the partition of a region
    json.dump([process(template, parameters) for template, parameters in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
