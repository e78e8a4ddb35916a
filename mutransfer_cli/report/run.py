"""The runs that a page shows: their fit, and for a sweep its records and measurements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from mutransfer_cli.check.measure import CHECK, Check, read_check
from mutransfer_cli.fit.breakers import warnings_of
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.fit.table import cell_means, profile
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import AXES, AxisName
from mutransfer_cli.spec.kinds import TRIALS
from mutransfer_cli.spec.measurements import (
    CURVES,
    DIAGNOSTICS,
    CurveRecord,
    DiagnosticsRecord,
    read_curves,
    read_diagnostics,
)
from mutransfer_cli.spec.records import Records, TrialRecord
from mutransfer_cli.spec.sources import load_records
from mutransfer_cli.spec.yaml_io import load_yaml, read_text
from mutransfer_cli.strict import validated

RECIPES = ("recipe.yaml", "recipe-*.yaml")  # in the folder of a sweep
COLUMNS = ("width", "seed", *AXES, "train_loss", "eval_loss")  # of a table, as a page lists them


class Target(NamedTuple):
    """The recipe in the folder of a sweep, by its file's name, and the width it is for."""

    name: str
    width: int


@dataclass(frozen=True)
class Run:
    """Runs with their fit; curves, diagnostics and check are empty if their files are missing.

    Attributes:
        records: the records of a sweep; None for a table of own results.
        document: the fit, as `fit-exponents` writes it.
        trials: the fitted table, one row per trial that ran; `eval_loss` is NaN where it diverged,
            and missing where the table holds best values alone.
        compared: trials with one set of hyperparameters, by which widths are compared.
        diagnostics: measurements of the compared trials.
        warnings: warnings about records, protocol and fit, each once.
        recipe: the recipe in the folder; of several that for the largest width.
    """

    name: str
    records: Records | None
    document: Exponents
    trials: pd.DataFrame
    curves: Sequence[CurveRecord]
    compared: Sequence[TrialRecord]
    diagnostics: Sequence[DiagnosticsRecord]
    warnings: Sequence[str]
    check: Check | None
    recipe: Target | None

    @property
    def has_losses(self) -> bool:
        return "eval_loss" in self.trials

    @property
    def unit(self) -> str:
        return self.document.loss_unit

    @property
    def loss_label(self) -> str:
        return f"{self.document.metric.replace('_', ' ')} ({self.unit})"

    @property
    def widths(self) -> list[int]:
        return sorted(int(width) for width in self.trials["width"].unique())

    def cells(self, axes: Sequence[AxisName]) -> pd.DataFrame:
        """Mean loss at each width and positive value of `axes`, the other axes at their best.

        Columns are width, the axes and eval_loss, which is inf where a seed diverged; the trials
        must have losses.
        """
        positive = self.trials[(self.trials[[*axes]] > 0).all(axis=1)]
        others = [name for name in AXES if name not in axes and name in positive]
        return cell_means(profile(positive, axes, others, "eval_loss"), axes, "eval_loss")

    def rows(self) -> list[dict[str, Any]]:
        """The trials as plain values by column; a loss that is not finite is None."""
        named = [column for column in COLUMNS if column in self.trials]
        plain = self.trials[named].astype(object)
        cells = plain.where(plain.notna(), None).itertuples(index=False, name=None)
        return [dict(zip(named, row, strict=True)) for row in cells]


def read_run(source: Path | None) -> Run:
    """Read the folder of a sweep, or its records alone, and fit them; None is stdin.

    Raises:
        InputError: a file cannot be read or holds something else.
    """
    notes: list[str] = []
    records = load_records([source], warn=notes.append)
    document, trials = exponents_of_records(records)
    compared = compared_trials(records)
    folder = _folder(source)
    ids = [trial.trial for trial in records.trials]
    alike = [trial.trial for trial in compared]
    name = "stdin" if source is None else (folder or source).resolve().name
    return Run(
        name=name,
        records=records,
        document=document,
        trials=trials,
        curves=read_curves(folder / CURVES, ids) if folder else (),
        compared=compared,
        diagnostics=read_diagnostics(folder / DIAGNOSTICS, alike) if folder else (),
        warnings=_warnings(document, trials, notes),
        check=read_check(folder / CHECK) if folder else None,
        recipe=_recipe(folder) if folder else None,
    )


def _recipe(folder: Path) -> Target | None:
    found = [
        Target(path.name, validated(Recipe, load_yaml(read_text(path), str(path)), str(path)).width)
        for pattern in RECIPES
        for path in sorted(folder.glob(pattern))
    ]
    return max(found, key=lambda target: target.width, default=None)


def _folder(source: Path | None) -> Path | None:
    """The folder of a sweep, whose records are the source; None for records alone."""
    if source is None or source.is_dir():
        return source
    return source.parent if source.name == TRIALS else None


def run_of_table(name: str, document: Exponents, rows: pd.DataFrame) -> Run:
    """A table of own results as a page shows it.

    Args:
        document: the fit, without groups.
        rows: the fitted rows, with their loss as eval_loss unless they are best values.
    """
    return Run(name, None, document, rows, (), (), (), _warnings(document, rows), None, None)


def _warnings(document: Exponents, trials: pd.DataFrame, notes: Sequence[str] = ()) -> list[str]:
    of_axes = [sentence for axis in document.axes.values() for sentence in axis.warnings.values()]
    return list(dict.fromkeys([*of_axes, *notes, *warnings_of(document, trials)]))


def compared_trials(records: Records) -> list[TrialRecord]:
    """The trials with the set of hyperparameters by which widths are compared.

    It is the set with the lowest mean eval loss among those that were run at all widths and
    diverged at none. Empty if there is no such set or only one width.
    """
    widths = {trial.width for trial in records.trials}
    sets: dict[tuple[str, ...], list[TrialRecord]] = defaultdict(list)
    for trial in records.trials:
        sets[tuple(f"{value:.9g}" for value in trial.axes.values())].append(trial)
    whole = [
        trials
        for trials in sets.values()
        if {trial.width for trial in trials} == widths
        and all(trial.eval_loss is not None for trial in trials)
    ]
    if not whole or len(widths) < 2:
        return []
    return min(whole, key=lambda trials: fmean(trial.eval_loss or 0.0 for trial in trials))
