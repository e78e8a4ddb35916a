"""JSON Schema of the files, generated from their models: what editors and other validators read.

Draft 7, which editors know best (yaml-language-server); pydantic writes draft 2020-12. A schema
accepts what the tool accepts, in the form that people write it. What the keys of a file may not say
together (two seeds alike, a width that heads do not divide) only the tool knows.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.check import CHECK_SCHEMA, Check
from mutransfer_cli.files.declared import PROTOCOL_SCHEMA, DeclaredProtocol
from mutransfer_cli.files.descriptions import descriptions, summary
from mutransfer_cli.files.exponents import EXPONENTS_SCHEMA, Exponents
from mutransfer_cli.files.recipe import RECIPE_SCHEMA, Recipe
from mutransfer_cli.files.records import TRIAL_SCHEMA, SweepHeader, ThroughputRecord, TrialRecord
from mutransfer_cli.files.spec import SWEEP_SCHEMA, SweepSpec
from mutransfer_cli.files.strict import nearest
from mutransfer_cli.files.variants import VARIANTS

DOCUMENTS: dict[str, Any] = {
    SWEEP_SCHEMA: SweepSpec,
    PROTOCOL_SCHEMA: DeclaredProtocol,
    TRIAL_SCHEMA: SweepHeader | TrialRecord | ThroughputRecord,
    EXPONENTS_SCHEMA: Exponents,
    RECIPE_SCHEMA: Recipe,
    CHECK_SCHEMA: Check,
}
NAMES = {schema.split(".")[1].split("/")[0]: schema for schema in DOCUMENTS}
DRAFT_7 = {
    "$defs": "definitions",
    "prefixItems": "items",
    # pydantic's own words for limits of what may be written in several forms
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}
NAMED = ("properties", "definitions")  # hold schemas by names that are no keywords
LITERAL = ("const", "default", "enum", "required")


def json_schema(name: str) -> dict[str, Any]:
    """The schema of a file, draft 7; of `trial` that of one line.

    Raises:
        InputError: no file of that name.
    """
    if name not in NAMES:
        raise InputError(f"{name}: no such file{nearest(name, NAMES)}")
    written = TypeAdapter(DOCUMENTS[NAMES[name]]).json_schema(schema_generator=_Described)
    schema: dict[str, Any] = _draft_7(written)
    if name == "sweep":
        schema["properties"][VARIANTS] = _variants(schema)
    if name == "trial":
        # of sweeps from before weight decay was an axis: the reader takes the protocol's
        schema["definitions"]["TrialRecord"]["required"].remove("weight_decay")
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": NAMES[name]}
    return head | {key: schema[key] for key in sorted(schema, key="definitions".__eq__)}


class _Described(GenerateJsonSchema):
    """With the descriptions of the docstrings, and booleans as YAML 1.1 has them."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        found["description"] = summary(schema["cls"])
        for key, description in descriptions(schema["cls"]).items():
            found["properties"][key]["description"] = description
        return found

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        # words to the YAML 1.2 of editors, booleans to the tool
        return {"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off"]}]}


def _draft_7(schema: Any) -> Any:
    """The keywords of draft 7 for those of 2020-12, and nothing that is of no use in an editor:
    titles made from names, and whole sections as defaults."""
    if isinstance(schema, list):
        return [_draft_7(part) for part in schema]
    return _translated(schema) if isinstance(schema, dict) else schema


def _translated(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("title", "discriminator") or (key == "default" and isinstance(value, dict)):
            continue
        word = DRAFT_7.get(key, key)
        if word in NAMED:
            found[word] = {name: _draft_7(part) for name, part in value.items()}
        elif word == "$ref":
            found[word] = value.replace("#/$defs/", "#/definitions/")
        else:
            found[word] = value if word in LITERAL else _draft_7(value)
    if "$ref" in found and len(found) > 1:  # draft 7 ignores what stands beside a reference
        found = {"allOf": [{"$ref": found.pop("$ref")}], **found}
    return found


def _variants(spec: dict[str, Any]) -> dict[str, Any]:
    """Of a spec's `variants`; adds the parts of its sections to its definitions."""
    sections = {
        key: _part(section, spec["definitions"]) for key, section in spec["properties"].items()
    }
    return {
        "type": "object",
        "description": "The same experiment at other sizes (`--variant NAME`), by name: sections "
        "whose keys replace those of the spec's own.",
        "additionalProperties": {
            "type": "object",
            "description": "A variant: any part of any section.",
            "properties": sections,
            "additionalProperties": False,
        },
    }


def _part(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A section of which any key may be left out, since the spec has it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        whole = definitions[name].items()
        definitions[f"PartOf{name}"] = {key: value for key, value in whole if key != "required"}
        return {"$ref": f"#/definitions/PartOf{name}"}
    found = {}
    for key, value in schema.items():
        if key in ("allOf", "anyOf", "oneOf"):
            # without the key that tells them apart, several may fit
            kind = "anyOf" if key == "oneOf" else key
            found[kind] = [_part(member, definitions) for member in value]
        else:
            found[key] = value
    return found
