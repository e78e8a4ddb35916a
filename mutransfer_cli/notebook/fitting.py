"""`fit_exponents`: runs of any source in, a fit out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.fit.from_tables import exponents_of_table
from mutransfer_cli.fit.options import TableOptions, refuse_octaves
from mutransfer_cli.notebook.fits import Fit
from mutransfer_cli.notebook.given import found, path_of
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.kinds import refuse_other
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.results import results_of
from mutransfer_cli.spec.sources import holds_records, load_records
from mutransfer_cli.spec.tables import load_table
from mutransfer_cli.strict import nearest

RUNS = "a DataFrame, a table's path, a sweep's folder, or a list of one kind"
FRAME = "DataFrame"  # the name of a table without a file

Source: TypeAlias = pd.DataFrame | str | os.PathLike[str]


def fit_exponents(
    source: Source | Sequence[Source],
    *,
    columns: str | Mapping[str, str] | None = None,
    metric: str | None = None,
    maximize: bool = False,
    by: str | Sequence[str] = (),
    where: str | None = None,
    last: str | None = None,
    keep: str | None = None,
    size: str | Sequence[str] = (),
    protocol: str | os.PathLike[str] | None = None,
    decay_convention: DecayConvention | None = None,
    optima: bool = False,
    grid_spacing: float | None = None,
    scatter_below: float | None = None,
    resamples: int = 0,
    path_pattern: str | None = None,
) -> Fit:
    """Fit how the optimal learning rate and weight decay scale with width.

    The arguments are the options of `mutransfer fit-exponents`, with the same words and defaults;
    a DataFrame is read and checked as a table in a file is.

    Args:
        source: runs as a DataFrame (one row per run), as a file or folder, or as several of them.
        columns: the user's column by name, as {"width": "dim"} or "width=dim,lr=base_lr".
        metric: column of the loss; for records of a sweep eval_loss or train_loss.
        maximize: higher values of the metric are better.
        by: columns of which each combination is fitted on its own.
        where: condition on the rows to take, such as "optimizer=muonh and depth=4".
        last: column of steps, if the table is a log.
        keep: last:COLUMN, if a run has several rows.
        size: further columns that hold a size, as depth does.
        protocol: file that says how the runs of a table were made.
        decay_convention: convention of a table's weight decays, if they vary.
        optima: the table holds best values by width and no losses.
        grid_spacing: spacing of the grids behind best values, octaves.
        scatter_below: assume that optima scatter about the line by less than this, octaves.
        resamples: draws of the losses for the interval of form_spread.
        path_pattern: for folders, where the runs are, such as "width{width}_lr{lr}/log.csv".

    Raises:
        InputError: the source cannot be read, or an argument cannot be used with it.
    """
    refuse_octaves(grid_spacing=grid_spacing, scatter_below=scatter_below)
    if not isinstance(resamples, int) or resamples < 0:
        raise InputError(f"resamples: expected a whole number from 0, found {found(resamples)}")
    if not isinstance(columns, str | Mapping | None):
        raise InputError(f"columns: expected names with columns, found {found(columns)}")
    table = TableOptions(
        columns,
        _text("metric", metric),
        maximize,
        _several("by", by),
        _text("where", where),
        _text("last", last),
        _text("keep", keep),
        _several("size", size),
        None if protocol is None else path_of(protocol, "the path of a protocol"),
        _convention(decay_convention),
        optima,
        grid_spacing,
        _text("path_pattern", path_pattern),
    )
    sources = _sources(source)
    paths = [one for one in sources if isinstance(one, Path)]
    records = [holds_records(path) for path in paths]
    if any(records) and (len(paths) < len(sources) or not all(records)):
        raise InputError("records of a sweep and tables of own results: give one or the other")
    notes: list[str] = []
    name = _name(sources)
    if any(records):
        read = load_records(paths, warn=notes.append)
        fitted = exponents_of_records(read, table.metric_of_records(), scatter_below, resamples)
        return Fit(name, *fitted, tuple(notes))
    table.refuse_contradictions(resamples)
    choices = table.choices()
    results = results_of([_table(one, path_pattern) for one in sources], choices)
    fitted = exponents_of_table(results, table, scatter_below, resamples, notes.append)
    return Fit(name, *fitted, tuple(notes), choices.group)


def _text(name: str, given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise InputError(f"{name}: expected text, found {found(given)}")


def _several(name: str, given: Any) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else given
    if isinstance(listed, list | tuple) and all(isinstance(one, str) for one in listed):
        return tuple(listed)
    raise InputError(f"{name}: expected the name of a column, or several, found {found(given)}")


def _convention(given: Any) -> DecayConvention | None:
    if given is None or given in get_args(DecayConvention):
        return cast(DecayConvention | None, given)
    hint = nearest(str(given), get_args(DecayConvention))
    raise InputError(f"decay_convention {found(given)}: unknown{hint}")


def _sources(given: Any) -> list[pd.DataFrame | Path]:
    """The sources given, at least one."""
    listed = list(given) if isinstance(given, list | tuple) else [given]
    if not listed:
        raise InputError(f"expected {RUNS}, found an empty list")
    return [one if isinstance(one, pd.DataFrame) else path_of(one, RUNS) for one in listed]


def _name(sources: Sequence[pd.DataFrame | Path]) -> str:
    first = sources[0]
    return first.resolve().name if isinstance(first, Path) else FRAME


def _table(source: pd.DataFrame | Path, pattern: str | None) -> Table:
    """The source as a table as written."""
    if isinstance(source, Path):
        refuse_other(source, RUNS, "table", "folder", "binary")
        return load_table(source, pattern)
    if source.empty:
        raise InputError(f"{FRAME}: has no rows; give one row per run")
    if isinstance(source.columns, pd.MultiIndex):
        raise InputError(f"{FRAME}: has columns on several levels; flatten them")
    cells = source.reset_index() if any(one is not None for one in source.index.names) else source
    cells = cells.set_axis(range(len(cells)), axis=0)  # places as `iloc` counts them
    return Table(FRAME, "row", cells.set_axis([str(one) for one in cells.columns], axis=1))
