"""The fit on uneven, coarse, bent and faulty sweeps, simulated with a known truth.

Prints one row per world: share of sweeps refused, median half-width of the exponent, coverage of
the exponent's interval, bias and coverage of one optimum's interval (and with the error of form
that is stated beside it), coverage of the forecast of an optimum at 8 and 32 times the largest
width, the median stated over the median real cost at 8 times, and the time of a fit. Takes five
minutes on one CPU core.

    python -m benchmarks.fit_sweeps
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponent import fit_sweeps
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.optimum import Optimum
from tests.fit.worlds import (
    Sweeps,
    World,
    bent,
    fading,
    kink,
    log_cosh,
    plateau,
    quartic,
    simulate,
    tilted,
)

COARSE = World(cells=5, spacing=2.0, seeds=2)
WORLDS = {
    "clean, 3 seeds": World(),
    "every run its own seed": World(seeds=1, named=False),
    "second seed at the best cell": World(seeds=2, again=1),
    "second seed at the 2 best cells": World(seeds=2, again=2),
    "second seed at the 3 best cells": World(seeds=2, again=3),
    "second seed at the 3 best cells, seeds move levels and optima": World(
        seeds=2, again=3, level=0.01, shift=0.1
    ),
    "20% of the runs missing": World(missing=0.2),
    "20% of the runs missing, seeds move levels and optima": World(
        missing=0.2, level=0.01, shift=0.1
    ),
    "3 seeds at the smallest width, 1 at the largest": World(fewer=True),
    "5 rates, 2 octaves apart": COARSE,
    "5 rates, 2 octaves apart, tilt 0.4": World(cells=5, spacing=2.0, seeds=2, bowl=tilted(0.4)),
    "5 rates, 2 octaves apart, tilt 0.8": World(cells=5, spacing=2.0, seeds=2, bowl=tilted(0.8)),
    "6 rates, 1.5 octaves apart": World(cells=6, spacing=1.5, seeds=2),
    "15 rates, 0.5 octave apart": World(cells=15),
    "noise of t, 3 degrees of freedom": World(heavy=True),
    "noise of t, 3 degrees of freedom, one seed": World(heavy=True, seeds=1),
    "a bad run in each sweep": World(bad="sweep"),
    "a bad run in each sweep, one seed": World(bad="sweep", seeds=1),
    "a bad run in each width": World(bad="width"),
    "a bad run in each width, one seed": World(bad="width", seeds=1),
    "noise grows with the distance": World(noise_by_octave=1.0),
    "noise ~ width^0.5": World(noise_by_width=0.5),
    "quartic bowls": World(bowl=quartic),
    "log-cosh bowls": World(bowl=log_cosh),
    "bowls like a V": World(bowl=kink),
    "plateau above": World(bowl=plateau),
    "tilt 0.8": World(bowl=tilted(0.8)),
    "tilt 1.5": World(bowl=tilted(1.5)),
    "5 rates about the last optimum": World(cells=5, follows=True),
    "6 widths 1.25x apart": World(widths=6, ratio=math.log2(1.25)),
    "8 widths, 2 of them 0.5 octave off": World(widths=8, strays=2),
    "drift 64 / width, 4 widths": World(bends=fading(2.0)),
    "drift 64 / width, 6 widths": World(widths=6, ratio=0.6, bends=fading(2.0)),
    "bend -0.05, 4 widths": World(bends=bent(-0.05)),
    "bend -0.05, 6 widths": World(widths=6, ratio=0.6, bends=bent(-0.05)),
    "straight, 6 widths": World(widths=6, ratio=0.6),
}
AHEAD = (8, 32)


def held(truth: Sweeps, fits: list[Axis]) -> Iterator[tuple[float, bool, bool]]:
    """Error of each usable optimum, octaves, and whether its interval, and that with the error of
    form, hold it."""
    for fit, row in zip(fits, truth.optimum, strict=True):
        for optimum, x in zip(fit.optimum.values(), row, strict=True):
            if optimum.status == "ok":
                low, at, high = optimum.octaves
                below, above = with_form(optimum)
                yield at - x, low <= x <= high, at - below <= x <= at + above


def octaves_beyond(world: World, times: int) -> float:
    """log2 of the width that is so many times the largest."""
    return 5.0 + world.ratio * (world.widths - 1) + math.log2(times)


def forecasts(truth: Sweeps, fits: list[Axis], u: float) -> tuple[Array, Array, Array]:
    """Whether the forecast at log2 width u holds the optimum of the law there, and the stated and
    the real cost of its value, nats; of the sweeps with a law."""
    usable = np.array([fit.line is not None for fit in fits])
    ahead = [fit.at(2**u) for fit in fits if fit.line is not None]
    optimum = truth.law(u)[usable]
    value, low, high = np.array([(at.value, at.low, at.high) for at in ahead]).T
    off = np.zeros(len(fits))
    off[usable] = value - optimum
    stated = np.array([fit.excess_at(2**u) for fit in fits if fit.line is not None])
    return (low <= optimum) & (optimum <= high), stated, truth.excess(off)[usable]


def with_form(optimum: Optimum) -> tuple[float, float]:
    low, at, high = optimum.octaves
    form = 2 * (optimum.form or 0.0)
    return math.hypot(at - low, form), math.hypot(high - at, form)


def row(name: str, world: World, sweeps: int, seed: int) -> str:
    truth = simulate(world, sweeps, seed)
    start = time.perf_counter()
    fits = fit_sweeps(truth.cells, "lr")
    seconds = time.perf_counter() - start
    usable = [g for g, fit in enumerate(fits) if fit.exponent is not None]
    error, half = np.array(
        [(e.value - truth.exponent[g], e.high - e.value) for g in usable if (e := fits[g].exponent)]
    ).T
    off, alone, formed = np.array(list(held(truth, fits))).T
    ahead = [forecasts(truth, fits, octaves_beyond(world, times)) for times in AHEAD]
    stated, real = np.median(ahead[0][1]), np.median(ahead[0][2])
    columns = [
        name,
        f"{100 * (1 - len(usable) / sweeps):.1f}",
        f"{np.median(half):.3f}",
        "" if world.bends else f"{100 * np.mean(np.abs(error) <= half):.1f}",
        f"{off.mean():+.3f}",
        f"{100 * alone.mean():.1f} ({100 * formed.mean():.1f})",
        " / ".join(f"{100 * np.mean(holds):.1f}" for holds, *_ in ahead),
        f"{stated / real:.2f}",
        f"{1000 * seconds / sweeps:.1f}",
    ]
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=500, help="simulated sweeps per world")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="words of a world's name")
    options = parser.parse_args()
    print(
        "| world | refused % | half-width | exponent: coverage % | bias of an optimum "
        "| optimum: coverage % (with form) | forecast: coverage % at 8x / 32x "
        "| stated over real cost at 8x | ms per sweep |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        if options.only in name:
            print(row(name, world, options.sweeps, options.seed), flush=True)


if __name__ == "__main__":
    main()
