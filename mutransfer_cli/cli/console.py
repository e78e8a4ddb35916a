"""How commands talk to people: shared options, piped input, notes, numbers and tables.

Notes go to stderr; stdout carries results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
        help="Model that the recipe is for: its config.json, package.module:function (runs that "
        "code), or a YAML file with the model of a spec.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")]

WIDE = 110  # columns if the stream is not a terminal
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


class _Talk:
    """How much is said beside results, warnings and errors."""

    notes, details = True, False


def talk_as_usual() -> None:
    """Say notes, and no details."""
    _Talk.notes, _Talk.details = True, False


def be_quiet() -> None:
    """Say no notes."""
    _Talk.notes = False


def be_verbose() -> None:
    """Say details too."""
    _Talk.details = True


def is_quiet() -> bool:
    """Whether only results, warnings and errors are wanted."""
    return not _Talk.notes


def note(sentence: str) -> None:
    """Print a sentence on stderr, unless the user wants quiet."""
    if _Talk.notes:
        print(sentence, file=sys.stderr, flush=True)


def warn(sentence: str) -> None:
    """Print a warning on stderr, for the quiet too."""
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def detail(make: Callable[[], str]) -> None:
    """Print a sentence on stderr for users who want to know more; only then is it made."""
    if _Talk.details:
        print(make(), file=sys.stderr, flush=True)


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
    """A console on the current stream, WIDE columns wide if that is not a terminal."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else WIDE)


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
            str(price.trials),
            str(price.pending),
            f"{price.cost.parameters:,}",
            str(price.group.slots),
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
