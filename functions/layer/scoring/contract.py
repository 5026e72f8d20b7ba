"""The API's contract: its OpenAPI document, which the functions ``docs`` and ``fallback`` use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scoring.errors import InvalidRequest
from scoring.fields import KEY_FIELD, Field, Fields, reader

DOCUMENT = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")

_SAMPLES = {"string": "string", "number": 0, "integer": 0, "boolean": False, "time": "2026-11-25T08:30:00+01:00"}


def document_with(fields: Fields) -> str:
    """Return the OpenAPI document with the fields of a rule set in the schema of a transaction.

    Examples get the required fields that they lack. Those that the rule set still refuses are left out.
    """
    document: dict[str, Any] = json.loads(DOCUMENT)
    schemas = document["components"]["schemas"]
    transaction, item = schemas["Transaction"], schemas["BatchItem"]
    built_in = transaction["properties"]
    transaction["properties"] = {
        field.name: {
            **_narrowed(built_in.get(field.name, {}), field),
            **_schema(field),
            **({"default": fields.defaults[field.name]} if field.name in fields.defaults else {}),
        }
        for field in fields.declared
    }
    transaction["required"] = [field.name for field in fields.declared if field.required]
    transaction["additionalProperties"] = not fields.refuse_unknown
    if fields.refuse_unknown:
        # "allOf" a transaction without additional properties would refuse the key.
        schemas["BatchItem"] = {**transaction, "properties": {**transaction["properties"], **item["properties"]}}
    single, batch = (document["paths"][path]["post"]["requestBody"]["content"] for path in ("/score", "/score/batch"))
    _complete(single["application/json"], lambda value: _accepted(value, fields))
    _complete(batch["application/json"], lambda value: _accepted_items(value, fields))
    _complete(batch["application/x-ndjson"], lambda value: _accepted_lines(value, fields))
    return json.dumps(document, ensure_ascii=False)


def _complete(content: dict[str, Any], accepted: Callable[[Any], Any]) -> None:
    """Replace the examples of a body; leave out those of which nothing is accepted."""
    examples = {name: {**example, "value": accepted(example["value"])} for name, example in content["examples"].items()}
    content["examples"] = {name: example for name, example in examples.items() if example["value"]}
    if not content["examples"]:
        # Tools then generate one from the schema.
        del content["examples"]


def _narrowed(schema: dict[str, Any], field: Field) -> dict[str, Any]:
    """Return the schema of a built-in field without its default, and without examples that the field refuses."""
    narrowed = {name: value for name, value in schema.items() if name not in {"default", "examples"}}
    examples = [example for example in schema.get("examples", []) if _is_valid(field, example)]
    return {**narrowed, "examples": examples} if examples else narrowed


def _is_valid(field: Field, value: Any) -> bool:
    try:
        reader(field)(value)
    except InvalidRequest:
        return False
    return True


def _schema(field: Field) -> dict[str, Any]:
    """Return the JSON Schema of a field."""
    schema: dict[str, Any] = {"type": "string", "format": "date-time"} if field.type == "time" else {"type": field.type}
    if field.type == "integer" and None in (field.minimum, field.maximum):
        schema["format"] = "int64"
    limits = {"minimum": field.minimum, "maximum": field.maximum, "maxLength": field.max_length}
    schema.update({name: limit for name, limit in limits.items() if limit is not None})
    description = field.description
    if field.one_of and field.ignores_case:
        # An enumeration cannot ignore case.
        sentence = f"{description.rstrip('.')}. " if description else ""
        description = f"{sentence}One of {', '.join(field.one_of)}, in any case."
    elif field.one_of:
        schema["enum"] = list(field.one_of)
    if description:
        schema["description"] = description
    return schema


def _accepted(transaction: dict[str, Any], fields: Fields) -> dict[str, Any] | None:
    """Return an example with all required fields, or None if the rule set refuses it."""
    missing = [field for field in fields.declared if field.required and field.name not in transaction]
    completed = {**transaction, **{field.name: _sample(field) for field in missing}}
    try:
        fields.read(completed)
    except InvalidRequest:
        return None
    return completed


def _accepted_items(batch: list[dict[str, Any]], fields: Fields) -> list[dict[str, Any]]:
    """Return the items of an example that the rule set accepts, with all required fields."""
    found = []
    for item in batch:
        key = {name: value for name, value in item.items() if name == KEY_FIELD}
        accepted = _accepted({name: value for name, value in item.items() if name != KEY_FIELD}, fields)
        if accepted:
            found.append({**accepted, **key})
    return found


def _accepted_lines(lines: str, fields: Fields) -> str:
    items = _accepted_items([json.loads(line) for line in lines.splitlines()], fields)
    return "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items)


def _sample(field: Field) -> Any:
    if field.one_of:
        return field.one_of[0]
    if field.minimum is not None or field.maximum is not None:
        return field.maximum if field.minimum is None else field.minimum
    sample = _SAMPLES[field.type]
    return sample[: field.max_length] if isinstance(sample, str) else sample
