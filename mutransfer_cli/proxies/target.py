"""The model to be trained: read from its config or its factory, at the base width and its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.model import AnyModel, FactoryProtocol, HfProtocol, refuse_other_names
from mutransfer_cli.files.strict import nearest
from mutransfer_cli.files.yaml_io import read_text
