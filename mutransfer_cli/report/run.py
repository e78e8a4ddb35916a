"""The sweep that a page shows: its records, its fit and the measurements beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd

from mutransfer_cli.check.measure import CHECK, Check, read_check
from mutransfer_cli.fit.breakers import warnings_of
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.fit.table import cell_means, profile
from mutransfer_cli.rules.plan import AXES, AxisName
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


@dataclass(frozen=True)
class Run:
    """A sweep with its fit; curves, diagnostics and check are empty if their files are missing.

    Attributes:
        document: the fit, as `fit-exponents` writes it.
        trials: the fitted table, one row per trial that ran; `eval_loss` is NaN where it diverged.
        compared: trials with one set of hyperparameters, by which widths are compared.
        diagnostics: measurements of the compared trials.
        warnings: warnings about records, protocol and fit, each once.
    """

    name: str
    records: Records
    document: Exponents
    trials: pd.DataFrame
    curves: Sequence[CurveRecord]
    compared: Sequence[TrialRecord]
    diagnostics: Sequence[DiagnosticsRecord]
    warnings: Sequence[str]
    check: Check | None

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

        Columns are width, the axes and eval_loss, which is inf where a seed diverged.
        """
        positive = self.trials[(self.trials[[*axes]] > 0).all(axis=1)]
        others = [name for name in AXES if name not in axes]
        return cell_means(profile(positive, axes, others, "eval_loss"), axes, "eval_loss")


def read_run(folder: Path) -> Run:
    """Read the folder of a sweep and fit its records.

    Raises:
        InputError: a file cannot be read or holds something else.
    """
    notes: list[str] = []
    records = load_records([folder], warn=notes.append)
    document, trials = exponents_of_records(records)
    compared = compared_trials(records)
    of_axes = [sentence for axis in document.axes.values() for sentence in axis.warnings.values()]
    return Run(
        name=folder.resolve().name,
        records=records,
        document=document,
        trials=trials,
        curves=read_curves(folder / CURVES, [trial.trial for trial in records.trials]),
        compared=compared,
        diagnostics=read_diagnostics(folder / DIAGNOSTICS, [trial.trial for trial in compared]),
        warnings=list(dict.fromkeys([*of_axes, *notes, *warnings_of(document, trials)])),
        check=read_check(folder / CHECK),
    )


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
