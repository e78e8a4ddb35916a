"""Where a result goes: to the file asked for, into a pipe, or, on a terminal, beside its source."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.cli.console import line_of, note, stdout_or, warn
from mutransfer_cli.cli.talk import is_quiet
from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    from mutransfer_cli.fit.exponents import Exponents

STDOUT = Path("-")
SHOWN_WIDTH = 4096  # in the next command, where the sweep is small


def is_for_people(output: Path | None) -> bool:
    """Whether a result is shown on the terminal, and not written to stdout or a file asked for."""
    return output is None and sys.stdout.isatty()


def save(text: str, output: Path | None, beside: Path | None) -> Path | None:
    """Write a result and return its file, or None where it has none.

    It goes to the file that is asked for; without one to stdout, or, where that is a terminal, to a
    file beside the source. Where that cannot be written, a sentence says so.

    Args:
        output: as the user gave it; `-` is stdout.
        beside: the file beside the source; None where there is no place for it.
    """
    from mutransfer_cli.spec.yaml_io import write_result

    if not is_for_people(output):
        target = stdout_or(output)
        write_result(text, target)
        if target is not None:
            note("")
        return target
    note("")
    if beside is None:
        return None
    try:
        write_result(text, beside)
    except InputError as error:  # the answer was shown, and can be saved elsewhere
        warn(f"not saved: {error}")
        return None
    note(f"saved: {beside}")
    return beside


def place_of_fit(sources: Sequence[Path | None]) -> Path | None:
    """The file beside what was fitted; None for stdin, and for several sources.

    It is exponents.yaml in the folder of a sweep, and NAME.exponents.yaml beside anything else.
    """
    from mutransfer_cli.spec.kinds import EXPONENTS, TRIALS

    source, *others = sources
    if source is None or others:
        return None
    if source.is_dir() and (source / TRIALS).exists():
        return source / EXPONENTS
    if source.is_dir():
        return source.parent / f"{source.resolve().name}.{EXPONENTS}"
    if not source.is_file():  # a pipe
        return None
    return source.with_name(EXPONENTS if source.name == TRIALS else f"{source.stem}.{EXPONENTS}")


def print_next_of_fit(document: Exponents, saved: Path | None, usable: Sequence[str]) -> None:
    """Print the command that follows on a fit.

    Args:
        saved: the file that holds it.
        usable: groups of which a recipe can be made; without groups the empty name, or nothing.
    """
    from mutransfer_cli.fit.exponents import FAR
    from mutransfer_cli.spec.kinds import EXPONENTS
    from mutransfer_cli.spec.protocol import Protocol

    if saved is None and not sys.stdout.isatty():
        return
    if not usable:
        own = isinstance(document.protocol, Protocol)
        trained = "`mutransfer sweep-proxy` has trained these runs too" if own else "they are there"
        print_next(f"next, when {trained}", *sys.argv[1:])
    elif saved is None:
        print_next("to save the fit", *sys.argv[1:], "-o", EXPONENTS)
    else:
        fits = document.groups[usable[0]].axes if usable[0] else document.axes
        largest = max(width for axis in fits.values() for width in axis.optimum)
        group = ["--group", usable[0]] if usable[0] else []
        width = str(max(SHOWN_WIDTH, FAR * largest))
        print_next(
            "next, with the width of your target", "transfer", str(saved), *group, "--width", width
        )


def print_next(why: str, *words: str) -> None:
    """Print on stderr a command to type, after a clause; a long one continues on further lines.

    Like `note`, it prints nothing if the user wants quiet.
    """
    if is_quiet():
        return
    line, shown = line_of(sys.stderr), ["mutransfer"]
    for part in _with_values(words):
        if line is not None and len(f"  {shown[-1]} {part} \\") > line:
            shown.append(f"  {part}")
        else:
            shown[-1] += f" {part}"
    note(f"{why}:")
    print("  " + " \\\n  ".join(shown), file=sys.stderr, flush=True)


def _with_values(words: Sequence[str]) -> list[str]:
    """The words as a shell needs them, each option together with what follows it."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("-") and " " not in found[-1] and word[:1] != "-":
            found[-1] += f" {shlex.quote(word)}"
        else:
            found.append(shlex.quote(word))
    return found
