"""Deploy the service to MiniStack by ``sam build`` and ``sam deploy``.

Uses ``samconfig.toml`` and ``template.yaml`` unchanged, except for an alarm on an expression, which MiniStack refuses;
the architecture and the endpoint are those of this machine. MiniStack does not import the routes of an HTTP API;
:mod:`.openapi_import` does.
"""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e import openapi_import
from tests.local import account, emulator
from tests.local.cloudformation import Stack
from tests.local.template import ROOT
from tests.rule_set import DOCUMENT

SAM = ROOT / ".tools" / "sam" / "bin" / "sam"
BATCH_ACTIONS = {"sqs:SendMessage": "sqs:SendMessageBatch", "sns:Publish": "sns:PublishBatch"}
ARCHITECTURE = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


class Caller(requests.auth.AuthBase):
    """An IAM user who signs requests by AWS Signature Version 4."""

    def __init__(self, access_key: str, secret: str) -> None:
        self.variables = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret}
        self._signer = SigV4Auth(Credentials(access_key, secret), "execute-api", account.REGION)

    def with_another_secret(self) -> "Caller":
        """Return a caller who knows the id of the key but not the secret."""
        return Caller(self.variables["AWS_ACCESS_KEY_ID"], "guessed")

    def sign(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that sign a request."""
        address, _, query = url.partition("?")
        # The signature covers the decoded query, however the caller encoded it.
        request = AWSRequest(method, address, {}, body, dict(parse_qsl(query, keep_blank_values=True)))
        self._signer.add_auth(request)
        return dict(request.headers)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        assert request.method
        assert request.url
        signature = self.sign(request.method, request.url, body.encode() if isinstance(body, str) else body)
        request.headers.update(signature)
        return request


@dataclass(frozen=True)
class Deployment:
    """A stack that is deployed from a checkout.

    Attributes
    ----------
    folder
        The checkout, a copy that tests may edit.
    endpoint
        URL of the emulator.
    other_name
        Stack name; empty for the one in ``samconfig.toml``.
    """

    folder: Path
    endpoint: str
    other_name: str = ""

    @functools.cached_property
    def name(self) -> str:
        """Name of the stack."""
        configuration = tomllib.loads((self.folder / "samconfig.toml").read_text(encoding="utf-8"))
        return self.other_name or str(configuration["default"]["global"]["parameters"]["stack_name"])

    def client(self, service: str) -> Any:
        """Return a boto3 client with all permissions."""
        return emulator.client(service, self.endpoint)

    @property
    def stack(self) -> Stack:
        """The stack in its current state."""
        return Stack.read(self.client("cloudformation"), self.name)

    @functools.cached_property
    def url(self) -> str:
        """URL of the API, which updates of the stack do not change."""
        (api_id,) = self.stack.of_type("AWS::ApiGatewayV2::Api").values()
        return f"{self.endpoint}/_aws/execute-api/{api_id}/$default"

    def build(self) -> None:
        """Run ``sam build``."""
        self.sam("build", "--parameter-overrides", f"Architecture={ARCHITECTURE}")

    def deploy(self, **parameters: str) -> str:
        """Run ``sam deploy``, confirm the changeset and import the routes; return the output."""
        overrides = [f"{name}={value}" for name, value in {"Architecture": ARCHITECTURE, **parameters}.items()]
        printed = self.sam("deploy", *self._of_stack, "--parameter-overrides", *overrides, stdin="y\n")
        stack = self.stack
        (api,) = stack.of_type("AWS::ApiGatewayV2::Api")
        openapi_import.import_body(self.client("apigatewayv2"), stack, api)
        self._allow_batch_calls(stack)
        return printed

    def _allow_batch_calls(self, stack: Stack) -> None:
        """Add the actions that MiniStack requires for batch calls, which on AWS the action of a single call allows."""
        iam = self.client("iam")
        for role in stack.of_type("AWS::IAM::Role").values():
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
                document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                batches = [
                    {**statement, "Action": BATCH_ACTIONS[statement["Action"]]}
                    for statement in document["Statement"]
                    if statement["Action"] in BATCH_ACTIONS
                ]
                iam.put_role_policy(
                    RoleName=role, PolicyName=name, PolicyDocument=policy(*document["Statement"], *batches)
                )

    def delete(self) -> None:
        """Run ``sam delete``."""
        self.sam("delete", *self._of_stack, "--no-prompts")

    @property
    def _of_stack(self) -> list[str]:
        return ["--stack-name", self.other_name] if self.other_name else []

    def sam(self, *arguments: str, stdin: str = "") -> str:
        """Run SAM CLI and return its output; fail if it fails."""
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self.endpoint,
            "SAM_CLI_POLL_DELAY": "0.5",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        result = subprocess.run(
            [SAM, *arguments],
            cwd=self.folder,
            env=environment,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def caller(self, name: str, *resources: str) -> Caller:
        """Create an IAM user who may call these resources of the API, such as ``GET/stats``."""
        stack = self.stack
        (api_id,) = stack.of_type("AWS::ApiGatewayV2::Api").values()
        api = stack.value({"Fn::Sub": f"arn:aws:execute-api:${{AWS::Region}}:${{AWS::AccountId}}:{api_id}/$default/"})
        statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": [api + one for one in resources]}
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="calls", PolicyDocument=policy(statement))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Caller(key["AccessKeyId"], key["SecretAccessKey"])

    def log(self) -> str:
        """Return the log of all functions; MiniStack's log streams, unlike those of AWS, do not name the function."""
        group = self.stack.outputs["FunctionLogGroupName"]
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return "\n".join(event["message"].rstrip("\n") for page in pages for event in page["events"])


def policy(*statements: dict[str, Any]) -> str:
    """Return the JSON document of an IAM policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def deployable_copy(folder: Path) -> Path:
    """Copy the deployed files with the tests' rule set, for tests to edit and build."""
    folder.mkdir()
    shutil.copy(ROOT / "samconfig.toml", folder)
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    without_expression, found = re.subn(r"^  AlertMappingAlarm:\n(?: {4}.*\n)+", "", template, flags=re.MULTILINE)
    if found != 1:
        raise ValueError("AlertMappingAlarm is not in the template")
    (folder / "template.yaml").write_text(without_expression, encoding="utf-8")
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    rules = folder / "functions" / "layer" / "scoring" / "scorers" / "rules.json"
    rules.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    return folder
