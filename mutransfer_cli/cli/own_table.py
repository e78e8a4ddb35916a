"""Tables of own results in other commands: the options of `fit-exponents` for them, and the fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer_cli.cli.fit_exponents import fit_exponents, fit_table
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.options import TableOptions

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.fit.exponents import Exponents

SHARED = tuple(field.name for field in fields(TableOptions))


def with_table_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `fit-exponents` for tables in place of its argument `table`.

    Each option keeps its name, help and default, and the command gets them as `TableOptions`.
    """
    theirs = inspect.signature(fit_exponents, eval_str=True).parameters
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    place = next(at for at, one in enumerate(parameters) if one.name == "table")
    parameters[place : place + 1] = [theirs[name] for name in SHARED]

    def with_options(**given: Any) -> None:
        table = TableOptions(**{name: _taken(given, name) for name in SHARED})
        command(**given, table=table)

    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def _taken(given: dict[str, Any], name: str) -> Any:
    """Take an option out of those given; one that may be repeated as a tuple."""
    value, kind = given.pop(name), TableOptions.__annotations__[name]
    return tuple(value or ()) if str(kind).startswith("tuple") else value


def fit_own(
    source: Path | None, table: TableOptions, group: str | None
) -> tuple[Exponents, pd.DataFrame]:
    """Fit a table (None is stdin), and one of its groups where it is grouped.

    Returns:
        The exponents, and the rows with their loss as eval_loss; rows of best values have none.

    Raises:
        InputError: as `fit-exponents` does, or no group is chosen.
    """
    from mutransfer_cli.recipe.build import of_group

    if group is not None and not table.by:
        raise InputError("--group: is for tables that are fitted with --by; leave it out")
    document, rows = fit_table([source], table, None, 0)
    if not table.by:
        return document, rows
    rows = rows[rows[table.choices().group].astype(str) == group]
    return of_group(document, group), rows
