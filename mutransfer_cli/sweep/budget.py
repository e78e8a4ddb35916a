"""How long a command may train."""

from __future__ import annotations

import time


class BudgetSpent(Exception):
    """Raised between two steps; whoever gave the budget says what it means."""


class Budget:
    """Begins when it is made.

    Attributes:
        minutes: of all training under it; None: as long as it takes.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def check(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise BudgetSpent
