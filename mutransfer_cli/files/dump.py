"""File models as text."""

from __future__ import annotations

import json

from mutransfer_cli.files.strict import Strict
from mutransfer_cli.files.yaml_io import dump_yaml


def dump(document: Strict, as_json: bool = False) -> str:
    """YAML, whose keys may be numbers, or JSON.

    The YAML begins with a line from which editors know its JSON Schema.

    Args:
        document: with a `schema` key.
    """
    if as_json:
        return json.dumps(document.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    content = document.model_dump(by_alias=True)
    return f"# yaml-language-server: $schema={schema_file(content['schema'])}\n" + dump_yaml(
        content
    )


def schema_file(schema: str) -> str:
    """Where the JSON Schema of a document lies: beside it, under a name with its version.

    A relative path counts from the document, so that both can be kept and moved together.
    """
    return schema.replace("/", "-") + ".schema.json"
