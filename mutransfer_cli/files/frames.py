"""Records as a table."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

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
