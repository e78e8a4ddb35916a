"""Answers of the fit for optima at, next to or outside an end of the grid, or without any optimum.

Takes three minutes on one CPU core and prints one row per world, in per cent:

- widths accepted, sweeps with all four widths accepted, and sweeps with an exponent;
- among widths not accepted, those called not_bracketed on the right side;
- among sweeps without an exponent, those whose sentence asks for values on the right side and not
  on the other;
- coverage of the interval of an accepted optimum.

    python -m benchmarks.fit_edges
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from mutransfer_cli.fit.exponent import fit_sweeps
from mutransfer_cli.fit.optimum import Side
from tests.fit.worlds import World, simulate

MEASURED = {
    "clean, 3 seeds": World(),
    "noisy, one seed": World(noise=0.005, seeds=1),
}
ENDS: dict[Side, str] = {"high": "upper end", "low": "lower end"}
ASKED: dict[Side, str] = {"high": "add higher values", "low": "add lower values"}
OTHER: dict[Side, Side] = {"high": "low", "low": "high"}


def worlds(measured: World) -> Iterator[tuple[str, World]]:
    for end, name in ENDS.items():
        at_end = replace(measured, end=end)
        for beyond in (0.5, 1.0):
            yield f"{beyond:g} outside, {name}", replace(at_end, beyond=beyond)
        far = replace(at_end, beyond=2.0, one_grid=True)
        yield f"2 or more outside one grid, {name}", far
    cliff = replace(measured, end="low", beyond=0.5, cliff=1.5)
    yield "0.5 outside, lower end, cliff at 1.5", cliff
    for end, name in ENDS.items():
        at_end = replace(measured, end=end)
        yield f"on the last cell, {name}", replace(at_end, beyond=0.0)
        for inside in (0.5, 1.0, 1.5):
            yield f"{inside:g} inside, {name}", replace(at_end, beyond=-inside)
    yield "no curvature at all", replace(measured, curvature=(0.0, 0.0))


def asks_for(sentence: str, end: Side) -> bool:
    return ASKED[end] in sentence and ASKED[OTHER[end]] not in sentence


def share(those: Iterable[bool]) -> str:
    """Return the share in per cent, or nothing if there are no cases."""
    counted = list(those)
    return f"{100 * np.mean(counted):.2f}" if counted else ""


def row(name: str, world: World, sweeps: int, seed: int) -> str:
    truth = simulate(world, sweeps, seed)
    fits = fit_sweeps(truth.cells, "lr")
    bowls = [list(fit.optimum.values()) for fit in fits]
    pairs = [
        (bowl, optimum)
        for of_sweep, optima in zip(bowls, truth.optimum, strict=True)
        for bowl, optimum in zip(of_sweep, optima, strict=True)
    ]
    right_side = share(
        (bowl.status, bowl.side) == ("not_bracketed", world.end)
        for bowl, _ in pairs
        if bowl.status != "ok"
    )
    right_advice = share(asks_for(fit.sentence, world.end) for fit in fits if fit.line is None)
    held = share(
        bowl.octaves[0] <= optimum <= bowl.octaves[2]
        for bowl, optimum in pairs
        if bowl.status == "ok"
    )
    columns = [
        name,
        share(bowl.status == "ok" for bowl, _ in pairs),
        share(all(bowl.status == "ok" for bowl in of_sweep) for of_sweep in bowls),
        share(fit.line is not None for fit in fits),
        right_side if world.beyond is not None else "",
        right_advice if world.beyond is not None else "",
        held if world.beyond is not None and world.beyond < 0 else "",
    ]
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=500, help="simulated sweeps per row")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        "| optimum, octaves from the end | widths accepted % | all four accepted % "
        "| with an exponent % | right side named % | right values asked for % "
        "| optimum: coverage % |"
    )
    print("|---|---|---|---|---|---|---|")
    for measured, world in MEASURED.items():
        for name, at in worlds(world):
            print(row(f"{measured}: {name}", at, options.sweeps, options.seed), flush=True)


if __name__ == "__main__":
    main()
