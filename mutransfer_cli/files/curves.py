"""The training losses of trials, step by step: `curves.jsonl`, beside the records."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import model_validator

from mutransfer_cli.files.json_lines import own_lines
from mutransfer_cli.files.strict import Closed, Count

CURVES = "curves.jsonl"


class CurveRecord(Closed):
    """One trial.

    Attributes:
        step: from 1.
        train_loss: of these steps, in the unit of the records' losses; null where not finite.
    """

    trial: str
    step: tuple[Count, ...]
    train_loss: tuple[float | None, ...]

    @model_validator(mode="after")
    def as_many_losses_as_steps(self) -> CurveRecord:
        if len(self.step) != len(self.train_loss):
            raise ValueError(f"{len(self.step)} steps and {len(self.train_loss)} losses")
        return self


def read_curves(path: Path, trials: Collection[str]) -> list[CurveRecord]:
    """The curves of some trials, in their order; none where there is no file.

    Of a trial that is there twice the last line counts. A last line without its newline is left
    out.

    Raises:
        InputError: the file cannot be read, or a line is none of ours.
    """
    found = {record.trial: record for record in own_lines(path, CurveRecord, "curve")}
    return [found[trial] for trial in trials if trial in found]
