"""A step as one CUDA graph: a launch instead of hundreds, and no Python."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")

# compiles, and has every library allocate its workspace, before the capture
WARM_UP_STEPS = 3
SYNCHRONIZES = "called a synchronizing CUDA operation"  # torch's words in its debug mode
# folders whose lines are not the user's; files named so are no files
NOT_THE_USERS = (str(Path(torch.__file__).parent), "<", str(Path(__file__).parents[1]))


class AsksTheHost(RuntimeError):
    """A step needs a value on the host in its middle, which no CUDA graph can give it."""


def captured(
    step: Callable[[], Result], beside: torch.cuda.CUDAGraph | None
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """The graph of a step, and the result of the step, whose tensors hold the values of the last
    replay.

    The step must read and write the same tensors every time and ask the host nothing. It is run a
    few times on the way.

    Args:
        beside: a graph that never runs at the same time; the two share their memory.

    Raises:
        AsksTheHost: the step waits for the device; the message names the line of the program.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_STEPS - 1):
            step()
        with no_questions():
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=beside.pool() if beside else None):
        result = step()
    return graph, result


@contextmanager
def no_questions() -> Iterator[None]:
    """While entered, an operation that waits for the CUDA device raises AsksTheHost."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if SYNCHRONIZES not in str(error):
            raise
        raise AsksTheHost(
            f"{source_line(error)} waits for a value from the device, which no CUDA graph can hold"
        ) from error
    finally:
        torch.cuda.set_sync_debug_mode(before)


def source_line(error: BaseException) -> str:
    """The innermost line of the program that raised an error: of the user's own code where it went
    through any, else of a library that is not torch."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not frame.filename.startswith(NOT_THE_USERS)]
    own = [frame for frame in others if "site-packages" not in frame.filename]
    found = (own or others or frames)[-1]
    return f"{found.filename}:{found.lineno} ({found.line})"
