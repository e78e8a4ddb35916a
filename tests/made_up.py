"""Made-up records, also with losses that follow a known law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutransfer_cli.spec.records import TrialRecord

RATES = [2.0 ** (-9 + k / 2) for k in range(13)]


@dataclass(frozen=True)
class Made:
    """A sweep whose optima follow a law.

    Attributes:
        exponent: exponent of width of the optimum, which is 2^-6 at width 16.
        astray: distance of the largest width's optimum from that law, octaves.
        noise: sd of one loss, nats.
    """

    widths: Sequence[int] = (16, 24, 32, 48, 64)
    exponent: float = 0.0
    astray: float = 0.0
    noise: float = 0.0005
    rates: Sequence[float] = tuple(RATES)

    def trials(self) -> tuple[TrialRecord, ...]:
        random = np.random.default_rng(0)
        found = []
        for width in self.widths:
            optimum = -6 + self.exponent * math.log2(width / 16)
            optimum += self.astray if width == max(self.widths) else 0.0
            for seed in (0, 1):
                for lr in self.rates:
                    loss = 2.5 + 0.01 * (math.log2(lr) - optimum) ** 2
                    loss += random.normal(0, self.noise)
                    name = f"{width}-{seed}-{lr:g}"
                    found.append(
                        record(name, width=width, seed=seed, lr=lr, train_loss=loss, eval_loss=loss)
                    )
        return tuple(found)


def record(trial: str, **changes: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "trial": trial,
        "width": 16,
        "seed": 0,
        "lr": 0.01,
        "weight_decay": 0.0,
        "status": "ok",
        "train_loss": 3.0,
        "eval_loss": 3.1,
        "steps": 10,
        "tokens": 320,
        "flops": 1e9,
        "seconds": 0.1,
        "group": "g",
        "group_size": 1,
        "device": "cpu",
        "compiled": False,
    }
    if changes.get("status", "ok") != "ok":
        values |= {"train_loss": None, "eval_loss": None}
    return TrialRecord(**(values | changes))
