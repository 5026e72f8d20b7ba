"""``template.yaml`` as data, so that functions, tables and queues are declared once."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local import cloudformation
from tests.local.cloudformation import Stack

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE_FILE = ROOT / "template.yaml"

# Properties of a table that CreateTable takes under the same names
_CREATE_TABLE_NAMES = ("AttributeDefinitions", "KeySchema", "BillingMode")


@dataclass(frozen=True)
class Function:
    """A Lambda function of the template.

    Attributes
    ----------
    name
        Logical id.
    folders
        The folder of its own code, then those of its layers.
    handler
        ``module.function`` in the first folder.
    timeout
        Seconds.
    memory
        MB.
    variables
        Environment variables, with the values that ``sam local`` gives them.
    """

    name: str
    folders: tuple[Path, ...]
    handler: str
    timeout: float
    memory: int
    variables: dict[str, str]


def load() -> dict[str, Any]:
    """Read the template, with intrinsic functions in their long form."""
    return cloudformation.parse(TEMPLATE_FILE.read_text(encoding="utf-8"))


@functools.cache
def stack() -> Stack:
    """Return the stack of this machine: parameters have their defaults, resources are named by their logical ids."""
    return Stack.local(load())


def functions() -> dict[str, Function]:
    """Return each function by its logical id."""
    resources = stack().template["Resources"]
    shared = stack().template["Globals"]["Function"]

    def function(logical_id: str) -> Function:
        properties = shared | resources[logical_id]["Properties"]
        layers = [resources[layer]["Properties"]["ContentUri"] for layer in stack().value(properties["Layers"])]
        return Function(
            name=logical_id,
            folders=tuple(ROOT / folder for folder in [properties["CodeUri"], *layers]),
            handler=properties["Handler"],
            timeout=properties["Timeout"],
            memory=properties["MemorySize"],
            variables=stack().value(properties["Environment"]["Variables"]),
        )

    return {logical_id: function(logical_id) for logical_id in stack().of_type("AWS::Serverless::Function")}


def routes() -> dict[str, str]:
    """Return the function of each route, a logical id, by route key: ``"METHOD /path"`` or ``"$default"``."""
    return {
        f"{route['Method']} {route['Path']}" if "Path" in route else "$default": logical_id
        for logical_id, resource in stack().template["Resources"].items()
        for route in (event["Properties"] for event in resource.get("Properties", {}).get("Events", {}).values())
    }


def queues() -> dict[str, dict[str, Any]]:
    """Return the properties of each queue, by logical id."""
    return _properties("AWS::SQS::Queue")


def event_source_mappings() -> list[dict[str, Any]]:
    """Return the properties of each event source mapping, which invokes a function with the messages of a queue."""
    return list(_properties("AWS::Lambda::EventSourceMapping").values())


def tables() -> dict[str, dict[str, Any]]:
    """Return the parameters of ``CreateTable`` for each table, by logical id."""
    return {
        logical_id: {"TableName": logical_id, **{name: properties[name] for name in _CREATE_TABLE_NAMES}}
        for logical_id, properties in _properties("AWS::DynamoDB::Table").items()
    }


def time_to_live_attributes() -> dict[str, str]:
    """Return the attribute by which a table expires its items, for each table that has one."""
    return {
        logical_id: properties["TimeToLiveSpecification"]["AttributeName"]
        for logical_id, properties in _properties("AWS::DynamoDB::Table").items()
        if "TimeToLiveSpecification" in properties
    }


def _properties(kind: str) -> dict[str, dict[str, Any]]:
    return {logical_id: stack().properties(logical_id) for logical_id in stack().of_type(kind)}
