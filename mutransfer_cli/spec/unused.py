"""Columns that the fit does not use but that may tell its runs apart: steps, sizes, settings."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.columns import parts
from mutransfer_cli.spec.losses import HIGHER, LOWER, plain_name
from mutransfer_cli.spec.repeats import cells_of
from mutransfer_cli.spec.rounding import hyperparameters
from mutransfer_cli.spec.values import as_numbers, plain, settled, words
from mutransfer_cli.spec.where import quoted

PROGRESS = words(
    "step global_step epoch iteration iter training_iteration train_iteration current_step "
    "training_step train_step current_iter batch_idx samples_seen tokens_seen n_iter"
)
RUNS = words("run run_id run_name runid name trial trial_id trial_name id")
# what differs between runs without being a setting of them
ABOUT = re.compile(
    r"(?:^|_)(?:time|runtime|walltime|duration|timestamp|created|updated|modified|started|ended|"
    r"date|datetime|heartbeat|hours|minutes|seconds|host|hostname|node|node_ip|pid|user|notes|"
    r"description|created_at|sweep|uri|url|path|logdir|dir|commit|sha)(?:_|$)|seed"
)
MEASURED = re.compile(
    r"(?:^|_)(?:grad_norm|mfu|flops|throughput|per_sec|per_second|memory|mem|energy|"
    r"tokens_per\w*|samples_per\w*|steps_per\w*|it_per\w*)(?:_|$)"
)
RECUR = 0.5  # share of rows whose value occurs in several cells, from which a column is a setting
FEW = 3  # values of a number at a width up to which it is a setting
MANY = 20  # different fractions from which numbers are measured


def is_progress(column: str) -> bool:
    """Whether a name is that of a step or an epoch of a log."""
    return parts(column)[-1] in PROGRESS


def run_columns(others: pd.DataFrame) -> list[str]:
    """Columns that name runs, where a run has several rows."""
    named = [one for one in others.columns if parts(one)[-1] in RUNS]
    return [one for one in named if 2 * others[one].nunique() <= len(others)]


def tells_apart(others: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that may be settings or steps, as texts that are equal where the values are.

    Left out are constant columns, names, times, machines, and what was measured: columns whose
    values hardly ever occur in two cells.

    Args:
        others: the user's columns that the fit does not use, in the rows of `frame`.
        frame: width, hyperparameters and losses.
    """
    cell = cells_of(frame, ["width", *hyperparameters(frame)]).to_numpy()
    found: dict[str, pd.Series[str]] = {}
    for column in others.columns:
        raw = others[column]
        name = plain_name(column)
        if ABOUT.search(name) or MEASURED.search(name):
            continue
        if not is_progress(column) and raw.astype(str).nunique() > len(raw) / 2 and len(raw) > 8:
            continue
        texts = (settled if is_progress(column) else plain)(raw).fillna("").astype(str)
        if texts.nunique() < 2:
            continue
        if is_progress(column) or _recurs(texts, cell, name):
            found[column] = texts
    return pd.DataFrame(found, index=frame.index)


def _recurs(texts: pd.Series[str], cell: np.ndarray, name: str) -> bool:
    """Whether the values of a column occur in several cells, as settings do."""
    held = as_numbers(texts)
    numeric = bool(held.notna().sum() > 0.5 * (texts != "").sum())
    if numeric and (LOWER.search(name) or HIGHER.search(name)):
        return False
    fractions = numeric and bool((held.dropna() % 1 != 0).any())
    if fractions and texts.nunique() > max(MANY, len(texts) / 5):
        return False
    pairs = pd.DataFrame({"text": texts.to_numpy(), "cell": cell}).drop_duplicates()
    often = pairs.groupby("text")["cell"].size()
    several = texts.map(often > 1)
    return bool(several.mean() >= RECUR)


