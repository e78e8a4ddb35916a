"""Warnings of torch and transformers, which are for their developers, do not reach our users.

Those of the user's own code do. Many of the former are blamed on the line that called the library,
so a warning is told by the code that issued it.
"""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import TextIO

LIBRARIES = {"torch", "transformers"}
FROM_TORCHS_CPP = "(Triggered internally at "
# what they print beside Python's warnings: their loggers, and torch's C++
LOUDNESS = {
    "TORCH_LOGS": "-all",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
}


def quiet_libraries() -> None:
    """Drop their warnings in this process, and their logs in those that it starts as well.

    Variables that the user has set stay. The libraries read them when they are imported.
    """
    for name, value in LOUDNESS.items():
        os.environ.setdefault(name, value)
    show = warnings.showwarning

    def show_others(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        issuer = issuing_module(sys._getframe(1)).partition(".")[0]
        if issuer not in LIBRARIES and FROM_TORCHS_CPP not in str(message):
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_others


def issuing_module(frame: FrameType | None) -> str:
    """The module whose code called `warnings.warn`, given the frame that shows the warning."""
    while frame is not None and frame.f_globals.get("__name__") == "warnings":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""
