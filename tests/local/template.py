"""``template.yaml`` as data, so that the schema of the tables stands once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE_FILE = ROOT / "template.yaml"

PSEUDO_PARAMETERS = {"AWS::StackName": "local"}

# The part of a table's properties that CreateTable takes under the same names.
_CREATE_TABLE_NAMES = ("AttributeDefinitions", "KeySchema", "BillingMode")


@dataclass(frozen=True)
class Function:
    """A Lambda function of the template.

    Attributes
    ----------
    name
        Logical id.
    folders
        Of its own code, then of its layers.
    handler
        ``module.function`` in the first folder.
    timeout
        Seconds.
    memory
        MB.
    variables
        Environment variables, each reference resolved as ``sam local`` does: a parameter by its default, a resource by
        its logical id, the name of the stack as ``local``.
    """

    name: str
    folders: tuple[Path, ...]
    handler: str
    timeout: float
    memory: int
    variables: dict[str, str]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags, ``!Ref X`` read as ``{"Ref": "X"}``."""


def _intrinsic(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in {"Ref", "Condition"} else f"Fn::{tag}"
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    value = str(loader.construct_scalar(node))  # type: ignore[arg-type]
    return {name: value.split(".", 1) if tag == "GetAtt" else value}


_Loader.add_multi_constructor("!", _intrinsic)


def load() -> dict[str, Any]:
    """The template, with intrinsic functions in their long form."""
    document: dict[str, Any] = yaml.load(TEMPLATE_FILE.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    return document


def functions() -> dict[str, Function]:
    """Each function by its logical id."""
    document = load()
    resources, parameters = document["Resources"], document["Parameters"]

    def resolved(value: Any) -> str:
        if not isinstance(value, dict):
            return str(value)
        name: str = value["Ref"]
        return str(parameters[name]["Default"]) if name in parameters else PSEUDO_PARAMETERS.get(name, name)

    def function(logical_id: str, own: dict[str, Any]) -> Function:
        properties = document["Globals"]["Function"] | own
        layers = [resources[layer["Ref"]]["Properties"]["ContentUri"] for layer in properties["Layers"]]
        return Function(
            name=logical_id,
            folders=tuple(ROOT / folder for folder in [properties["CodeUri"], *layers]),
            handler=properties["Handler"],
            timeout=properties["Timeout"],
            memory=properties["MemorySize"],
            variables={name: resolved(value) for name, value in properties["Environment"]["Variables"].items()},
        )

    return {
        logical_id: function(logical_id, resource["Properties"])
        for logical_id, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def routes() -> dict[str, str]:
    """Return the function of each route, a logical id, by route key: ``"METHOD /path"`` or ``"$default"``."""
    return {
        f"{route['Method']} {route['Path']}" if "Path" in route else "$default": logical_id
        for logical_id, resource in load()["Resources"].items()
        for route in (event["Properties"] for event in resource.get("Properties", {}).get("Events", {}).values())
    }


def queues() -> dict[str, dict[str, Any]]:
    """Properties of each queue, by logical id, which is also its name on this machine."""
    resources = load()["Resources"]
    return {
        logical_id: resource["Properties"]
        for logical_id, resource in resources.items()
        if resource["Type"] == "AWS::SQS::Queue"
    }


def event_source_mappings() -> list[dict[str, Any]]:
    """Properties of what invokes functions with the messages of queues."""
    return [
        resource["Properties"]
        for resource in load()["Resources"].values()
        if resource["Type"] == "AWS::Lambda::EventSourceMapping"
    ]


def tables() -> dict[str, dict[str, Any]]:
    """Parameters of ``CreateTable`` for each table, by logical id, which is also its name on this machine."""
    resources = load()["Resources"]
    return {
        logical_id: {
            "TableName": logical_id,
            **{name: value for name, value in resource["Properties"].items() if name in _CREATE_TABLE_NAMES},
        }
        for logical_id, resource in resources.items()
        if resource["Type"] == "AWS::DynamoDB::Table"
    }


def time_to_live_attributes() -> dict[str, str]:
    """The attribute that each table expires its items by, where it has one."""
    resources = load()["Resources"]
    return {
        logical_id: resource["Properties"]["TimeToLiveSpecification"]["AttributeName"]
        for logical_id, resource in resources.items()
        if "TimeToLiveSpecification" in resource.get("Properties", {})
    }
