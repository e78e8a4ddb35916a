"""`mutransfer docs`: the documentation, shipped with the tool."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mutransfer_cli.cli.completion import topics
from mutransfer_cli.cli.next_command import refuse_file
from mutransfer_cli.errors import InputError

FOLDER = Path(__file__).parents[1] / "docs"
COMMANDS = "commands"  # has no file: its page is made from the commands
TOPICS = (
    "spec",
    "rules",
    "data",
    "models",
    "results",
    "fit",
    "transfer",
    "check",
    "clusters",
    "report",
    "method",
    "python",
    COMMANDS,
)
WIDEST = 100  # columns; longer lines of prose are hard to read


def docs(
    ctx: typer.Context,
    topic: Annotated[
        str | None,
        typer.Argument(help="What to read about. Default: list the topics.", autocompletion=topics),
    ] = None,
) -> None:
    """Read the documentation, offline.

    On a terminal the page is laid out; when piped it is plain Markdown.
    """
    from mutransfer_cli.strict import nearest

    if topic is None:
        width = max(map(len, TOPICS))
        for name in TOPICS:
            typer.echo(f"{name:{width}}  {subject(page(name, ctx))}")
        return
    if topic not in TOPICS:
        refuse_file(topic, "docs")
        raise InputError(f"{topic}: no such topic{nearest(topic, TOPICS)}")
    show(page(topic, ctx))


def page(topic: str, ctx: typer.Context) -> str:
    """The Markdown of a topic."""
    if topic == COMMANDS:
        return command_options(ctx.find_root())
    return (FOLDER / f"{topic}.md").read_text(encoding="utf-8")


def subject(markdown: str) -> str:
    """The title of a page without its topic: «# Fit: from losses» is «from losses»."""
    return markdown.partition("\n")[0].partition(": ")[2]


def show(markdown: str) -> None:
    """Print a page: laid out on a terminal, otherwise as it is."""
    if not sys.stdout.isatty():
        typer.echo(markdown, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(markdown), width=min(console.width, WIDEST))


def command_options(root: Any) -> str:
    """The page `commands`: every argument and option, read from the commands themselves.

    Args:
        root: context of the whole command line; the classes of typer behind it are private.
    """
    lines = ["# Commands: every command with its arguments and options", "", root.command.epilog]
    for name in root.command.list_commands(root):
        command = root.command.get_command(root, name)
        own = type(root)(command, info_name=name, parent=root)
        paragraphs = (" ".join(part.split()) for part in command.help.split("\n\n"))
        lines += ["", f"## mutransfer {name}", "", "\n\n".join(paragraphs), ""]
        records = (parameter.get_help_record(own) for parameter in command.params)
        # no table: on a narrow terminal its columns would cut long words
        lines += [f"- `{names}`: {meaning}" for names, meaning in filter(None, records)]
    return "\n".join(lines) + "\n"
