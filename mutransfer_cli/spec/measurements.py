"""Measurements in training: the `diagnostics` section of a spec, `diagnostics.jsonl` and
`curves.jsonl` beside the records."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mutransfer_cli.explain import shown
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.spec.yaml_io import own_lines
from mutransfer_cli.strict import Closed, Count, Natural, Strict

DIAGNOSTICS = "diagnostics.jsonl"
CURVES = "curves.jsonl"
LEAST_STEPS = 75  # between two measurements, each of which takes as long as up to two steps
MOST_INTERVALS = 20


class DiagnosticsSpec(Strict):
    """When trials are measured: at init, at their end, and between; not part of the protocol."""

    every: Count | None = None
    """Steps between measurements. By default the run has at most 20 equal parts of at least 75
    steps, which costs less than a twentieth of the time."""

    def measured_steps(self, steps: int) -> tuple[int, ...]:
        """The steps of a trial after which it is measured; 0 is its init."""
        if self.every is not None:
            return (*range(0, steps, self.every), steps)
        parts = min(MOST_INTERVALS, max(1, steps // LEAST_STEPS))
        return tuple(steps * part // parts for part in range(parts + 1))


def _off_or_section(value: Any) -> Any:
    if value is False or value == "off":  # YAML reads off as false
        return None
    if not isinstance(value, dict | DiagnosticsSpec):
        raise ValueError(f"expected off or {{every: STEPS}}, found {shown(value)}")
    return value


Diagnostics = Annotated[
    DiagnosticsSpec | None,
    BeforeValidator(
        _off_or_section, json_schema_input_type=DiagnosticsSpec | Literal["off", False]
    ),
]
Values = dict[str, float | None]  # by the name of a parameter or module; null if not finite


class DiagnosticsRecord(Closed):
    """One measurement of a trial; a quantity without values is left out."""

    trial: str
    """Hash of the trial, as in its record."""
    step: Natural
    """Steps done, 0 at init."""
    alignment: Values = Field(default_factory=dict)
    """log_fan_in(|W z|_RMS / (|W|_RMS |z|_RMS)) of matrices with their inputs z on the probe batch
    (Everett et al. 2024, arXiv 2407.05872); 1/2 is no alignment, 1 is full."""
    top_singular_value: Values = Field(default_factory=dict)
    """Top singular value of the weight times its multiplier, as it acts in the forward pass; the
    largest one for a stack of matrices."""
    relative_update: Values = Field(default_factory=dict)
    """||dW||_F / ||W||_F of the step, at its rate."""
    gradient_rms: Values = Field(default_factory=dict)
    """RMS of the step's gradient as the optimizer received it, after clipping."""
    activation_rms: Values = Field(default_factory=dict)
    """RMS of a module's output on the probe batch."""
    activation_change_rms: Values = Field(default_factory=dict)
    """RMS of the difference between a module's output and its output at init."""


class CurveRecord(Closed):
    """The training losses of one trial."""

    trial: str
    """Hash of the trial, as in its record."""
    step: tuple[Count, ...]
    """Steps, from 1."""
    train_loss: tuple[float | None, ...]
    """Losses of these steps, in the unit of the records' losses; null if not finite."""

    @model_validator(mode="after")
    def as_many_losses_as_steps(self) -> CurveRecord:
        if len(self.step) != len(self.train_loss):
            raise ValueError(f"{len(self.step)} steps and {len(self.train_loss)} losses")
        return self


def read_diagnostics(path: Path, trials: Collection[str]) -> list[DiagnosticsRecord]:
    """Read the measurements of some trials, sorted by trial and step; a missing file has none.

    An interrupted trial may have repeated lines: the last one counts. A last line without a newline
    is skipped.

    Raises:
        InputError: the file cannot be read, or a line is not a measurement.
    """
    names = [trial.encode() for trial in trials]

    def wanted(line: bytes) -> bool:
        # few lines of a large sweep are wanted, and parsing one takes longer than searching it
        return any(name in line for name in names)

    records = own_lines(path, DiagnosticsRecord, "measurement", wanted)
    order = {trial: index for index, trial in enumerate(trials)}
    found = {(order[r.trial], r.step): r for r in records if r.trial in order}
    return [found[key] for key in sorted(found)]


def read_curves(path: Path, trials: Collection[str]) -> list[CurveRecord]:
    """Read the curves of some trials, in their order; a missing file has none.

    The last line of a trial counts. A last line without a newline is skipped.

    Raises:
        InputError: the file cannot be read, or a line is not a curve.
    """
    found = {record.trial: record for record in own_lines(path, CurveRecord, "curve")}
    return [found[trial] for trial in trials if trial in found]


def by_role(values: Values, roles: Mapping[str, Role]) -> dict[Role, float]:
    """The median over the parameters of each role, ignoring those without a value."""
    grouped: dict[Role, list[float]] = {}
    for name, value in values.items():
        if value is not None:
            grouped.setdefault(roles[name], []).append(value)
    return {role: statistics.median(found) for role, found in grouped.items()}
