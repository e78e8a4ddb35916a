"""Users' own results: tables of runs as one table of canonical columns, and what was left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.columns import CANONICAL, SIZES, Names, resolve
from mutransfer_cli.spec.losses import refuse_upside_down, refuse_zero
from mutransfer_cli.spec.repeats import (
    cells_of,
    latest,
    refuse_contradictions,
    refuse_ties,
    without_exact_repeats,
)
from mutransfer_cli.spec.rounding import hyperparameters
from mutransfer_cli.spec.rows import Choices, read_part
from mutransfer_cli.spec.tables import Table, load_table
from mutransfer_cli.spec.unused import (
    notes_on,
    refuse_steps_and_settings,
    refuse_uneven,
    run_columns,
    tells_apart,
)
from mutransfer_cli.spec.values import settled
from mutransfer_cli.spec.where import quoted

WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")


@dataclass(frozen=True)
class Results:
    """A table of runs under canonical names."""

    rows: pd.DataFrame
    """One row per run: width (int64), lr (peak rate per step), loss (nats, or the user's unit; NaN
    where a run diverged), and if the tables have them seed (int64 when all are whole numbers,
    otherwise text), weight_decay, lr_mult.embedding, lr_mult.hidden, lr_mult.readout (floats),
    train_loss beside another loss, sizes such as depth and steps (text, None if not known), and the
    column of the groups."""
    metric: str
    """The user's column that the loss was read from."""
    group: str | None
    """The column of the groups; several are joined by commas."""
    sizes: tuple[str, ...]
    """The columns of `rows` that hold sizes."""
    left_out: dict[str, int]
    """Number of rows that are not in `rows`, by reason."""
    notes: tuple[str, ...]
    """What the user should know: which columns were taken, what was left out and not used."""


def read_results(sources: Sequence[Path | None], choices: Choices | None = None) -> Results:
    """Read one row per run from all sources, in order; None is stdin.

    Raises:
        InputError: as `results_of`, or a source that cannot be read.
    """
    chosen = choices or Choices()
    return results_of([load_table(source, chosen.path_pattern) for source in sources], chosen)


def results_of(tables: Sequence[Table], choices: Choices) -> Results:
    """The runs of some tables.

    Rows whose status says that they did not finish, without width or rate, or outside the condition
    are left out and counted. A diverged run stays, with loss NaN: its status is `diverged`, or its
    loss is empty, NaN or infinite. With seeds, a row repeated exactly counts once; without seeds,
    repeated rows are replicates.

    Raises:
        InputError: a missing or ambiguous column, a value that its column cannot hold, rows that
            contradict each other, rows of one run that differ in another column, sizes that differ
            within a width, a group without a finite loss.
    """
    for one in choices.by:
        if one in CANONICAL and one not in SIZES:
            raise InputError(
                f"by {one}: the fit uses this column itself; name another one", setting="by"
            )
    c = choices
    names = [resolve(t, c.columns, c.metric, c.maximize, c.optima, c.sizes) for t in tables]
    if not all("train_loss" in found.columns for found in names):
        for found in names:
            found.columns.pop("train_loss", None)
    for table, found in zip(tables[1:], names[1:], strict=True):
        _refuse_other_columns(tables[0].where, names[0].columns, table.where, found.columns)
    parts = [read_part(table, found, c) for table, found in zip(tables, names, strict=True)]
    keys = range(len(parts))
    frame = pd.concat([part.frame for part in parts], keys=keys)
    others = pd.concat([part.others for part in parts], keys=keys)
    sizes = tuple(dict.fromkeys(one for found in names for one in _sizes(found) if one in frame))
    frame = frame.assign(**{size: settled(frame[size]) for size in sizes})
    left_out = sum((part.left_out for part in parts), Counter[str]())
    notes = [*(note for table in tables for note in table.notes), *_chosen(names)]
    if not c.optima:
        recorded = pd.concat([part.recorded for part in parts], keys=keys)
        orders = {
            name: pd.concat([part.orders[name] for part in parts], keys=keys)
            for name in parts[0].orders
        }
        places = [f"{table.where} {table.unit}" for table in tables]
        loss = names[0].loss
        assert loss is not None
        if not loss.logarithm and loss.sign > 0:
            refuse_zero(frame["loss"], places, quoted(loss.column))
        frame, reduced = _one_row_each(frame, others, recorded, orders, c, sizes, places)
        left_out += reduced
        written = {size: column for found in names for size, column in found.columns.items()}
        notes += _refuse_mixtures(frame, others.loc[frame.index], c, sizes, written, places)
        frame, repeated = _once_each(frame, c.group, sizes, places)
        left_out += repeated
        refuse_upside_down(frame, loss.column, loss.sign < 0)
        if c.group is not None:
            _refuse_lossless_groups(frame, c.group)
    if "seed" in frame and frame["seed"].map(WHOLE.fullmatch).notna().all():
        frame = frame.assign(seed=frame["seed"].astype("int64"))
    notes += _counted(left_out)
    metric = names[0].columns.get("loss", "optima")
    rows = frame.reset_index(drop=True)
    return Results(rows, metric, c.group, sizes, dict(left_out), tuple(notes))


def _sizes(names: Names) -> list[str]:
    return [*(name for name in names.columns if name in SIZES), *names.sizes]


