"""The ways to run the steps of a width, fastest first; where one fails, the next lower goes on.

Compiled and captured in a CUDA graph, then captured, then launched step by step, then launched
with half as many trials side by side.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Literal

# what a failure is blamed on: the rung as a whole, its graph, its memory, or nothing of it
Fault = Literal["rung", "capture", "memory", "elsewhere"]


@dataclass(frozen=True)
class Rung:
    """How the steps of a group are run, or as a limit the most that may be tried.

    Attributes:
        compiled: losses and update through torch.compile.
        captured: the whole step replayed from one CUDA graph.
        slots: trials side by side.
    """

    compiled: bool
    captured: bool
    slots: int

    @property
    def steps(self) -> str:
        """How the steps are run, in words."""
        if self.captured:
            return "compiled and in a CUDA graph" if self.compiled else "in a CUDA graph"
        return "compiled, launched step by step" if self.compiled else "launched step by step"

    def __str__(self) -> str:
        return f"{self.steps}, {self.slots} side by side"

    def under(self, limit: Rung) -> Rung:
        """The part of this rung that a limit allows."""
        return Rung(
            self.compiled and limit.compiled,
            self.captured and limit.captured,
            min(self.slots, limit.slots),
        )


TOP = Rung(compiled=True, captured=True, slots=sys.maxsize)


def next_lower(rung: Rung, fault: Fault) -> Rung | None:
    """The rung to try after `rung` has failed; None if there is none.

    A step that asks the host for a value is launched, never compiled: what breaks a graph of CUDA
    breaks most of the compiler's graphs, too.
    """
    if fault == "elsewhere":
        return None
    if fault == "capture" and rung.captured:
        return replace(rung, compiled=False, captured=False)
    if fault != "memory" and rung.compiled:
        return replace(rung, compiled=False)
    if fault != "memory" and rung.captured:
        return replace(rung, captured=False)
    return replace(rung, slots=rung.slots // 2) if rung.slots > 1 else None
