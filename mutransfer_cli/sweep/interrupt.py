"""Ctrl-C as a question that training answers between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupt:
    """While entered, the first Ctrl-C is noted and raised by the next `check`, the second at once.

    An exception out of nowhere could cut a record in two, or be swallowed by native code that
    called Python. Outside the main thread signals do not arrive and nothing is installed.
    """

    def __init__(self) -> None:
        self._asked = False

    def check(self) -> None:
        if self._asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *raised: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
