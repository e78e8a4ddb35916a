"""A first protocol for a table of runs: what the table says, and what its owner has to state."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.spec.columns import Names, parts, power_of, resolve
from mutransfer_cli.spec.results import results_of
from mutransfer_cli.spec.rows import Choices
from mutransfer_cli.spec.tables import Table, load_table
from mutransfer_cli.spec.template import render
from mutransfer_cli.spec.values import plain

# names that are not certain enough to be taken by the readers, by what they may mean
LIKELY = {
    "width": re.compile(r"(^|_)(dim|width|hidden|embd|emb|channels|features|model_size)(_|$)"),
    "lr": re.compile(r"(^|_)(lr|learning_rate|eta|step_size)(_|$)|lr$"),
}
OPTIMIZER = re.compile(r"(^|_)(optim|optimizer|opt)$")
SEED = re.compile(r".*\bcolumns seed=(\S+)")  # the remedy for runs that only a column tells apart
SHOWN = 12  # column names in an error


@dataclass(frozen=True)
class ProtocolStarter:
    """A first protocol.

    Attributes:
        text: YAML with comments.
        command: fits the table under it.
        recognised: what the table says, in sentences.
    """

    text: str
    command: str
    recognised: tuple[str, ...]


def protocol_starter(source: Path, name: Path) -> ProtocolStarter:
    """A protocol that `fit-exponents` accepts for the table; values that nobody stated say CHECK.

    Args:
        source: the table.
        name: the file that the protocol is for.

    Raises:
        InputError: it cannot be read, or no column can be the width or the learning rate.
    """
    table = load_table(source)
    guessed = _guessed(table)
    refused = _refusal(table, guessed)
    seed = SEED.match(" ".join(_remedies(refused)))
    if seed is not None:
        guessed["seed"] = seed[1]
        refused = _refusal(table, guessed)
    names = resolve(table, guessed, metric=None, maximize=False, optima=False)
    given = "".join(f"{key}={column}," for key, column in guessed.items()).removesuffix(",")
    columns = f" --columns {shlex.quote(given)}" if given else ""
    command = (
        f"mutransfer fit-exponents {shlex.quote(str(source))}{columns} "
        f"--protocol {shlex.quote(str(name))}"
    )
    read = ", ".join(f"{key} from {column!r}" for key, column in names.columns.items())
    recognised = [f"{source}: {len(table.cells)} rows; {read}"]
    recognised += [f"CHECK: {key} is guessed to be {column!r}" for key, column in guessed.items()]
    if refused is not None:
        options = " or ".join(f"--{remedy}" for remedy in _remedies(refused))
        recognised.append(f"CHECK: {refused}{f'; add {options}' if options else ''}")
    widths = [int(width) for width in _values(table, names, "width")]
    text = render(
        "protocol.yaml.j2",
        table=source,
        recognised=recognised,
        command=command,
        widths=widths,
        optimizer=_optimizer(table),
        decay=_values(table, names, "weight_decay"),
        stated={size: _one(table, names, size) for size in ("batch", "steps", "context")},
        model=_model(table, names),
    )
    return ProtocolStarter(text, command, tuple(recognised))


def _guessed(table: Table) -> dict[str, str]:
    """The columns that are named on the command line, because their names alone do not tell."""
    there = [str(column) for column in table.cells.columns]
    try:
        resolve(table, {}, metric=None, maximize=False, optima=False)
    except InputError as error:
        found = {}
        for name, likely in LIKELY.items():
            some = [one for one in there if likely.search(parts(one)[-1])]
            found[name] = next((one for one in some if _can_be(table, one, name)), "")
        missing = [name for name, column in found.items() if not column]
        if not missing:
            return found
        shown = ", ".join(there[:SHOWN]) + (", ..." if len(there) > SHOWN else "")
        raise InputError(
            f"{error}; no column looks like {' or '.join(missing)} (there: {shown})"
        ) from error
    return {}


def _can_be(table: Table, column: str, name: str) -> bool:
    """Whether a column holds several positive numbers, whole ones for widths."""
    values = plain(table.cells[column])
    try:
        numbers = {float(value) for value in values.dropna()}
    except (TypeError, ValueError):
        return False
    whole = all(number == int(number) for number in numbers) if name == "width" else True
    return len(numbers) > 1 and min(numbers) > 0 and whole


def _refusal(table: Table, columns: Mapping[str, str]) -> InputError | None:
    """Why the fit does not take the table as it is."""
    try:
        results_of([table], Choices(columns=columns))
    except InputError as error:
        return error
    return None


def _remedies(error: InputError | None) -> tuple[str, ...]:
    """The options that settle an error."""
    if error is None or error.remedy is None:
        return ()
    return (error.remedy,) if isinstance(error.remedy, str) else error.remedy


def _values(table: Table, names: Names, name: str) -> list[float]:
    """The different values of a column that was recognised, ascending."""
    column = names.columns.get(name)
    if column is None:
        return []
    there = [str(one) for one in table.cells.columns]
    held, base, _ = power_of(column, there)
    if base is not None:
        return []
    return sorted({float(value) for value in plain(table.cells[held]).dropna() if value != ""})


def _one(table: Table, names: Names, name: str) -> int | None:
    """The value of a size that is the same in every row; None if it is not there, or differs."""
    found = _values(table, names, name)
    return int(found[0]) if len(found) == 1 and found[0] >= 1 else None


def _optimizer(table: Table) -> str | None:
    """The optimizer that stands in the table, if it is one and the same that is known here."""
    for column in map(str, table.cells.columns):
        if OPTIMIZER.search(parts(column)[-1]):
            values = {str(value).lower() for value in plain(table.cells[column]).dropna()}
            if len(values) == 1 and values <= set(OPTIMIZERS):
                return values.pop()
    return None


def _model(table: Table, names: Names) -> dict[str, Any]:
    """The sizes of the model that are the same at every width."""
    sizes = {name: _one(table, names, name) for name in ("depth", "head_size", "vocab")}
    return {name: value for name, value in sizes.items() if value is not None}
