"""One JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.strict import Model, own_line


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


def own_lines(
    path: Path,
    model: type[Model],
    what: str,
    concerns: Callable[[bytes], bool] = lambda line: True,
) -> Iterator[Model]:
    """The lines of a file that we wrote; none where there is no file.

    A last line without its newline, which was cut short, is left out.

    Args:
        what: a line is, in a sentence.
        concerns: whether a line is wanted; the others are not read.

    Raises:
        InputError: the file cannot be read, or a line is none of ours.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n") or not concerns(line):
                    continue
                record = own_line(model, line)
                if record is None:
                    raise InputError(f"{path} line {number}: is no {what}; remove the line")
                yield record
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
