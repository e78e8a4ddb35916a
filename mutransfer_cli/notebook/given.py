"""Arguments as people give them: paths, and what stands where a path is expected."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mutransfer_cli.errors import InputError


def path_of(given: Any, what: str, instead: str = "") -> Path:
    """The path that an argument names.

    Args:
        what: what is expected, such as "the folder of a sweep".
        instead: what to do otherwise.

    Raises:
        InputError: the argument is no path.
    """
    if isinstance(given, str | os.PathLike) and os.fspath(given):
        return Path(os.fspath(given))
    raise InputError(f"expected {what}, found {found(given)}" + instead)


def found(given: Any) -> str:
    """An argument in the words of a message."""
    if isinstance(given, str | int | float | bytes | None):
        return repr(given)
    name = type(given).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
