"""`mutransfer recipes`: the shipped specs in a table, or one of them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.completion import spec_names
from mutransfer_cli.cli.next_command import refuse_all_but_spec

if TYPE_CHECKING:
    from mutransfer_cli.spec.shipped import Line

NARROWEST, WIDEST = 60, 100
FULL_SIZE = 3600.0  # seconds on two cores from which a spec is one for a GPU
NOTE = (
    "Each name with one of the ends in braces is a spec. Trials and time are those of the small "
    "variant (--variant cpu) where there is one, marked v; times are for two CPU cores and rough: "
    "`mutransfer sweep-proxy NAME --dry-run` measures. `mutransfer recipes NAME` prints a spec."
)


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Spec to print, such as lingle/baseline, or a paper whose specs are listed.",
            autocompletion=spec_names,
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the shipped specs by paper, or print one as YAML to begin with."""
    from mutransfer_cli.spec.shipped import chapters, is_matrix, text_of

    if name is not None and not is_matrix(name):
        refuse_all_but_spec(name)
        typer.echo(text_of(name), nl=False)
        return
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((80, 24)).columns))
    for chapter in chapters(name):
        typer.echo(textwrap.fill(chapter.head, width))
        for line in chapter.lines:
            for row in rows(line, width):
                typer.echo(row)
        typer.echo()
    typer.echo(textwrap.fill(NOTE, width))


def rows(line: Line, width: int) -> Iterator[str]:
    """A spec in the table: its name, trials and time, and below what it compares."""
    ends = f"-{{{','.join(line.ends)}}}" if line.ends else ""
    cost = f"{line.trials:4} trials  {time_of(line):>8}{' v' if line.small else '  '}"
    # a list in braces is one word, which breaks at its brace and at commas
    spaced = (line.name + ends).replace(",", ", ").replace("{", "{ ")
    parts = textwrap.wrap(spaced, width - len(cost) - 4, break_on_hyphens=False)
    for number, part in enumerate(parts):
        shown = part.replace(", ", ",").replace("{ ", "{")
        yield f"    {shown}" if number else f"  {shown:{width - len(cost) - 4}}  {cost}".rstrip()
    for part in textwrap.wrap(line.compares, width - 6):
        yield f"      {part}"


def time_of(line: Line) -> str:
    """About how long a spec takes on two CPU cores, in words."""
    from mutransfer_cli.spec.shipped import CORE_FLOPS

    if line.flops is None:
        return "-"
    seconds = line.flops / (2 * CORE_FLOPS)
    if seconds > FULL_SIZE:
        return "GPU"
    return f"{max(1, round(seconds / 60))} min"
