"""The first steps of a width, compiled and replayed, held against the same steps launched.

A graph that froze what should have moved, or code that a compiler got wrong, trains on and gives
numbers; three steps show it. Shapes: T slots, K steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mutransfer_cli.train.slots import Job, Slots

STEPS = 3
# relative differences of losses that rounding explains, by precision: about ten times what
# compiled and launched steps of well-behaved trials were seen to differ by
ROUNDING = {"fp64": 1e-9, "fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2}
EXPLODED = 1.5  # times the first loss: beyond it training amplifies rounding


class UnlikeLaunched(RuntimeError):
    """Steps give other losses than the same steps launched one by one."""


def rehearse(slots: Slots, jobs: Sequence[Job]) -> None:
    """Trains jobs for a few steps and evaluates them, as `slots` will and launched; then takes the
    jobs out again.

    Raises:
        UnlikeLaunched: losses differ by more than rounding.
    """
    with slots.ensemble.uncompiled():
        expected = first_losses(slots, jobs, launched=True)
    found = first_losses(slots, jobs, launched=False)
    for slot in slots.busy:
        slots.clear(slot)
    worst = largest_difference(found, expected)
    allowed = ROUNDING[slots.train.precision]
    if worst > allowed:
        raise UnlikeLaunched(
            f"losses of the first {STEPS} steps differ by {worst:.1e} from those of launched steps "
            f"(rounding explains {allowed:.0e})"
        )


def first_losses(slots: Slots, jobs: Sequence[Job], launched: bool) -> Tensor:
    """Training losses of the first steps and, last, the sum of as many eval losses, [T, K + 1]."""
    for slot, job in enumerate(jobs):
        slots.fill(slot, job)
    slots.eval_total.zero_()
    slots.eval_index.zero_()
    for _ in range(STEPS):
        slots.run_step(launched)
        slots.advance(1)
    for batch in range(STEPS):
        slots.run_eval_batch(batch % slots.train.eval_batches, launched)
    losses = torch.cat([slots.history[:, :STEPS], slots.eval_total.unsqueeze(1)], dim=1)
    return losses[: len(jobs)].double().cpu()


def largest_difference(found_TK: Tensor, expected_TK: Tensor) -> float:
    """Relative to the expected losses, over those of trials that have not exploded."""
    first_T1 = expected_TK[:, :1]
    tame = expected_TK.isfinite() & (expected_TK <= EXPLODED * first_T1)
    tame[:, -1] = tame[:, :-1].all(1) & (expected_TK[:, -1] <= STEPS * EXPLODED * first_T1[:, 0])
    difference = (found_TK - expected_TK).abs() / expected_TK.abs()
    # a loss that should be finite and is not differs by as much as can be
    return float(difference.nan_to_num(nan=torch.inf)[tame].max()) if tame.any() else 0.0
