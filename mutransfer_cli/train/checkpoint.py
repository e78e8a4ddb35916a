"""The state of slots in training, on the disk, for a run that is cut off."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mutransfer_cli.train.slots import Job, Slots

CHECKPOINT_SCHEMA = "mutransfer.checkpoint/1"
MOST_TIME = 0.05  # of the training, that writing may take


class Checkpoint:
    """One file, replaced in one step: a reader sees the old state or the new, never half of one.

    A run that goes on from it ends with the same losses as one that was not cut off: bit for bit
    on a CPU, to rounding on CUDA.

    Args:
        path: of the file; its folder exists.
        protocol_hash: of the sweep.
        every: seconds between two writes, or longer where writing takes long; infinite: never.
        warn: gets a sentence when a file cannot be used.
    """

    def __init__(
        self, path: Path, protocol_hash: str, every: float, warn: Callable[[str], None]
    ) -> None:
        self.path, self.protocol_hash, self.every, self.warn = path, protocol_hash, every, warn
        self.due = time.monotonic() + every

    def restore(self, slots: Slots, jobs: Sequence[Job]) -> None:
        """Fills slots with those of the jobs that were in training, as many as there is room."""
        found = self._read() if self.path.exists() else None
        if found is None:
            return
        by_id = {job.id: job for job in jobs}
        state, rows = found["state"], enumerate(zip(found["trials"], found["steps"], strict=True))
        kept = [(row, by_id[trial], steps) for row, (trial, steps) in rows if trial in by_id]
        for slot, (row, job, steps) in enumerate(kept[: len(slots.jobs)]):
            slots.restore(slot, {name: stack[row] for name, stack in state.items()}, job, steps)

    def keep(self, slots: Slots, at_once: bool = False) -> None:
        """Writes the state when it is due; the run goes on if the disk refuses."""
        if self.every == float("inf") or (not at_once and time.monotonic() < self.due):
            return
        started = time.monotonic()
        busy = slots.busy
        content = {
            "schema": CHECKPOINT_SCHEMA,
            "protocol_hash": self.protocol_hash,
            "trials": [job.id for job in slots.jobs if job is not None],
            "steps": [slots.steps_done[slot] for slot in busy],
            "state": {name: stack.detach()[busy].cpu() for name, stack in slots.state().items()},
        }
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self.warn(f"{self.path}: no checkpoint could be written ({error.strerror})")
        took = time.monotonic() - started
        self.due = time.monotonic() + max(self.every, took / MOST_TIME)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        """The content of the file; None, and a warning, where it cannot be used."""
        again = "what it held starts again"
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.warn(f"{self.path}: is not a whole checkpoint ({reason}); {again}")
            return None
        if not isinstance(content, dict) or content.get("schema") != CHECKPOINT_SCHEMA:
            self.warn(f"{self.path}: is no checkpoint of this schema; {again}")
            return None
        if content["protocol_hash"] != self.protocol_hash:
            self.warn(
                f"{self.path}: is of protocol {content['protocol_hash']}, not of "
                f"{self.protocol_hash}; {again}"
            )
            return None
        return content
