"""Training for the gates of `mutransfer check` that need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from mutransfer_cli.check.coordinates import (
    FEWEST_SEEDS,
    FEWEST_WIDTHS,
    TOLERANCE,
    coordinates_gate,
)
from mutransfer_cli.check.gates import Asked
from mutransfer_cli.check.measure import Gate, GateName, gate, unmeasured
from mutransfer_cli.cli.check_sources import TrainingOptions
from mutransfer_cli.cli.console import note
from mutransfer_cli.cli.progress import Screen
from mutransfer_cli.cli.watch import Echo, train_here
from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.sources import load_spec, run_name
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.coordinates import (
    STEPS,
    default_widths,
    few_steps,
    measure_control,
    measure_coordinates,
)
from mutransfer_cli.sweep.local import started_workers
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import worker_count
from mutransfer_cli.sweep.stop import Budget, BudgetSpent
from mutransfer_cli.train.device import choose_device

SEEDS = 5
CHECKPOINT_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Training:
    """Trains the sweep spec behind a source, within a budget."""

    name: str
    """Name of the spec."""
    spec: SweepSpec
    folder: Path
    """Folder that the paths of the spec are relative to."""
    widths: tuple[int, ...]
    """Widths for gate `coordinates`."""
    seeds: int
    """Seeds for gate `coordinates`, at every width."""
    budget: Budget
    """Time for all training together."""

    @classmethod
    def of(cls, name: str, options: TrainingOptions) -> Training:
        """Load the spec.

        Raises:
            InputError: too few widths or seeds, or no such spec or variant.
        """
        spec, path = load_spec(name, options.variant)
        widths, seeds = options.widths or default_widths(spec, path.parent), options.seeds or SEEDS
        if len(widths) < FEWEST_WIDTHS or seeds < FEWEST_SEEDS:
            raise InputError(
                f"--widths, --seeds: gate coordinates takes {FEWEST_WIDTHS} widths and "
                f"{FEWEST_SEEDS} seeds at least, found {len(widths)} and {seeds}"
            )
        run, budget = run_name(name, path, options.variant), Budget(options.budget)
        return cls(run, spec, path.parent, widths, seeds, budget)

    @cached_property
    def device(self) -> torch.device:
        """The device to train on."""
        return choose_device("auto", self.spec.train.precision, self.spec.deterministic)

    def refuse_other(self, protocol_hash: str | None, where: str) -> None:
        """Refuse a source that was made under another protocol than the spec's.

        Raises:
            InputError: the protocols differ.
        """
        own = Sweep.prepare(self.spec, self.folder).protocol.hash
        if own != protocol_hash:
            raise InputError(
                f"--spec {self.name}: its protocol is {own}, and that of {where} is "
                f"{protocol_hash or 'not known'}; give the spec that it was made with"
            )

    def coordinates(self, base: Mapping[AxisName, float], asked: Asked) -> Gate:
        """Train a few steps at all widths, and a control; judge how every layer moves.

        Args:
            base: base values to use instead of the middle of the spec's grid.
        """
        axes = self.spec.middle_axes | dict(base)
        stop, widths = self.budget.check, ", ".join(map(str, self.widths))
        note(f"coordinates: {STEPS} steps of {self.seeds} seeds at widths {widths}, and a control")
        try:
            spec = few_steps(self.spec, self.widths, range(self.seeds), axes)
            values = measure_coordinates(spec, self.folder, self.device, note, stop)
            spec = few_steps(self.spec, self.widths, range(FEWEST_SEEDS), axes)
            control = measure_control(spec, self.folder, self.device, stop)
        except BudgetSpent:
            return self._unfinished("coordinates", "slopes in width", "or take smaller --widths")
        base_values: dict[str, str] = {axis: f"{x:.6g}" for axis, x in axes.items()}
        setting = {"steps": str(STEPS)} | base_values
        flat = self.spec.optimizer.name != "sgd"
        tolerance = asked.tolerance("coordinates", TOLERANCE)
        return coordinates_gate(values, control, setting, flat, tolerance)

    def held_out(self, width: int, folder: Path) -> Gate | None:
        """Train the spec's grid at a width, into a folder.

        Returns:
            An inconclusive gate `transfer` if the budget is spent first, otherwise None.
        """
        try:
            self.spec.refuse_width("--held-out", width)
        except ValueError as error:
            raise InputError(str(error)) from error
        grid = self.spec.sweep.model_copy(update={"widths": (width,)})
        spec = self.spec.model_copy(update={"sweep": grid})
        sweep = Sweep.prepare(spec, self.folder, note)
        settings = Settings("auto", spec.deterministic, CHECKPOINT_EVERY, spec.diagnostics)
        note(f"transfer: the sweep at width {width} goes into {folder}")
        try:
            count = worker_count(None, self.device.type, grid.size)
            with started_workers(self.device, count, note) as workers, Screen() as screen:
                echo, stop = Echo(False), self.budget.check
                train_here(sweep, folder, self.device, workers, settings, echo, screen, stop)
        except BudgetSpent:
            quantity = f"the optimum at width {width}"
            return self._unfinished("transfer", quantity, "or run again to go on where it stopped")
        return None

    def _unfinished(self, name: GateName, quantity: str, otherwise: str) -> Gate:
        why = f"--budget {self.budget.minutes:g} is spent; give more minutes, {otherwise}"
        return gate(name, [unmeasured(quantity, why)])
