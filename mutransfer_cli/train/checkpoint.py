"""The state of slots in training, on the disk, for a run that is cut off."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mutransfer_cli.train.slots import Slots

CHECKPOINT_SCHEMA = "mutransfer.checkpoint/2"
MOST_TIME = 0.05  # of the training, that writing may take


@dataclass(frozen=True)
class Saved:
    """A trial in training: the steps it has done, and its part of the state of the slots."""

    steps: int
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """On CUDA the last digits of a result depend on these: who goes on keeps them."""

    slots: int
    compiled: bool


class Checkpoint:
    """One file, replaced in one step: a reader sees the old state or the new, never half of one.

    A run that goes on from it ends with the same losses as one that was not cut off: bit for bit
    on a CPU and with `deterministic: true`, else on CUDA to rounding.

    Args:
        path: of the file; its folder exists.
        protocol_hash: of the sweep.
        every: seconds between two writes, or longer where writing takes long; infinite: never.
        warn: gets a sentence when a file cannot be used.

    Attributes:
        waiting: trials of the file that have not yet come back into a slot, by id.
    """

    def __init__(
        self, path: Path, protocol_hash: str, every: float, warn: Callable[[str], None]
    ) -> None:
        self.path, self.protocol_hash, self.every, self.warn = path, protocol_hash, every, warn
        self.due = time.monotonic() + every
        self.waiting: dict[str, Saved] = {}

    def read(self, wanted: Container[str], older: Sequence[Path] = ()) -> Shape | None:
        """Takes up the wanted trials that were in training, and says how they were run.

        Args:
            older: files that may hold some of them, too.
        """
        self.waiting, shape = {}, None
        for path in (*older, self.path):
            found = self._read(path) if path.exists() else None
            if found is None:
                continue
            for row, (trial, steps) in enumerate(found["trials"].items()):
                before = self.waiting.get(trial)
                if trial in wanted and (before is None or before.steps < steps):
                    state = {name: rows[row] for name, rows in found["state"].items()}
                    self.waiting[trial] = Saved(steps, state)
                    shape = Shape(found["slots"], found["compiled"])
        return shape

    def keep(self, slots: Slots, at_once: bool = False) -> None:
        """Writes the state when it is due; the run goes on if the disk refuses."""
        if self.every == float("inf") or (not at_once and time.monotonic() < self.due):
            return
        if not slots.busy and not self.waiting:
            return
        started = time.monotonic()
        temporary = temporary_of(self.path)
        try:
            with temporary.open("wb") as file:
                torch.save(self._content(slots), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self.warn(f"{self.path}: no checkpoint could be written ({error.strerror})")
        took = time.monotonic() - started
        self.due = time.monotonic() + max(self.every, took / MOST_TIME)

    def remove(self) -> None:
        for path in (self.path, temporary_of(self.path)):
            path.unlink(missing_ok=True)

    def _content(self, slots: Slots) -> dict[str, Any]:
        """Trials in slots and those still waiting, their states stacked by name."""
        busy, waiting = slots.busy, list(self.waiting.values())
        steps = [slots.steps_done[slot] for slot in busy] + [saved.steps for saved in waiting]
        ids = [job.id for job in slots.jobs if job is not None] + list(self.waiting)
        return {
            "schema": CHECKPOINT_SCHEMA,
            "protocol_hash": self.protocol_hash,
            "slots": len(slots.jobs),
            "compiled": slots.ensemble.execution.compiled,
            "trials": dict(zip(ids, steps, strict=True)),
            "state": {
                name: torch.stack([*stack.detach()[busy].cpu(), *(s.state[name] for s in waiting)])
                for name, stack in slots.state().items()
            },
        }

    def _read(self, path: Path) -> dict[str, Any] | None:
        """The content of the file; None, and a warning, where it cannot be used."""
        again = "what it held starts again"
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.warn(f"{path}: is not a whole checkpoint ({reason}); {again}")
            return None
        if not isinstance(content, dict) or content.get("schema") != CHECKPOINT_SCHEMA:
            self.warn(f"{path}: is no checkpoint of this schema; {again}")
            return None
        if content["protocol_hash"] != self.protocol_hash:
            self.warn(
                f"{path}: is of protocol {content['protocol_hash']}, not of "
                f"{self.protocol_hash}; {again}"
            )
            return None
        return content


def temporary_of(path: Path) -> Path:
    """The file that a checkpoint is written into before it takes the place of the last one."""
    return path.with_name(f".{path.name}.tmp")
