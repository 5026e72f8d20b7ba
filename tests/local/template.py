"""``template.yaml`` as data: its functions, routes, tables and queues."""

import functools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local import cloudformation
from tests.local.cloudformation import Stack
from tests.local.processes import StartError

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE_FILE = ROOT / "template.yaml"
RULES_FILE = ROOT / "functions" / "layer" / "scoring" / "scorers" / "rules.json"
_KAFKA = {"KafkaBootstrapServers": "127.0.0.1:9092", "KafkaTopic": "transactions", "KafkaGroup": "risk-scoring"}


@dataclass(frozen=True)
class Function:
    """A Lambda function of the template.

    Attributes
    ----------
    name
        Logical id.
    folders
        Folder of its code, then those of its layers.
    handler
        ``module.function`` in the first folder.
    timeout
        Seconds.
    memory
        MB.
    variables
        Environment variables, with their values under ``sam local``.
    """

    name: str
    folders: tuple[Path, ...]
    handler: str
    timeout: float
    memory: int
    variables: dict[str, str]


def load() -> dict[str, Any]:
    """Return the template, with intrinsic functions in their long form."""
    return cloudformation.parse(TEMPLATE_FILE.read_text(encoding="utf-8"))


def scorer() -> str:
    """Return the parameter ``Scorer``: the environment variable of this name, or else its default.

    Raises
    ------
    StartError
        The variable is not one of the values that the template allows.
    """
    parameter = load()["Parameters"]["Scorer"]
    value: str = os.environ.get("Scorer") or parameter["Default"]  # noqa: SIM112  the name of the parameter
    if value not in parameter["AllowedValues"]:
        raise StartError(f"Scorer must be one of {', '.join(parameter['AllowedValues'])}, not {value!r}")
    return value


@functools.cache
def stack() -> Stack:
    """Return the stack of ``make run``: defaults, except for :func:`scorer`, and the resources for Kafka."""
    return Stack.local(load(), {**_KAFKA, "Scorer": scorer()})


def kafka_mapping(bootstrap: str, topic: str, pollers: int) -> dict[str, Any]:
    """Return the properties of the event source mapping of a topic; with pollers, it takes partial responses."""
    parameters = _KAFKA | {
        "KafkaBootstrapServers": bootstrap,
        "KafkaTopic": topic,
        "KafkaMinPollers": str(pollers),
        "KafkaMaxPollers": str(pollers),
    }
    return Stack.local(load(), parameters).properties("KafkaMapping")


def functions() -> dict[str, Function]:
    """Return the functions by logical id."""
    resources = stack().template["Resources"]
    shared = stack().template["Globals"]["Function"]

    def function(logical_id: str) -> Function:
        own = resources[logical_id]["Properties"]
        properties = shared | own
        # As SAM merges them: name by name
        variables = shared["Environment"]["Variables"] | own.get("Environment", {}).get("Variables", {})
        layers = [resources[layer]["Properties"]["ContentUri"] for layer in stack().value(properties["Layers"])]
        return Function(
            name=logical_id,
            folders=tuple(ROOT / folder for folder in [properties["CodeUri"], *layers]),
            handler=properties["Handler"],
            timeout=properties["Timeout"],
            memory=properties["MemorySize"],
            variables=stack().value(variables),
        )

    return {logical_id: function(logical_id) for logical_id in stack().of_type("AWS::Serverless::Function")}


def routes() -> dict[str, str]:
    """Return the logical id of the function of each route, by route key: ``"METHOD /path"`` or ``"$default"``."""
    return {
        f"{route['Method']} {route['Path']}" if "Path" in route else "$default": logical_id
        for logical_id, resource in stack().template["Resources"].items()
        for route in (event["Properties"] for event in resource.get("Properties", {}).get("Events", {}).values())
    }


def copy_layer(folder: Path, rules: Any) -> Path:
    """Copy the layer into a new folder, with another rule set."""
    shutil.copytree(ROOT / "functions" / "layer", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "scoring" / "scorers" / "rules.json").write_text(json.dumps(rules), encoding="utf-8")
    return folder
