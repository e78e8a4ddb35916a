"""A measurement of one trial after some of its steps, and the quantities in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Quantity = Literal[
    "alignment",
    "top_singular_value",
    "relative_update",
    "gradient_rms",
    "activation_rms",
    "activation_change_rms",
]
Column = tuple[Quantity, str]  # of a parameter or module, by its name


@dataclass(frozen=True)
class Measurement:
    """
    Attributes:
        step: steps done; 0 is the init.
        values: by name, of every quantity of which there is a value; None where it is not finite.
    """

    step: int
    values: dict[Quantity, dict[str, float | None]]

    @classmethod
    def of(cls, step: int, columns: Sequence[Column], row: Iterable[float]) -> Measurement:
        """From the values of columns; not finite ones are there too."""
        values: dict[Quantity, dict[str, float | None]] = {}
        for (quantity, name), value in zip(columns, row, strict=True):
            values.setdefault(quantity, {})[name] = value if math.isfinite(value) else None
        return cls(step, {key: by for key, by in values.items() if any_value(by.values())})


def any_value(values: Iterable[float | None]) -> bool:
    return any(value is not None for value in values)
