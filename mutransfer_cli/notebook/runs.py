"""A sweep's records, read at any time."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mutransfer_cli.errors import InsufficientEvidence
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.fit.options import metric_of_records, refuse_octaves
from mutransfer_cli.notebook.fits import Fit
from mutransfer_cli.notebook.given import path_of
from mutransfer_cli.notebook.html import shown
from mutransfer_cli.spec.kinds import refuse_other
from mutransfer_cli.spec.records import FIELDS, Records
from mutransfer_cli.spec.sources import load_records
from mutransfer_cli.sweep.store import is_written

FOLDER = "the folder of a sweep, or its records"
TABLES = "; `fit_exponents` reads tables"


@dataclass(frozen=True, repr=False)
class Run:
    """The records of a sweep as they were when they were read; `read_run` makes it."""

    source: Path
    """The folder, or the file of the records."""
    records: Records
    """The header with the protocol, and the finished trials."""
    is_running: bool
    """Whether the sweep was in training when this was read."""

    @property
    def name(self) -> str:
        """The name of the folder or file."""
        return self.source.resolve().name

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per finished trial with the fields of its record; `mutransfer schema trial`
        describes them. Losses of diverged and failed trials are NaN."""
        rows = [trial.model_dump(by_alias=True, exclude={"kind"}) for trial in self.records.trials]
        names = [name for name in FIELDS if name != "kind"]
        frame = pd.DataFrame(rows, columns=names)
        return frame.astype({"train_loss": float, "eval_loss": float})

    def fit(
        self,
        metric: str = "eval_loss",
        *,
        scatter_below: float | None = None,
        resamples: int = 0,
    ) -> Fit:
        """Fit how the optimum moves with width, as `mutransfer fit-exponents` does.

        Args:
            metric: eval_loss or train_loss.
            scatter_below: assume that optima scatter about the line by less than this, octaves.
            resamples: draws of the losses for the interval of form_spread.

        Raises:
            InsufficientEvidence: no trial has finished.
            InputError: an argument out of range.
        """
        metric = metric_of_records(metric)
        refuse_octaves(scatter_below=scatter_below)
        if not self.records.trials:
            raise InsufficientEvidence(f"{self.name}: no trial has finished yet; read it again")
        document, trials = exponents_of_records(self.records, metric, scatter_below, resamples)
        return Fit(self.name, document, trials)

    def __repr__(self) -> str:
        counts = Counter(trial.status for trial in self.records.trials)
        told = [f"{counts[status]} {status}" for status in ("diverged", "failed") if counts[status]]
        aside = f" ({', '.join(told)})" if told else ""
        widths = ", ".join(map(str, sorted({trial.width for trial in self.records.trials})))
        where = f" at widths {widths}" if widths else ""
        state = ", still running" if self.is_running else ""
        return f"Run {self.name}: {len(self.records.trials)} trials{aside}{where}{state}"

    def _repr_html_(self) -> str:
        if not self.records.trials:
            return shown(repr(self), "", (), ())
        fit = self.fit()
        return shown(repr(self), repr(fit), fit.figures(), fit.warnings)


def read_run(source: str | os.PathLike[str]) -> Run:
    """Read the folder of a sweep, or its records alone, also while the sweep runs.

    A last line that is still being written is left for the next reading.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    path = path_of(source, FOLDER, TABLES)
    refuse_other(path, f"{FOLDER}{TABLES}", "sweep", "records")
    records = load_records([path], warn=lambda sentence: None)
    return Run(path, records, is_written(path))
