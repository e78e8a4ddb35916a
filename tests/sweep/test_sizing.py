"""Widths, steps and rates of a first sweep: what fits into the time, and where the optimum is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.sizing import (
    ENOUGH_STEPS,
    FEWEST_WIDTHS,
    LEAST_STEPS,
    MOST_STEPS,
    PILOT_RATES,
    RATES,
    SECONDS,
    SEEDS,
    SUSTAINED,
    best_rate,
    fitting,
    step_seconds,
)
from tests.conftest import CPU

WIDTHS = (16, 32, 48, 64, 96, 128)
Prepare = Callable[[dict[str, Any]], Sweep]


def quadratic(narrowest: float) -> dict[int, float]:
    """Seconds per step that grow with the square of width."""
    return {width: narrowest * (width / 16) ** 2 for width in WIDTHS}


def test_a_cheap_model_keeps_all_widths_and_gets_the_most_steps() -> None:
    size = fitting(quadratic(1e-6), base_width=32, workers=2)
    assert (size.widths, size.steps) == (WIDTHS, MOST_STEPS)
    assert size.seconds < SECONDS
    assert size.trials == 6 * RATES * len(SEEDS)


def test_steps_fill_the_time() -> None:
    seconds = quadratic(1e-4)
    size = fitting(seconds, base_width=32, workers=1)
    assert size.widths == WIDTHS
    assert ENOUGH_STEPS < size.steps < MOST_STEPS
    in_steps = RATES * len(SEEDS) * size.steps * sum(seconds.values())
    assert size.seconds == pytest.approx(SUSTAINED * in_steps)
    assert 0.9 * SECONDS < size.seconds <= SECONDS


def test_the_widest_go_before_steps_are_too_few() -> None:
    size = fitting(quadratic(5e-4), base_width=32, workers=1)
    assert size.widths == WIDTHS[:5]
    assert size.steps >= ENOUGH_STEPS
    assert size.seconds <= SECONDS


def test_a_dear_model_keeps_four_widths_and_says_what_it_takes() -> None:
    size = fitting(quadratic(1.0), base_width=32, workers=1)
    assert size.widths == WIDTHS[:FEWEST_WIDTHS]
    assert size.steps == LEAST_STEPS
    assert size.seconds > 10 * SECONDS


def test_more_workers_train_longer() -> None:
    one, two = (fitting(quadratic(2e-4), 32, workers) for workers in (1, 2))
    assert two.steps == pytest.approx(2 * one.steps, abs=20)


def test_steps_of_every_width_are_timed(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["sweep"]["widths"] = [16, 96]
    seconds = step_seconds(prepare(tiny), CPU)
    assert list(seconds) == [16, 96]
    assert 0 < seconds[16] < seconds[96] < 1


def test_the_best_rate_is_inside(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["parameterization"]["base_width"] = 16
    sweep = prepare(tiny)
    best = best_rate(sweep, 30, CPU, 1e-3)
    assert best in PILOT_RATES[2:-1]
    assert best_rate(sweep, 30, CPU, 1e-3) == best


def test_a_model_that_always_diverges_is_refused(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["model"] = {"factory": "tests.sweep.test_sizing:never_finite"}
    sweep = prepare(tiny)
    with pytest.raises(InputError, match="every learning rate from 2\\^-13 to 2\\^-1 diverges"):
        best_rate(sweep, 30, CPU, 1e-3)


def never_finite(width: int, vocab: int) -> Any:
    import torch
    from torch import nn

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab, width)
            self.readout = nn.Linear(width, vocab, bias=False)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.readout(self.embedding(tokens)) * torch.inf
            return logits

    return Broken()
