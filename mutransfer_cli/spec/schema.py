"""JSON Schema of the files, generated from their models, for editors and other validators.

It is draft 7, which editors support best; pydantic writes draft 2020-12. A schema accepts the forms
that people write and the tool accepts. Only the tool refuses keys that contradict each other: a
repeated seed, a width that heads do not divide.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mutransfer_cli.docstrings import description, field_descriptions
from mutransfer_cli.spec.matrix import ROWS, VARIANTS
from mutransfer_cli.spec.records import TRIAL_SCHEMA
from mutransfer_cli.spec.sweep import SWEEP_SCHEMA
from mutransfer_cli.strict import Closed

LEFT_OUT = ("title", "discriminator", "examples")
DRAFT_7 = {
    "$defs": "definitions",
    "prefixItems": "items",
    # pydantic's keywords for limits of numbers that may be written in several forms
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}
NAMED = ("properties", "definitions")  # their keys are names, not keywords
LITERAL = ("const", "default", "enum", "required")  # their values are not schemas


def json_schema(schema: str, document: Any) -> dict[str, Any]:
    """Generate the JSON Schema of a file.

    Args:
        schema: value of the file's key `schema`, such as mutransfer.sweep/1.
        document: the model of the file or, for records, the union of the models of a line.
    """
    written = TypeAdapter(document).json_schema(schema_generator=_Described)
    found: dict[str, Any] = _draft_7(written)
    if schema == SWEEP_SCHEMA:
        found = _with_rows_and_variants(found)
    if schema == TRIAL_SCHEMA:
        # records from before weight decay was an axis: the reader takes the protocol's value
        found["definitions"]["TrialRecord"]["required"].remove("weight_decay")
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": schema}
    return head | {key: found[key] for key in sorted(found, key="definitions".__eq__)}


class _Described(GenerateJsonSchema):
    """Adds descriptions from docstrings, and the booleans of YAML 1.1."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model: type[Closed] = schema["cls"]
        found["description"] = description(model)
        for key, about in field_descriptions(model).items():
            found["properties"][key]["description"] = about
        return found

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        # these are texts in the YAML 1.2 of editors and booleans for the tool
        return {"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off"]}]}


def _draft_7(schema: Any) -> Any:
    """Translate to draft 7, without names as titles, examples, and defaults that are sections."""
    if isinstance(schema, list):
        return [_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in dict[str, Any](schema).items():
        if key in LEFT_OUT or (key == "default" and isinstance(value, dict)):
            continue
        word = DRAFT_7.get(key, key)
        if word in NAMED:
            found[word] = {name: _draft_7(part) for name, part in value.items()}
        elif word == "$ref":
            found[word] = value.replace("#/$defs/", "#/definitions/")
        else:
            found[word] = value if word in LITERAL else _draft_7(value)
    if "$ref" in found and len(found) > 1:  # draft 7 ignores keywords beside a reference
        found = {"allOf": [{"$ref": found.pop("$ref")}], **found}
    return found


def _with_rows_and_variants(spec: dict[str, Any]) -> dict[str, Any]:
    """The schema of a file with one spec or, under `rows`, several that share its sections."""
    definitions = spec.pop("definitions")
    parts = {key: _part(section, definitions) for key, section in spec["properties"].items()}
    variants = {
        "type": "object",
        "description": "The same experiment at other sizes (`--variant NAME`), by name: sections "
        "whose keys replace those of the spec.",
        "additionalProperties": {
            "type": "object",
            "description": "A variant: any part of any section.",
            "properties": parts,
            "additionalProperties": False,
        },
    }
    rows = {
        "type": "object",
        "description": "Several specs (FILE/NAME), by name: sections whose keys replace those that "
        "all rows share.",
        "additionalProperties": {"$ref": "#/definitions/Row"},
    }
    definitions["Row"] = {
        "type": "object",
        "description": "A spec, or further rows with what they share: any part of any section.",
        "properties": parts | {VARIANTS: variants, ROWS: rows},
        "additionalProperties": False,
    }
    spec["properties"][VARIANTS] = variants
    return {
        "description": spec["description"],
        "required": ["schema"],
        "if": {"required": [ROWS]},
        "then": {"$ref": "#/definitions/Row"},
        "else": spec,
        "definitions": definitions,
    }


def _part(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a section in which every key is optional, since the spec has it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        whole = definitions[name].items()
        definitions[f"PartOf{name}"] = {key: value for key, value in whole if key != "required"}
        return {"$ref": f"#/definitions/PartOf{name}"}
    found = {}
    for key, value in schema.items():
        if key in ("allOf", "anyOf", "oneOf"):
            # several members may match without the key that distinguishes them
            kind = "anyOf" if key == "oneOf" else key
            found[kind] = [_part(member, definitions) for member in value]
        else:
            found[key] = value
    return found
