"""Statuses of runs, as the systems that record runs write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import Table
from mutransfer_cli.spec.values import words

# words of W&B, Optuna, Ray Tune, MLflow, SLURM and of tables kept by hand
FINISHED = words(
    "finished finish complete completed success successful succeeded ok done terminated keep"
)
DIVERGED = frozenset({"diverged", "diverge", "nan"})
NOT_YET = words(
    "running pending queued preempted preempting requeued waiting scheduled starting started "
    "paused submitted created initializing in-progress resuming"
)
BROKEN = words(
    "crashed crash failed fail failure killed error errored oom out-of-memory timeout timed-out "
    "pruned early-stopped early-stopping stopped cancelled canceled aborted interrupted"
)
LEFT_OUT = NOT_YET | BROKEN


def word(cell: object) -> str:
    """A status in its plain form, such as pruned for `TrialState.PRUNED`."""
    text = str(cell).strip().lower().rpartition(".")[2]
    return re.sub(r"[\s_-]+", "-", text)


def statuses(
    table: Table, column: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], Mapping[str, int]]:
    """Which rows hold results, which of them diverged, and the others counted by their status.

    Raises:
        InputError: a status that is not known, or no row with results.
    """
    cells = table.cells[column].tolist()
    said = [word(cell) for cell in cells]
    for unknown in dict.fromkeys(said):
        if unknown not in FINISHED | DIVERGED | LEFT_OUT:
            position = said.index(unknown)
            raise InputError(
                f"{table.place(position)}: {column}: expected a status such as finished, running, "
                f"failed or diverged, found {cells[position]!r}; write one of these, or name the "
                "column that holds the status by status=COLUMN",
                remedy="columns",
            )
    ran = np.array([one not in LEFT_OUT for one in said], dtype=bool)
    diverged = np.array([one in DIVERGED for one in said], dtype=bool)
    left_out = Counter(one for one in said if one in LEFT_OUT)
    if not ran.any():
        found = ", ".join(f"{times} {one}" for one, times in left_out.items())
        raise InputError(f"{table.where}: no row has a status of a run that finished ({found})")
    return ran, diverged, left_out
