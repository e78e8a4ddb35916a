"""How commands talk to people: shared options, piped input, notes, numbers and tables.

Notes go to stderr; stdout carries results.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mutransfer_cli.cli.talk import is_quiet
from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mutransfer_cli.sweep.choice import WidthPrice

# options that several commands share
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to FILE instead of stdout.")
]
Variant = Annotated[
    str | None, typer.Option(help="Variant of the spec, such as cpu.", show_default=False)
]
GroupName = Annotated[str | None, typer.Option(help="Group of exponents fitted with --by.")]
TargetName = Annotated[
    str | None,
    typer.Option(
        metavar="TARGET",
        help="Model that the recipe is for: its config.json, my_file.py:function or "
        "package.module:function (runs that code), or a YAML file with the model of a spec.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")]

WIDE = 110  # columns if the stream is not a terminal
UNKNOWN = 80  # columns of a terminal that does not say
PRICE_COLUMNS = (
    "width",
    "trials",
    "to run",
    "parameters",
    "trials a group",
    "FLOPs",
    "memory",
    "time",
)


def line_of(stream: TextIO) -> int | None:
    """Characters in a line of the stream; None if it is not a terminal."""
    if not stream.isatty():
        return None
    try:
        columns = os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns
        return int(columns) or UNKNOWN
    except (OSError, ValueError):  # a terminal that does not say how wide it is
        return UNKNOWN


def note(sentence: str, indent: str = "  ", bold: bool = False) -> None:
    """Print a sentence on stderr, unless the user wants quiet.

    On a terminal its lines end between words.

    Args:
        indent: begins each further line.
        bold: on a terminal.
    """
    if not is_quiet():
        _say(sentence, indent, bold)


def warn(sentence: str) -> None:
    """Print a warning on stderr, whatever the user wants."""
    _say(f"warning: {sentence}", "  ", bold=False)


def _say(text: str, indent: str, bold: bool) -> None:
    line = line_of(sys.stderr)
    if line is not None:
        text = "\n".join(_filled(part, line, indent) for part in text.splitlines())
    if bold:
        typer.secho(text, err=True, bold=True)
    else:
        print(text, file=sys.stderr, flush=True)


def _filled(text: str, line: int, indent: str) -> str:
    return textwrap.fill(
        text, line, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def aligned(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """Lines of a table: columns two blanks apart, the first `left` of them aligned to the left."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(size) if at < left else text.rjust(size)
            for at, (text, size) in enumerate(zip(row, sizes, strict=True))
        )
        for row in rows
    ]


def tabulate(rows: Sequence[Sequence[str]], title: str | None, left: int = 0) -> None:
    """Print a table on stderr, under a title; a line by row where it is wider than a terminal.

    Like `note`, it prints nothing if the user wants quiet.
    """
    if is_quiet():
        return
    if title is not None:
        note("")
        note(title, bold=True)
    lines, wide = aligned(rows, left), line_of(sys.stderr)
    if wide is not None and len(lines[0]) > wide:
        head = rows[0][1:]
        lines = []
        for first, *values in rows[1:]:
            named = [f"{name} {text}" for name, text in zip(head, values, strict=True) if text]
            note(f"{first}: {', '.join(named)}")
    for line in lines:
        print(line.rstrip(), file=sys.stderr)


def stdout_or(output: Path | None) -> Path | None:
    """The file to write; None for stdout (`-`, or nothing given)."""
    return None if output is None or str(output) == "-" else output


def stdin_or(sources: Sequence[Path] | None, what: str) -> list[Path | None]:
    """The sources given, with None for stdin (`-`, or nothing given and stdin piped).

    Raises:
        InputError: nothing is given, and stdin is a terminal.
    """
    if sources:
        return [None if str(source) == "-" else source for source in sources]
    if sys.stdin.isatty():
        raise InputError(f"nothing to read: give {what}")
    return [None]


def console(to_stderr: bool) -> Console:
    """A console on the current stream, WIDE columns wide if that is not a terminal.

    Like `note`, one on stderr prints nothing if the user wants quiet.
    """
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(file=stream, highlight=False, width=width, quiet=to_stderr and is_quiet())


def right_aligned(columns: Iterable[str], title: str | None = None) -> Table:
    """An empty table without frame."""
    from rich.table import Table

    table = Table(title=title, box=None)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def print_prices(prices: Iterable[WidthPrice], device: str, workers: int) -> None:
    """Print what each width of a sweep will cost."""
    from mutransfer_cli.words import duration

    table = right_aligned(PRICE_COLUMNS, f"what the sweep will cost ({device})")
    total_flops, total_seconds, extrapolated = 0.0, 0.0, False
    for price in prices:
        total_flops, total_seconds = total_flops + price.flops, total_seconds + price.seconds
        extrapolated |= not price.measured
        table.add_row(
            str(price.width),
            f"{price.trials:,}",
            f"{price.pending:,}",
            f"{price.cost.parameters:,}",
            f"{price.group.slots:,}",
            f"{price.flops:.2e}",
            f"{price.group.memory / 1e9:.2f} GB",
            duration(price.seconds) + ("" if price.measured else " *"),
        )
    table.add_row("all", "", "", "", "", f"{total_flops:.2e}", "", duration(total_seconds))
    out = console(to_stderr=False)
    out.print(table)
    by = f", divided among {workers} workers" if workers > 1 else ""
    out.print(f"time: a few steps of each width timed on this machine, without compilation{by}")
    if extrapolated:
        out.print("* extrapolated from the throughput of a smaller width")
