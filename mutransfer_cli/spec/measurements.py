"""What is measured of trials in training: the section of a spec, and `diagnostics.jsonl`.

MERGED:
The training losses of trials, step by step: `curves.jsonl`, beside the records."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mutransfer_cli.rules.choices import Role
from mutransfer_cli.spec.yaml_io import own_lines
from mutransfer_cli.strict import Closed, Count, Natural, Strict

DIAGNOSTICS = "diagnostics.jsonl"
LEAST_STEPS = 75  # between two measurements, each of which takes up to two steps' time
MOST_INTERVALS = 20


class DiagnosticsSpec(Strict):
    """When trials are measured: at init, at their end, and between. No part of the protocol."""

    every: Count | None = None
    """Steps from one measurement to the next. By default equal parts of the run, at most 20 and of
    at least 75 steps: that costs less than a twentieth of the time."""

    def measured_steps(self, steps: int) -> tuple[int, ...]:
        """After which of a trial's steps it is measured; 0 is its init."""
        if self.every is not None:
            return (*range(0, steps, self.every), steps)
        parts = min(MOST_INTERVALS, max(1, steps // LEAST_STEPS))
        return tuple(steps * part // parts for part in range(parts + 1))


def off_or_section(value: Any) -> Any:
    if value is False or value == "off":  # YAML reads off as false
        return None
    if not isinstance(value, dict | DiagnosticsSpec):
        raise ValueError(f"expected off or {{every: STEPS}}, found {value!r}")
    return value


Diagnostics = Annotated[
    DiagnosticsSpec | None,
    BeforeValidator(off_or_section, json_schema_input_type=DiagnosticsSpec | Literal["off", False]),
]
Values = dict[str, float | None]  # by the name of a parameter or module; null: not finite


class DiagnosticsRecord(Closed):
    """One trial after some of its steps; a quantity without values is left out."""

    trial: str
    """As in its record."""
    step: Natural
    """Steps done, 0 at init."""
    alignment: Values = Field(default_factory=dict)
    """log_fan_in(|W z|_RMS / (|W|_RMS |z|_RMS)) of matrices with their inputs z on the probe batch
    (Everett et al. 2024, arXiv 2407.05872); 1/2 is none, 1 is full."""
    top_singular_value: Values = Field(default_factory=dict)
    """Of the weight times its multiplier, as it acts in the forward pass; of a stack of matrices
    the largest."""
    relative_update: Values = Field(default_factory=dict)
    """||dW||_F / ||W||_F of the step, at its rate."""
    gradient_rms: Values = Field(default_factory=dict)
    """Of the step's gradient as the optimizer got it, after clipping."""
    activation_rms: Values = Field(default_factory=dict)
    """Of a module's output on the probe batch."""
    activation_change_rms: Values = Field(default_factory=dict)
    """Of its difference from the output at init."""


def read_diagnostics(path: Path, trials: Collection[str]) -> list[DiagnosticsRecord]:
    """The measurements of some trials, by trial and step; none where there is no file.

    A trial that was interrupted may be there twice: the last lines count. A last line without its
    newline is left out.

    Raises:
        InputError: the file cannot be read, or a line is none of ours.
    """
    wanted = [trial.encode() for trial in trials]

    def concerns(line: bytes) -> bool:
        # of a large sweep few lines are wanted, and reading one takes longer than searching
        return any(trial in line for trial in wanted)

    records = own_lines(path, DiagnosticsRecord, "measurement", concerns)
    found = {(record.trial, record.step): record for record in records}
    order = {trial: index for index, trial in enumerate(trials)}
    kept = [record for record in found.values() if record.trial in order]
    return sorted(kept, key=lambda record: (order[record.trial], record.step))


def by_role(values: Values, roles: Mapping[str, Role]) -> dict[Role, float]:
    """The median over the parameters of each role, of those that have a value."""
    grouped: dict[Role, list[float]] = {}
    for name, value in values.items():
        if value is not None:
            grouped.setdefault(roles[name], []).append(value)
    return {role: statistics.median(found) for role, found in grouped.items()}


CURVES = "curves.jsonl"


class CurveRecord(Closed):
    """One trial."""

    trial: str
    """As in its record."""
    step: tuple[Count, ...]
    """From 1."""
    train_loss: tuple[float | None, ...]
    """Of these steps, in the unit of the records' losses; null where not finite."""

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
