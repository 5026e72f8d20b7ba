"""A deployed stack, read from CloudFormation: what its template says under the parameters that it was deployed with."""

import re
from dataclasses import dataclass
from typing import Any, Self


class _NoValue:
    """What ``AWS::NoValue`` takes away."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its template after all transforms, and what its names stand for.

    Attributes
    ----------
    template
        The processed template.
    parameters
        Their values, a list where the type is one.
    resources
        Physical id of each resource, by logical id.
    outputs
        Of the stack.
    arn
        Its id, which holds region and account.
    """

    template: dict[str, Any]
    parameters: dict[str, str | list[str]]
    resources: dict[str, str]
    outputs: dict[str, str]
    arn: str

    @classmethod
    def read(cls, cloudformation: Any, name: str) -> Self:
        """Read a stack from CloudFormation, given a boto3 client."""
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        template: Any = cloudformation.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
        values = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])}
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        return cls(
            template=template,
            parameters={
                parameter: parameter_value(declared["Type"], values[parameter])
                for parameter, declared in template.get("Parameters", {}).items()
            },
            resources={
                one["LogicalResourceId"]: one["PhysicalResourceId"]
                for page in pages
                for one in page["StackResourceSummaries"]
            },
            outputs={one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])},
            arn=stack["StackId"],
        )

    def of_type(self, kind: str) -> dict[str, str]:
        """Physical id of each resource of a type, by logical id."""
        return {
            logical_id: self.resources[logical_id]
            for logical_id, resource in self.template["Resources"].items()
            if resource["Type"] == kind and logical_id in self.resources
        }

    def properties(self, logical_id: str) -> dict[str, Any]:
        """Properties of a resource, everything in them evaluated."""
        properties: dict[str, Any] = self.value(self.template["Resources"][logical_id].get("Properties", {}))
        return properties

    def value(self, value: Any) -> Any:
        """A value of the template, its intrinsic functions evaluated.

        Raises
        ------
        ValueError
            An intrinsic function that is not known here.
        """
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
        """Whether a condition, given by its name or as an expression, is true."""
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        ((name, argument),) = condition.items()
        if name == "Condition":
            return self.holds(argument)
        if name == "Fn::Equals":
            left, right = (_text(self.value(one)) for one in argument)
            return bool(left == right)
        if name == "Fn::Not":
            return not self.holds(argument[0])
        raise ValueError(f"The condition {name} is not known here")

    def _function(self, name: str, argument: Any) -> Any:
        if name == "Fn::If":
            condition, then, otherwise = argument
            return self.value(then if self.holds(condition) else otherwise)
        if name == "Fn::Sub":
            text, own = argument if isinstance(argument, list) else (argument, {})
            return re.sub(r"\$\{([^!}][^}]*)\}", lambda match: self._substitute(match[1], own), text).replace(
                "${!", "${"
            )
        if name == "Fn::GetAtt":
            logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
            return self._attribute(logical_id, attribute)
        raise ValueError(f"{name} is not known here")

    def _substitute(self, name: str, own: dict[str, Any]) -> str:
        if name in own:
            return str(self.value(own[name]))
        logical_id, _, attribute = name.partition(".")
        return str(self._attribute(logical_id, attribute) if attribute else self._reference(name))

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NoValue
        if name in self.parameters:
            return self.parameters[name]
        if name in self.resources:
            return self.resources[name]
        # arn:aws:cloudformation:region:account:stack/name/id
        _, partition, _, region, account, path = self.arn.split(":")
        pseudo = {
            "AWS::AccountId": account,
            "AWS::Partition": partition,
            "AWS::Region": region,
            "AWS::StackName": path.split("/")[1],
            "AWS::URLSuffix": "amazonaws.com",
        }
        if name in pseudo:
            return pseudo[name]
        raise ValueError(f"{name} is neither a parameter nor a resource of the stack")

    def _attribute(self, logical_id: str, attribute: str) -> str:
        kind = self.template["Resources"][logical_id]["Type"]
        if (kind, attribute) == ("AWS::Lambda::Function", "Arn"):
            return (
                f"arn:aws:lambda:{self._reference('AWS::Region')}:{self._reference('AWS::AccountId')}:function:"
                + (self.resources[logical_id])
            )
        raise ValueError(f"Attribute {attribute} of a {kind} is not known here")


def _text(value: Any) -> Any:
    """A scalar as CloudFormation compares it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, list) else str(value)


def parameter_value(kind: str, value: str) -> str | list[str]:
    """The value of a parameter as a template refers to it: a list where the type is one."""
    return [part.strip() for part in value.split(",")] if kind in {"CommaDelimitedList", "List<Number>"} else value
