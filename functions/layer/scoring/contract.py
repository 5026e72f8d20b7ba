"""The API's contract: its OpenAPI document, which the functions ``docs`` and ``fallback`` use."""

import json
from pathlib import Path
from typing import Any

from scoring.errors import InvalidRequest
from scoring.fields import Field, Fields, reader

DOCUMENT = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")

_SAMPLES = {"string": "string", "number": 0, "integer": 0, "boolean": False, "time": "2026-11-25T08:30:00+01:00"}


def document_with(fields: Fields) -> str:
    """Return the OpenAPI document with the fields of a rule set in the schema of a transaction.

    Examples get the required fields that they lack. Those that the rule set still refuses are left out.
    """
    document: dict[str, Any] = json.loads(DOCUMENT)
    transaction = document["components"]["schemas"]["Transaction"]
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
    content = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    content["examples"] = {
        name: {**example, "value": value}
        for name, example in content["examples"].items()
        if (value := _accepted(example["value"], fields))
    }
    if not content["examples"]:
        # Tools then generate one from the schema.
        del content["examples"]
    return json.dumps(document, ensure_ascii=False)


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


def _sample(field: Field) -> Any:
    if field.one_of:
        return field.one_of[0]
    if field.minimum is not None or field.maximum is not None:
        return field.maximum if field.minimum is None else field.minimum
    sample = _SAMPLES[field.type]
    return sample[: field.max_length] if isinstance(sample, str) else sample
