"""Widths as people write them, and usage errors in words."""

from __future__ import annotations

import difflib
import re
from typing import Any

import typer

from mutransfer_cli.errors import InputError
from mutransfer_cli.words import listed

MAX_WIDTH = 2**53  # as in the files; larger whole numbers are not exact as floats
WIDTHS = "expected a whole number from 1 to 2^53, such as 4096, 12k or 2^12"
REFUSED = re.compile(r"'?(?P<value>.*?)'? is not (?:a valid|one of|in the range)", re.DOTALL)
EXTRA = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((?P<values>.*)\)", re.DOTALL)


def width_of(text: str) -> int:
    """A width as an option takes it.

    Raises:
        typer.BadParameter: `read_width` cannot read it.
    """
    width = read_width(text)
    if width is None:
        raise typer.BadParameter(f"{text}: {WIDTHS}")
    return width


def read_width(text: str) -> int | None:
    """Read 4096, 12k, 1_024, 12,000, 2^12 or 4096.0 as a width; None for anything else."""
    from mutransfer_cli.strict import parse_count

    try:
        width = parse_count(text)
    except (ValueError, OverflowError):
        return None
    return int(width) if 1 <= width <= MAX_WIDTH else None


def sentence_of(error: typer.TyperException) -> str:
    """A usage error as one sentence: what, where, and what to do."""
    context: Any = getattr(error, "ctx", None)
    here = f"`{_name(context)} -h`"
    unknown = getattr(error, "option_name", None)
    if unknown is not None and hasattr(error, "possibilities"):
        options = [name for one in context.command.params for name in one.opts if not one.hidden]
        close = difflib.get_close_matches(unknown, options, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{unknown}: no such option; {hint}{here} lists them"
    if unknown is not None:
        return f"{unknown}: its value is missing; {here} shows what it takes"
    parameter: Any = getattr(error, "param", None)
    if parameter is not None:
        return _of_parameter(parameter, error.message, here)
    extra = EXTRA.match(error.message)
    if extra:
        return _of_wrong_file(extra["values"], context) or (
            f"{extra['values']}: one argument too many; {here} shows what the command takes"
        )
    return f"{error.format_message().rstrip('.')}; {here} shows what the command takes"


def _of_wrong_file(value: str, context: Any) -> str:
    """The sentence about a file given to a command without arguments; empty for other words."""
    from mutransfer_cli.cli.next_command import PLACES, refuse_file

    if context.command.name not in PLACES:
        return ""
    try:
        refuse_file(value, context.command.name)
    except InputError as refused:
        return str(refused)
    return ""


def _name(context: Any) -> str:
    """The command as it is typed, whatever started Python; without a context it is not known."""
    if context is None:
        return "mutransfer COMMAND"
    return "mutransfer" if context.parent is None else f"mutransfer {context.info_name}"


def _of_parameter(parameter: Any, message: str, here: str) -> str:
    """The sentence about one option or argument: its value is missing or refused."""
    is_option = parameter.param_type_name == "option"
    name = parameter.opts[-1 if is_option else 0]
    if not message:
        meaning = (parameter.help or "").partition(". ")[0].rstrip(".")
        what = f" ({meaning[:1].lower()}{meaning[1:]})" if meaning else ""
        return f"{name if is_option else name.upper()} is missing{what}; {here} shows an overview"
    refused = REFUSED.match(message)
    if refused is None:
        return f"{name} {message}"
    return f"{name} {refused['value']}: expected {_expected(parameter.type, refused['value'])}"


def _expected(kind: Any, found: str) -> str:
    """The values that a type of the command line takes, in words."""
    choices = [str(choice) for choice in getattr(kind, "choices", ())]
    if choices:
        close = difflib.get_close_matches(found.lower(), choices, n=1, cutoff=0.6)
        return listed(choices, "or") + (f"; did you mean {close[0]}?" if close else "")
    number = "a whole number" if "int" in str(kind.name) else "a number"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is None and high is None:
        return number
    if high is None:
        return f"{number}, {low} or more"
    return f"{number} from {low} to {high}"
