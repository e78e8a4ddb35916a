"""File models as text."""

from __future__ import annotations

import json

from mutransfer_cli.files.strict import Strict
from mutransfer_cli.files.yaml_io import dump_yaml


def dump(document: Strict, as_json: bool = False) -> str:
    """YAML, or JSON; optional keys that say nothing are left out."""
    data = document.model_dump(mode="json", by_alias=True)
    return json.dumps(data, indent=2) + "\n" if as_json else dump_yaml(data)
