"""File models as text."""

from __future__ import annotations

import json

from mutransfer_cli.files.strict import Strict
from mutransfer_cli.files.yaml_io import dump_yaml


def dump(document: Strict, as_json: bool = False) -> str:
    """YAML, whose keys may be numbers, or JSON."""
    if as_json:
        return json.dumps(document.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    return dump_yaml(document.model_dump(by_alias=True))
