"""A step as one CUDA graph: a launch instead of hundreds, and no Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP_STEPS = 3  # compiles, and has every library allocate its workspace, before the capture


def captured(step: Callable[[], None], beside: torch.cuda.CUDAGraph | None) -> torch.cuda.CUDAGraph:
    """The graph of a step that reads and writes the same tensors every time and asks the host
    nothing. The step is run a few times on the way.

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
        step()
    return graph
