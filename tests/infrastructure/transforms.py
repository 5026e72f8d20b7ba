"""The transforms that a template can name, as CloudFormation runs them before it creates a stack.

    .tools/sam/bin/python -m tests.infrastructure.transforms < requests.json

Reads a JSON list of ``[template, parameters]`` and writes the list of processed templates. Runs under SAM CLI's own
Python, for its port of ``AWS::LanguageExtensions`` and its version of the SAM transform.
"""

import json
import os
import sys
from typing import Any

from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

_TRANSFORMS = {
    "AWS::LanguageExtensions": lambda template, parameters: (
        expand_language_extensions(template, parameters, enabled=True).expanded_template
    ),
    "AWS::Serverless-2016-10-31": lambda template, parameters: Translator({}, Parser()).translate(template, parameters),
}


def process(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Apply every transform that a template names, in that order; raise KeyError for an unknown one."""
    named = template["Transform"]
    for name in [named] if isinstance(named, str) else named:
        template = _TRANSFORMS[name](template, parameters)
    return template


if __name__ == "__main__":
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"  # the SAM transform asks for the partition of a region
    json.dump([process(*request) for request in json.load(sys.stdin)], sys.stdout)