def _chosen(names: Sequence[Names]) -> list[str]:
    """Say which columns were recognised, and how the loss was."""
    said = [found.loss.said for found in names if found.loss and found.loss.said]
    pairs = [f"{name}={column}" for found in names for name, column in found.found.items()]
    notes = [f"columns: {', '.join(dict.fromkeys(pairs))}"] if pairs else []
    return [*notes, *dict.fromkeys(said)]


def _counted(left_out: Mapping[str, int]) -> list[str]:
    if not left_out:
        return []
    rows = sum(left_out.values())
    why = ", ".join(f"{times} {reason}" for reason, times in left_out.items())
    more = ""
    if left_out.get("repeated exactly"):
        more = "; independent runs differ, so look whether rows were pasted twice"
    return [f"{rows} row{'s' if rows > 1 else ''} left out: {why}{more}"]


def _refuse_other_columns(
    first: str, there: Mapping[str, str], where: str, here: Mapping[str, str]
) -> None:
    for name in CANONICAL:
        if name in SIZES or name == "status":
            continue
        old, new = there.get(name), here.get(name)
        if old is None and new is not None:
            first, where, old, new = where, first, new, old
        if new is None and old is not None:
            raise InputError(
                f"{where}: has no column {old!r}, which {first} has; give all sources the same "
                "columns, or read them separately"
            )
        if old != new:
            raise InputError(
                f"{where}: {name} would be {new!r}, but {old!r} in {first}; name the column to "
                f"take by {name}=COLUMN",
                remedy="columns",
            )


def _one_row_each(
    frame: pd.DataFrame,
    others: pd.DataFrame,
    recorded: pd.Series[bool],
    orders: Mapping[str, pd.Series[float]],
    choices: Choices,
    sizes: Sequence[str],
    places: Sequence[str],
) -> tuple[pd.DataFrame, Counter[str]]:
    """The last row of each run's log, and of several attempts at a run the last one."""
    left_out: Counter[str] = Counter()
    key = _key(frame, choices.group)
    if choices.last is not None:
        run = cells_of(frame, key)
        for column in run_columns(others):
            names = others[column].astype(str)
            run = pd.DataFrame({"run": run, "name": names}).groupby(["run", "name"]).ngroup()
        last = latest(run, orders[choices.last], recorded)
        left_out[f"before the last {choices.last}"] += int((~last).sum())
        frame = frame[last]
    if choices.keep is not None:
        run = cells_of(frame, [*key, *sizes])
        order = orders[choices.keep].loc[frame.index]
        last = latest(run, order, pd.Series(True, index=frame.index))
        left_out[f"before the last {choices.keep}"] += int((~last).sum())
        frame = frame[last]
        refuse_ties(frame, [*key, *sizes], choices.keep, places)
    return frame, +left_out


def _key(frame: pd.DataFrame, group: str | None) -> list[str]:
    """The columns that tell runs apart."""
    seed = ["seed"] if "seed" in frame else []
    return ["width", *hyperparameters(frame), *seed, *([] if group is None else [group])]


def _refuse_mixtures(
    frame: pd.DataFrame,
    others: pd.DataFrame,
    choices: Choices,
    sizes: Sequence[str],
    written: Mapping[str, str],
    places: Sequence[str],
) -> list[str]:
    """Refuse runs that do not belong to one sweep, and name the columns that were not used."""
    group = choices.group
    cell = ["width"] if group is None else ["width", group]
    free = {size: written.get(size, size) for size in sizes}
    free = {size: column for size, column in free.items() if not {size, column} & set(choices.by)}
    _refuse_mixed_sizes(frame, cell, free)
    telling = tells_apart(others, frame)
    refuse_steps_and_settings(frame, telling, _key(frame, group), places)
    refuse_uneven(frame, telling, cell)
    return notes_on(frame, telling, cell)


def _refuse_mixed_sizes(frame: pd.DataFrame, cell: list[str], sizes: Mapping[str, str]) -> None:
    """Refuse runs of one width that differ in depth, steps or another size.

    Args:
        sizes: the user's column by size.
    """
    ran = frame[frame["loss"].notna()]
    for size, column in sizes.items():
        values = ran.dropna(subset=[size]).groupby(cell)[size].unique()
        mixed = values[values.map(len) > 1]
        if len(mixed):
            width = mixed.index[0][0] if len(cell) > 1 else mixed.index[0]
            held = sorted(mixed.iloc[0])
            raise InputError(
                f"{column} differs at width {width} ({' and '.join(held[:3])}): runs of different "
                f"{size} do not belong to one sweep; fit them grouped by {column}, or give the "
                "runs of one",
                remedy=(f"by {column}", f'where "{quoted(column)}={held[0]}"'),
            )


def _once_each(
    frame: pd.DataFrame, group: str | None, sizes: Sequence[str], places: Sequence[str]
) -> tuple[pd.DataFrame, Counter[str]]:
    """Keep each run with a seed once; a run with two losses is refused."""
    if "seed" not in frame:
        return frame, Counter()
    key = [*_key(frame, group), *(size for size in sizes if size != group)]
    once = without_exact_repeats(frame, key)
    refuse_contradictions(once, key, places)
    return once, +Counter({"repeated exactly": len(frame) - len(once)})


def _refuse_lossless_groups(frame: pd.DataFrame, group: str) -> None:
    finite = frame["loss"].notna().groupby(frame[group], sort=False).any()
    if not finite.all():
        name = finite.index[~finite.to_numpy()].tolist()[0]
        raise InputError(
            f"by {group}: no run of {name!r} has a finite loss; remove that group or add runs to "
            "it",
            setting="by",
        )
