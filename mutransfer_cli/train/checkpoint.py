"""The state of trials in training, kept on disk so that an interrupted run can continue."""

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
MOST_TIME = 0.05  # share of the training time that writing may take


@dataclass(frozen=True)
class Saved:
    """A trial in training: the number of steps done, and its part of the state of the slots."""

    steps: int
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """How trials were run; a resumed run keeps it, because on CUDA rounding depends on it."""

    slots: int
    compiled: bool


class Checkpoint:
    """One file, replaced atomically: a reader sees the old state or the new one, never a mixture.

    A resumed run ends with the same losses as an uninterrupted one: bit for bit on a CPU and with
    `deterministic: true`, otherwise on CUDA up to rounding.

    Args:
        path: the file; its folder exists.
        protocol_hash: hash of the sweep's protocol.
        every: seconds between two writes, or longer if writing takes long; infinite: never write.
        warn: receives a sentence when a file cannot be used.

    Attributes:
        waiting: trials read from the file that are not yet back in a slot, by id.
    """

    def __init__(
        self, path: Path, protocol_hash: str, every: float, warn: Callable[[str], None]
    ) -> None:
        self.path, self.protocol_hash, self.every, self.warn = path, protocol_hash, every, warn
        self.due = time.monotonic() + every
        self.waiting: dict[str, Saved] = {}

    def read(self, wanted: Container[str], older: Sequence[Path] = ()) -> Shape | None:
        """Read the wanted trials that were in training into `waiting`; return how they were run.

        Args:
            older: more files that may hold some of them.
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
        """Write the state if a write is due or `at_once`; if the disk refuses, only warn."""
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
        """Delete the file, and what an interrupted write left of it."""
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
        """The content of the file; if it cannot be used, warn and return None."""
        again = "its trials start again"
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.warn(f"{path} is not a complete checkpoint ({reason}); {again}")
            return None
        if not isinstance(content, dict) or content.get("schema") != CHECKPOINT_SCHEMA:
            self.warn(f"{path} is not a checkpoint of schema {CHECKPOINT_SCHEMA}; {again}")
            return None
        if content["protocol_hash"] != self.protocol_hash:
            self.warn(
                f"{path} belongs to protocol {content['protocol_hash']}, not to "
                f"{self.protocol_hash}; {again}"
            )
            return None
        return content


def begun_steps(path: Path) -> tuple[int, ...]:
    """Steps done of each trial in a checkpoint; empty if there is none that can be read.

    The weights stay on the disk.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        return tuple(content["trials"].values())
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, TypeError, KeyError):
        return ()  # the worker that reads it says why


def temporary_of(path: Path) -> Path:
    """The file that a new checkpoint is written to before it replaces the last one."""
    return path.with_name(f".{path.name}.tmp")
