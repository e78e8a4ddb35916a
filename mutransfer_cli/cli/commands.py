"""The subcommands: each is imported when it is run, and an unambiguous beginning finds it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from mutransfer_cli.cli.talk import be_quiet, be_verbose
from mutransfer_cli.errors import InputError

# what each does, in a line of the help; `fit-exponents` is `fit_exponents` in cli/fit_exponents.py
SUMMARIES: Mapping[str, str] = {
    "init": "Write a first spec, sized to two minutes on this machine.",
    "recipes": "List the shipped specs, or print one.",
    "sweep-proxy": "Train the proxies of a sweep, many at a time.",
    "fit-exponents": "Fit how the best learning rate scales with width.",
    "transfer": "Write the recipe for a target width.",
    "check": "Check whether hyperparameters transfer.",
    "report": "Write a sweep, its fit and its check as one HTML page.",
    "rules": "Show how everything scales with width under a rule.",
    "schema": "Print the JSON Schema of a file.",
    "docs": "Read the documentation, offline.",
    "doctor": "Examine this machine, for a bug report.",
}
LIST = "`mutransfer --help` lists the commands"


class Commands(TyperGroup):
    """A group whose help needs none of its commands, because importing them all takes time."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in SUMMARIES:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, [full_name(args[0]), *args[1:]])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def full_name(typed: str) -> str:
    """The command that has this name, or the only one that begins so; `fit` is fit-exponents.

    Raises:
        InputError: there is none, or several.
    """
    found = [name for name in SUMMARIES if name.startswith(typed)]
    if typed in SUMMARIES or len(found) == 1:
        return typed if typed in SUMMARIES else found[0]
    if found:
        raise InputError(f"{typed}: could be {' or '.join(found)}; write more of it")
    from mutransfer_cli.cli.next_command import refuse_file

    refuse_file(typed, "mutransfer")
    words = {part: name for name in SUMMARIES for part in (*name.split("-"), name)}
    close = difflib.get_close_matches(typed, words, n=1, cutoff=0.6)
    hint = f"did you mean {words[close[0]]}? " if close else ""
    raise InputError(f"{typed}: no such command; {hint}{LIST}")


def _load(name: str) -> Any:
    """The command as typer makes it, with the options that stand before a command too."""
    function = name.replace("-", "_")
    module = importlib.import_module(f"mutransfer_cli.cli.{function}")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(getattr(module, function))
    command = typer.main.get_command(alone)
    command.params += [
        _flag(["-q", "--quiet"], be_quiet),
        _flag(["-v", "--verbose"], be_verbose),
    ]
    return command


def _flag(names: list[str], act: Any) -> TyperOption:
    def given(ctx: Any, parameter: Any, value: bool) -> None:
        if value:
            act()

    return TyperOption(
        param_decls=names,
        is_flag=True,
        default=False,
        expose_value=False,
        callback=given,
        is_eager=True,
        hidden=True,
    )
