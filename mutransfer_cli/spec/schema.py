"""JSON Schema of the files, generated from their models: what editors and other validators read.

Draft 7, which editors know best (yaml-language-server); pydantic writes draft 2020-12. A schema
accepts what the tool accepts, in the form that people write it. What the keys of a file may not say
together (two seeds alike, a width that heads do not divide) only the tool knows.

MERGED:
What a file model's docstring says of its fields: the only place where they are explained.

An `Attributes:` section holds `name: text` or `name, name: text`, further lines indented deeper.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mutransfer_cli.check.measure import CHECK_SCHEMA, Check
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import EXPONENTS_SCHEMA, Exponents
from mutransfer_cli.recipe.types import RECIPE_SCHEMA, Recipe
from mutransfer_cli.spec.protocol import PROTOCOL_SCHEMA, DeclaredProtocol
from mutransfer_cli.spec.records import TRIAL_SCHEMA, SweepHeader, ThroughputRecord, TrialRecord
from mutransfer_cli.spec.sweep import SWEEP_SCHEMA, VARIANTS, SweepSpec
from mutransfer_cli.strict import Closed, nearest

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


SECTION = re.compile(r"^([A-Z]\w+):\n", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\S[\w.]*(?:, \S[\w.]*)*): ", re.MULTILINE)


def own_attributes(owner: type) -> dict[str, str]:
    """The entries of the class's own docstring, each as one line."""
    _, *sections = SECTION.split(_docstring(owner))
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    _, *entries = ENTRY.split(texts.get("Attributes", ""))
    return {
        name: " ".join(text.split())
        for names, text in zip(entries[::2], entries[1::2], strict=True)
        for name in names.split(", ")
    }


def summary(owner: type) -> str:
    """The docstring up to its sections, a line a paragraph."""
    paragraphs = SECTION.split(_docstring(owner))[0].split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).strip()


def descriptions(model: type[Closed]) -> dict[str, str]:
    """The description of every field, by its name in the file.

    Of a field without an entry in the model's own docstring it is that of its bases, else that of
    the classes in `EXPLAINED_BY`.

    Raises:
        LookupError: a field without one.
    """
    owners = [base for owner in (model, *model.EXPLAINED_BY) for base in owner.__mro__]
    found: dict[str, str] = {}
    for owner in reversed(owners):
        found |= own_attributes(owner)
    names = [field.alias or name for name, field in model.model_fields.items()]
    for name in names:
        if name not in found:
            raise LookupError(f"{model.__name__}.{name}: has no entry under `Attributes:`")
    return {name: found[name] for name in names}


def _docstring(owner: type) -> str:
    return inspect.cleandoc(owner.__dict__.get("__doc__") or "") + "\n"
