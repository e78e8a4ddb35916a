"""Records as a table."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from mutransfer_cli.files.diagnostics import DiagnosticsRecord
from mutransfer_cli.files.records import TrialRecord
from mutransfer_cli.rules.plan import AXES

NUMBERS = [*AXES, "train_loss", "eval_loss"]


def trial_frame(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row a trial that ran: width, seed, axes, and losses that are NaN for a diverged trial."""
    rows = [
        {
            "width": trial.width,
            "seed": trial.seed,
            **trial.axes,
            "train_loss": trial.train_loss,
            "eval_loss": trial.eval_loss,
        }
        for trial in trials
        if trial.status != "failed"
    ]
    frame = pd.DataFrame(rows, columns=["width", "seed", *NUMBERS])
    return frame.astype(dict.fromkeys(NUMBERS, float))


def measurement_frame(
    measurements: Iterable[DiagnosticsRecord], trials: Iterable[TrialRecord], quantity: str
) -> pd.DataFrame:
    """One row a trial, step and name of a parameter or module, where the quantity is a number.

    Args:
        quantity: as the record calls it, such as top_singular_value.
    """
    by_trial = {trial.trial: trial for trial in trials}
    rows = [
        {
            "trial": one.trial,
            "width": by_trial[one.trial].width,
            "seed": by_trial[one.trial].seed,
            "step": one.step,
            "name": name,
            "value": value,
        }
        for one in measurements
        for name, value in getattr(one, quantity).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["trial", "width", "seed", "step", "name", "value"])
