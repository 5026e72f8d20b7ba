"""``template.yaml`` as data, so that the schema of the tables stands once."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE_FILE = ROOT / "template.yaml"

# The part of a table's properties that CreateTable takes under the same names.
_CREATE_TABLE_NAMES = ("AttributeDefinitions", "KeySchema", "BillingMode")


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
