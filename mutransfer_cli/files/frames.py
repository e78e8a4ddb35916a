"""Records as a table."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from mutransfer_cli.files.records import TrialRecord

COLUMNS = ["width", "seed", "lr", "train_loss", "eval_loss"]


def trial_frame(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row a trial that ran: width, seed, lr, and losses that are NaN for a diverged trial."""
    rows = [
        {column: getattr(trial, column) for column in COLUMNS}
        for trial in trials
        if trial.status != "failed"
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"lr": float, "train_loss": float, "eval_loss": float})