def _finite(frame: pd.DataFrame, telling: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both without the runs that diverged."""
    finite = frame["loss"].notna().to_numpy()
    return frame[finite], telling[finite]


def refuse_steps_and_settings(
    frame: pd.DataFrame, telling: pd.DataFrame, run: Sequence[str], places: Sequence[str]
) -> None:
    """Refuse rows of one run that differ in a column that the fit does not use.

    Args:
        frame: indexed by (source, line).
        telling: what `tells_apart` found, in the rows of `frame`.
        run: columns that tell runs apart as far as the fit knows.
        places: what comes before the line in a message, per source.

    Raises:
        InputError: such rows, with what settles it.
    """
    if telling.empty or not len(telling.columns):
        return
    rows, texts = _finite(frame, telling)
    number = cells_of(rows, run) if len(rows) else pd.Series(dtype=int)
    differ = [c for c in map(str, texts.columns) if (texts[c].groupby(number).nunique() > 1).any()]
    if not differ:
        return
    steps = [column for column in differ if is_progress(column)]
    first = (steps or differ)[0]
    varied = texts[first].groupby(number).transform("nunique") > 1
    group = (number == number[varied].iloc[0]).to_numpy()
    some = rows[group].index[~texts[first][group].duplicated().to_numpy()][:2]
    both = " and ".join(f"{places[source]} {line}" for source, line in some)
    what = ", ".join(f"{name} {rows.loc[some[0], name]}" for name in run)
    values = [" and ".join(texts.loc[one, c] or "nothing" for one in some) for c in differ[:4]]
    named = ", ".join(f"{c} {pair}" for c, pair in zip(differ[:4], values, strict=True))
    if steps:
        best = max(steps, key=lambda column: texts[column].nunique())
        raise InputError(
            f"{both}: several rows of {what}, with {named}: these are the steps of a log; take the "
            "last of each run",
            remedy=f"last {best}",
        )
    value = texts.loc[some[0], first]
    raise InputError(
        f"{both}: several rows of {what}, with {named}: fit each value on its own, or take the "
        f"rows of one; if {first} only tells repetitions apart, it is a seed",
        remedy=(f"by {first}", f'where "{quoted(first)}={value}"', f"columns seed={first}"),
    )


def refuse_uneven(frame: pd.DataFrame, telling: pd.DataFrame, cell: Sequence[str]) -> None:
    """Refuse runs of one width that ended at different steps, or differ in a setting.

    Settings are words, or numbers of few values that follow neither the seed nor a rate.

    Args:
        cell: width, and the column of the groups if there is one.
    """
    rows, texts = _finite(frame, telling)
    for column in map(str, texts.columns):
        in_words = as_numbers(texts[column]).isna() & (texts[column] != "")
        held = texts[column].groupby([rows[name] for name in cell]).unique()
        setting = in_words.any() or held.map(len).max() <= FEW
        alike = _follows_seed(texts[column], rows) or _follows_a_rate(texts[column], rows)
        if not is_progress(column) and (not setting or alike):
            continue
        mixed = held[held.map(len) > 1]
        if not len(mixed):
            continue
        width = mixed.index[0][0] if len(cell) > 1 else mixed.index[0]
        values = [one or "nothing" for one in mixed.iloc[0]]
        if is_progress(column):
            values = sorted(values, key=lambda one: as_numbers(pd.Series([one])).iloc[0])
            most = f'where "{quoted(column)}={values[-1]}"'
            raise InputError(
                f"{column} differs at width {width} ({values[0]} and {values[-1]}): runs that "
                "ended early do not belong to one sweep with others; take those of one length",
                remedy=most,
            )
        raise InputError(
            f"{column} differs at width {width} ({' and '.join(values[:3])}): fit each value on "
            "its own, or take the rows of one",
            remedy=(f"by {column}", f'where "{quoted(column)}={values[0]}"'),
        )


def notes_on(frame: pd.DataFrame, telling: pd.DataFrame, cell: Sequence[str]) -> list[str]:
    """Name the columns that were not used and change within a width, or together with width."""
    rows, texts = _finite(frame, telling)
    within, along = list[str](), list[str]()
    by = [rows[name] for name in cell]
    for column in map(str, texts.columns):
        if (texts[column].groupby(by).nunique() > 1).any():
            if not _follows_a_rate(texts[column], rows):
                within.append(column)
        elif texts[column].nunique() > 1 and rows["width"].nunique() > 1:
            along.append(column)
    notes = []
    if within:
        notes.append(
            f"not used, but different within a width: {', '.join(within)}; if the loss depends on "
            "it, fit each value on its own or take the rows of one"
        )
    if along:
        notes.append(
            f"not used, but different from width to width: {', '.join(along)}; the exponent is "
            "that of all these together"
        )
    return notes


def _follows_seed(texts: pd.Series[str], rows: pd.DataFrame) -> bool:
    return "seed" in rows and bool((texts.groupby(rows["seed"]).nunique() <= 1).all())


def _follows_a_rate(texts: pd.Series[str], rows: pd.DataFrame) -> bool:
    """Whether a column of numbers is one-to-one with a rate at every width, as its logarithm is."""
    if as_numbers(texts).isna().any():
        return False
    for name in hyperparameters(rows):
        cells = cells_of(rows, ["width", name])
        once = (texts.groupby(cells).nunique() == 1).all()
        if once and (cells.groupby([rows["width"], texts]).nunique() == 1).all():
            return True
    return False
