"""Parses CloudFormation templates and evaluates their intrinsic functions for a stack.

Supports the intrinsic functions and attributes that the template uses; any other raises :class:`ValueError`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import yaml

# Name of the stack under `sam local`
LOCAL_NAME = "local"
_LOCAL_ARN = f"arn:aws:cloudformation:us-east-1:000000000000:stack/{LOCAL_NAME}/1"


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags: ``!Ref X`` is read as ``{"Ref": "X"}``."""


def _intrinsic(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in {"Ref", "Condition"} else f"Fn::{tag}"
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    value = str(loader.construct_scalar(node))  # type: ignore[arg-type]
    return {name: value.split(".", 1) if tag == "GetAtt" else value}


_Loader.add_multi_constructor("!", _intrinsic)


def parse(text: str) -> dict[str, Any]:
    """Parse a template, with intrinsic functions in their long form."""
    document: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    return document


class _NoValue:
    """Value of ``AWS::NoValue``: a property or item with it is removed."""


@dataclass(frozen=True)
class Stack:
    """A template and the values of the names in it.

    Attributes
    ----------
    template
        As parsed, or as processed by its transforms.
    parameters
        Values of the parameters, a list where the type is one.
    resources
        Physical id of each resource, by logical id.
    outputs
        Outputs of a deployed stack.
    arn
        Id of the stack, which contains its name, region and account.
    """

    template: dict[str, Any]
    parameters: dict[str, str | list[str]]
    resources: dict[str, str]
    outputs: dict[str, str]
    arn: str

    @classmethod
    def read(cls, cloudformation: Any, name: str) -> Self:
        """Read a deployed stack, its template processed, given a boto3 client."""
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        template = cloudformation.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        return cls(
            template,
            _parameters(template, {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])}),
            {
                one["LogicalResourceId"]: one["PhysicalResourceId"]
                for page in pages
                for one in page["StackResourceSummaries"]
            },
            {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])},
            stack["StackId"],
        )

    @classmethod
    def local(cls, template: dict[str, Any], parameters: Mapping[str, str] | None = None) -> Self:
        """Return the stack of ``sam local``: physical ids are the logical ids, except those of topics, which are ARNs.

        The parameters override the defaults.
        """
        stack = cls(template, _parameters(template, parameters or {}), {}, {}, _LOCAL_ARN)
        for logical_id, resource in template["Resources"].items():
            if "Condition" not in resource or stack.holds(resource["Condition"]):
                is_topic = resource["Type"] == "AWS::SNS::Topic"
                stack.resources[logical_id] = stack.arn_of("sns", logical_id) if is_topic else logical_id
        return stack

    def arn_of(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the region and account of the stack."""
        return f"arn:aws:{service}:{self._reference('AWS::Region')}:{self._reference('AWS::AccountId')}:{resource}"

    def of_type(self, kind: str) -> dict[str, str]:
        """Return the physical id of each resource of a type, by logical id."""
        return {
            logical_id: self.resources[logical_id]
            for logical_id, resource in self.template["Resources"].items()
            if resource["Type"] == kind and logical_id in self.resources
        }

    def properties(self, logical_id: str) -> dict[str, Any]:
        """Return the properties of a resource, evaluated."""
        properties: dict[str, Any] = self.value(self.template["Resources"][logical_id].get("Properties", {}))
        return properties

    def properties_of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the evaluated properties of each resource of a type, by logical id."""
        return {logical_id: self.properties(logical_id) for logical_id in self.of_type(kind)}

    def value(self, value: Any) -> Any:
        """Evaluate the intrinsic functions in a value of the template."""
        if isinstance(value, list):
            return [one for one in map(self.value, value) if one is not _NoValue]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref":
                return self._reference(argument)
            if name.startswith("Fn::"):
                return self._function(name, argument)
        evaluated = {name: self.value(one) for name, one in value.items()}
        return {name: one for name, one in evaluated.items() if one is not _NoValue}

    def holds(self, condition: Any) -> bool:
        """Return whether a condition, given by its name or as an expression, is true."""
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        ((name, argument),) = condition.items()
        if name == "Condition":
            return self.holds(argument)
        if name in {"Fn::Not", "Fn::And", "Fn::Or"}:
            held = [self.holds(one) for one in argument]
            return not held[0] if name == "Fn::Not" else all(held) if name == "Fn::And" else any(held)
        if name in {"Fn::Equals", "Fn::Contains"}:
            left, right = (_comparable(self.value(one)) for one in argument)
            return bool(left == right if name == "Fn::Equals" else right in left)
        raise ValueError(f"Condition function {name} is not supported")

    def violations(self) -> list[str]:
        """Return the descriptions of the rules that the parameters break; CloudFormation would create no stack."""
        return [
            assertion["AssertDescription"]
            for rule in self.template.get("Rules", {}).values()
            if "RuleCondition" not in rule or self.holds(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.holds(assertion["Assert"])
        ]

    def _function(self, name: str, argument: Any) -> Any:
        if name == "Fn::If":
            condition, then, otherwise = argument
            return self.value(then if self.holds(condition) else otherwise)
        if name == "Fn::Sub":
            text, own = argument if isinstance(argument, list) else (argument, {})
            text = re.sub(r"\$\{([^!}][^}]*)\}", lambda match: self._substitute(match[1], own), text)
            return text.replace("${!", "${")
        if name == "Fn::Split":
            separator, text = self.value(argument)
            return str(text).split(separator)
        if name == "Fn::Select":
            index, parts = self.value(argument)
            return parts[int(index)]
        if name == "Fn::GetAtt":
            logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
            return self._attribute(logical_id, attribute)
        raise ValueError(f"{name} is not supported")

    def _substitute(self, name: str, own: dict[str, Any]) -> str:
        if name in own:
            return str(self.value(own[name]))
        logical_id, _, attribute = name.partition(".")
        return str(self._attribute(logical_id, attribute) if attribute else self._reference(name))

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NoValue
        # arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID
        _, partition, _, region, account, path = self.arn.split(":")
        pseudo = {
            "AWS::AccountId": account,
            "AWS::Partition": partition,
            "AWS::Region": region,
            "AWS::StackName": path.split("/")[1],
            "AWS::URLSuffix": "amazonaws.com",
        }
        for values in (self.parameters, self.resources, pseudo):
            if name in values:
                return values[name]
        raise ValueError(f"{name} is neither a parameter nor a resource of the stack")

    def _attribute(self, logical_id: str, attribute: str) -> str:
        kind = self.template["Resources"][logical_id]["Type"]
        # The physical id of a queue is its URL.
        name = self.resources[logical_id].rpartition("/")[2]
        known = {
            ("AWS::DynamoDB::Table", "Arn"): self.arn_of("dynamodb", f"table/{name}"),
            ("AWS::DynamoDB::Table", "StreamArn"): self.arn_of("dynamodb", f"table/{name}/stream/{name}"),
            ("AWS::IAM::Role", "Arn"): f"arn:aws:iam::{self._reference('AWS::AccountId')}:role/{name}",
            ("AWS::Lambda::Function", "Arn"): self.arn_of("lambda", f"function:{name}"),
            ("AWS::Logs::LogGroup", "Arn"): self.arn_of("logs", f"log-group:{name}:*"),
            ("AWS::SQS::Queue", "Arn"): self.arn_of("sqs", name),
            ("AWS::SQS::Queue", "QueueName"): name,
        }
        if (kind, attribute) not in known:
            raise ValueError(f"Attribute {attribute} of {kind} is not supported")
        return known[kind, attribute]


def _comparable(value: Any) -> Any:
    """Return a value as CloudFormation compares it: scalars by their text."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, list) else str(value)


def _parameters(template: dict[str, Any], given: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Return the value of each parameter, as a list if its type is a list."""
    values = {}
    for name, declared in template.get("Parameters", {}).items():
        text = given[name] if name in given else str(declared["Default"])
        is_list = declared["Type"] in {"CommaDelimitedList", "List<Number>"}
        values[name] = [part.strip() for part in text.split(",")] if is_list else text
    return values
