"""One JSON object a line."""

from __future__ import annotations

import json
from typing import Any

from mutransfer_cli.errors import InputError


def json_line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, allow_nan=False).encode() + b"\n"


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """
    Raises:
        InputError: not a JSON object; NaN and Infinity are not JSON.
    """
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: not a JSON record ({error}); remove or mend the line"
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(data).__name__}")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; a diverged trial has null losses")
