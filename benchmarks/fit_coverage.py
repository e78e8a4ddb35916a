"""Coverage of the fit's intervals, over simulated sweeps whose truth is known.

Takes four minutes on one CPU core and prints one row per world: share of sweeps refused, bias of
the exponent, bias and sd of one optimum's error (octaves), coverage and median half-width of the
reported interval and of the one that assumes no scatter between widths, coverage of one optimum's
interval, and share of shape alarms.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from mutransfer_cli.fit.exponent import fit_sweeps
from tests.fit.worlds import World, simulate

TILTED = World(curvature=(0.01, 0.01), cubic=0.12)
WORLDS = {
    "clean": World(),
    "noisy": World(noise=0.005),
    "cubic 0.15": World(cubic=0.15),
    "grid off centre by up to 1 octave": World(off_centre=1.0),
    "20% diverged above": World(diverged=0.2),
    "3 widths": World(widths=3),
    "scatter 0.1 octave": World(scatter=0.1),
    "scatter 0.2 octave": World(scatter=0.2),
    "scatter 0.1, 6 widths": World(scatter=0.1, widths=6),
    "common random numbers": World(level=0.01, shift=0.1),
    "curvature ~ width^-0.4": World(curvature_exponent=-0.4),
    "twice as steep above": World(steeper=2.0),
    "cliff at 1.5 octaves": World(cliff=1.5),
    "one seed": World(seeds=1),
    "one seed, noisy": World(seeds=1, noise=0.005),
    "one seed, grid of 1 octave": World(seeds=1, spacing=1.0, cells=7),
    "curvature 0.010, cubic 0.12, one seed": replace(TILTED, seeds=1),
    "curvature 0.010, cubic 0.12": TILTED,
    "steepness above drifts from 1 to 2 (known to fail)": World(drift=1 / 3),
}
SCATTER_BELOW = 0.4  # assumed bound, octaves
ASSUMED = {
    f"{widths} widths, scatter {scatter:g}, assumed below {SCATTER_BELOW:g}": World(
        widths=widths, scatter=scatter
    )
    for widths in (3, 4)
    for scatter in (0.0, 0.1, 0.2)
}


def row(name: str, world: World, sweeps: int, seed: int, scatter_below: float | None = None) -> str:
    truth = simulate(world, sweeps, seed)
    fits = fit_sweeps(truth.cells, "lr", scatter_below)
    found = [
        (fit.exponent, fit.measurement_interval, x)
        for fit, x in zip(fits, truth.exponent, strict=True)
        if fit.exponent and fit.measurement_interval
    ]
    error = np.array([exponent.value - x for exponent, _, x in found])
    reported = np.array([exponent.high - exponent.value for exponent, _, _ in found])
    measured = np.array([interval.high - interval.value for _, interval, _ in found])
    optima = [
        (at - x, low <= x <= high)
        for fit, row in zip(fits, truth.optimum, strict=True)
        for optimum, x in zip(fit.optimum.values(), row, strict=True)
        if optimum.status == "ok"
        for low, at, high in [optimum.octaves]
    ]
    off, held = np.array(optima).T
    alarms = np.mean(["shape_drifts" in fit.warnings for fit in fits])
    return (
        f"| {name} | {100 * (1 - len(found) / sweeps):.1f} | {error.mean():+.4f} "
        f"| {off.mean():+.3f} | {off.std():.3f} "
        f"| {100 * np.mean(np.abs(error) <= reported):.1f} ({np.median(reported):.3f}) "
        f"| {100 * np.mean(np.abs(error) <= measured):.1f} ({np.median(measured):.3f}) "
        f"| {100 * held.mean():.1f} | {100 * alarms:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=2000, help="simulated sweeps per world")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        "| world | refused % | bias | bias of an optimum | sd of an optimum "
        "| 95% interval: coverage % (half-width) | the same without scatter | optimum: coverage % "
        "| shape alarm % |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        print(row(name, world, options.sweeps, options.seed), flush=True)
    for name, world in ASSUMED.items():
        print(row(name, world, options.sweeps, options.seed, SCATTER_BELOW), flush=True)


if __name__ == "__main__":
    main()
