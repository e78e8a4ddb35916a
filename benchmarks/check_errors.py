"""Error rates of the gates, over simulated sweeps whose truth is known.

Prints one row per gate and world: the shares of the verdicts where the truth is as expected (no
drift) and where it is off by twice the tolerance. Takes two minutes on one CPU core.

    python -m benchmarks.check_errors
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy import optimize

from mutransfer_cli.check.exponent import TOLERANCE
from mutransfer_cli.check.measure import Verdict, verdict_of
from mutransfer_cli.check.transfer import SHARE, Forecast, transfer_gate
from mutransfer_cli.fit.arrays import arrays_of
from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.exponent import fit_sweeps
from tests.fit.worlds import World, excess_at, quartic, simulate, tilted

TILTS = (0.5, 0.8, 1.0, 1.5)
WORLDS = {
    "4 widths": World(),
    "4 widths, noisy": World(noise=0.005),
    "4 widths, scatter 0.1": World(scatter=0.1),
    "6 widths, scatter 0.1": World(scatter=0.1, widths=6),
    "4 widths, twice as steep above": World(steeper=2.0),
    "4 widths, one seed": World(seeds=1),
    "4 widths, quartic bowls": World(bowl=quartic),
    **{f"4 widths, tilt {tilt:g}": World(bowl=tilted(tilt)) for tilt in TILTS},
    **{f"4 widths, tilt {tilt:g}, one seed": World(bowl=tilted(tilt), seeds=1) for tilt in TILTS},
}
LOSS = 2.5  # loss at the simulated optima, nats


def exponent_verdicts(world: World, cases: int, drift: float, seed: int) -> Counter[Verdict]:
    """Verdicts where the rule's expected exponent differs from the true one by `drift`."""
    sweeps = simulate(world, cases, seed)
    found: Counter[Verdict] = Counter()
    for fit, truth in zip(fit_sweeps(sweeps.cells, "lr"), sweeps.exponent, strict=True):
        expected = truth - drift
        if fit.exponent is None:
            found["inconclusive"] += 1
        else:
            found[verdict_of(fit.exponent.low, fit.exponent.high, expected, TOLERANCE)] += 1
    return found


def transfer_verdicts(world: World, cases: int, lost: float, seed: int) -> Counter[Verdict]:
    """Verdicts where the optimum beyond the fitted widths makes the law's value cost `lost` nats.

    The curvature is the same in all sweeps, so that the cost is too.
    """
    curvature = sum(world.curvature) / 2
    # the optimum lies below the law, so the law's value is too high, on the steeper side
    astray = -_octaves_above(world, lost / curvature)
    alike = replace(world, curvature=(curvature, curvature), widths=world.widths + 1, astray=astray)
    cells = simulate(alike, cases, seed).cells
    smaller = fit_sweeps(first_widths(cells, world.widths), "lr")
    found: Counter[Verdict] = Counter()
    for fit, whole in zip(smaller, fit_sweeps(cells, "lr"), strict=True):
        width = max(whole.optimum)
        if fit.line is None:
            found["inconclusive"] += 1
            continue
        forecast = Forecast.of(fit, width, None)
        found[transfer_gate(forecast, whole.optimum[width], "nats").verdict] += 1
    return found


def _octaves_above(world: World, excess: float) -> float:
    """Octaves above the optimum at which the loss is so many curvatures higher."""
    u = np.zeros((1, 1))

    def short(octaves: float) -> float:
        return float(excess_at(world, np.full((1, 1, 1), octaves), u)[0, 0, 0]) - excess

    return float(optimize.brentq(short, 0.0, 10.0)) if excess else 0.0


def first_widths(cells: Cells, widths: int) -> Cells:
    return Cells(**{name: values[:, :widths] for name, values in arrays_of(cells).items()})


def shares(found: Counter[Verdict]) -> str:
    order: Iterable[Verdict] = ("pass", "fail", "inconclusive")
    return " / ".join(f"{100 * found[verdict] / found.total():.1f}" for verdict in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500, help="simulated sweeps per cell")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| gate | world | no drift: pass / fail / inconclusive % | twice the tolerance |")
    print("|---|---|---|---|")
    for name, world in WORLDS.items():
        right = exponent_verdicts(world, options.cases, 0.0, options.seed)
        wrong = exponent_verdicts(world, options.cases, 2 * TOLERANCE, options.seed)
        print(f"| exponent | {name} | {shares(right)} | {shares(wrong)} |", flush=True)
    for name, world in WORLDS.items():
        right = transfer_verdicts(world, options.cases, 0.0, options.seed)
        wrong = transfer_verdicts(world, options.cases, 2 * SHARE * LOSS, options.seed)
        print(f"| transfer | {name} | {shares(right)} | {shares(wrong)} |", flush=True)


if __name__ == "__main__":
    main()
