"""A step as one CUDA graph: a launch instead of hundreds, and no Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

WARM_UP_STEPS = 3  # compiles, and has every library allocate its workspace, before the capture


def captured(
    step: Callable[[], Result], beside: torch.cuda.CUDAGraph | None
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """The graph of a step that reads and writes the same tensors every time and asks the host
    nothing, and what the step returned: tensors in it hold the values of the last replay. The step
    is run a few times on the way.

    Args:
        beside: a graph that never runs at the same time; the two share their memory.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=beside.pool() if beside else None):
        result = step()
    return graph, result
