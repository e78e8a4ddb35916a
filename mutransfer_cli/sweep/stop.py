"""Two ways to stop a training between two steps: Ctrl-C, and a budget of minutes."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from mutransfer_cli.errors import SweepInterrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Inside, the first Ctrl-C is noted and raised by the next `check`, the second one at once.

    An exception at any point could cut a record in two, or be swallowed by native code that called
    Python. SIGTERM and SIGHUP, with which clusters and terminals end a job, have the same effect,
    except that SIGHUP stays ignored under nohup. Further signals are ignored, also afterwards if
    SweepInterrupted leaves the context: then the command ends, and has to say so. Outside the main
    thread no signals arrive, so that nothing is installed.

    Args:
        at_once: the first signal is raised at once: before there is anything that it could cut.
    """

    def __init__(self, at_once: bool = False) -> None:
        self._asked, self._raised_at = 0, 1 if at_once else 2
        self._previous: dict[signal.Signals, object] = {}

    def check(self) -> None:
        if self._asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            under_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            heard = SIGNALS[:-1] if under_nohup else SIGNALS
            self._previous = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        for number, handler in self._previous.items():
            after = signal.SIG_IGN if kind is SweepInterrupted else handler
            signal.signal(number, after)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked == self._raised_at:
            raise KeyboardInterrupt


class BudgetSpent(Exception):
    """Raised between two steps; the owner of the budget explains it to the user."""


class Budget:
    """Time for all training together, from the creation of the budget on.

    Attributes:
        minutes: None: unlimited.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def check(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise BudgetSpent
