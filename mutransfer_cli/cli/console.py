"""How commands talk to people: stderr for notes, stdin when it is piped. stdout carries results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mutransfer_cli.errors import InputError


def note(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def stdout_or(output: Path | None) -> Path | None:
    """The file to write, None for stdout (`-`, or nothing given)."""
    return None if output is None or str(output) == "-" else output


def stdin_or(sources: Sequence[Path] | None, what: str) -> list[Path | None]:
    """The sources given, with None for stdin (`-`, or nothing given and stdin piped)."""
    if sources:
        return [None if str(source) == "-" else source for source in sources]
    if sys.stdin.isatty():
        raise InputError(f"nothing to read: give {what}")
    return [None]
