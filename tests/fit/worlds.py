"""Made-up sweeps with known optima: bowls with noise, tilts, cliffs and scatter.

Shapes: G sweeps, K widths (one doubling apart), C cells, S seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask
from mutransfer_cli.fit.cells import FAR, Cells
from mutransfer_cli.fit.exponents import Side


@dataclass(frozen=True)
class World:
    """Parameters of the simulated losses.

    Attributes:
        noise: sd of one loss, nats.
        cubic: cubic coefficient, in units of the curvature.
        off_centre: largest shift of the grid, octaves.
        diverged: share of the cells that diverge, from the highest rate down.
        scatter: sd of the true optima about the law, octaves.
        steeper: factor on the curvature above the optimum.
        drift: growth of that factor per doubling of width.
        cliff: octaves above the optimum from which on losses are broken.
        curvature_exponent: exponent of width of the curvature.
        level, shift: sd of a seed's common shift of levels (nats) and of optima (octaves).
        beyond: octaves by which the optimum lies outside the grid; negative if inside.
        end: end of the grid from which `beyond` counts.
        one_grid: whether all widths share the grid of the width whose optimum is nearest to it.
        astray: distance of the largest width's optimum from the law, octaves.
        curvature: range from which the parabola's curvature is drawn, nats per octave^2.
    """

    widths: int = 4
    cells: int = 13
    spacing: float = 0.5
    seeds: int = 3
    noise: float = 0.0025
    cubic: float = 0.0
    off_centre: float = 0.0
    diverged: float = 0.0
    scatter: float = 0.0
    steeper: float = 1.0
    drift: float = 0.0
    cliff: float | None = None
    curvature_exponent: float = 0.0
    level: float = 0.0
    shift: float = 0.0
    beyond: float | None = None
    end: Side = "high"
    one_grid: bool = False
    astray: float = 0.0
    curvature: tuple[float, float] = (0.008, 0.02)


@dataclass(frozen=True)
class Sweeps:
    """Cells, and the truth behind them: exponent [G] and optima [G, K]."""

    cells: Cells
    exponent: Array
    optimum: Array


def simulate(world: World, sweeps: int, seed: int) -> Sweeps:
    """Simulate sweeps whose exponents lie between -1 and 0."""
    random = np.random.default_rng(seed)
    shape = (sweeps, world.widths)
    u = np.broadcast_to(np.arange(world.widths) + 5.0, shape)
    exponent = random.uniform(-1, 0, sweeps)
    a = random.uniform(*world.curvature, (sweeps, 1)) * 2.0 ** (world.curvature_exponent * (u - 5))
    law = -6 + exponent[:, None] * (u - u.mean(1, keepdims=True))
    optimum = law + random.normal(0, world.scatter, shape)
    optimum[:, -1] += world.astray
    middle = optimum + random.uniform(-0.25, 0.25, shape)
    middle += random.uniform(-world.off_centre, world.off_centre, shape)
    reach = (world.cells - 1) / 2 * world.spacing
    middle = np.round(middle / world.spacing) * world.spacing
    if world.beyond is not None:
        outwards = 1 if world.end == "high" else -1
        middle = optimum - outwards * (reach + world.beyond)
        if world.one_grid:
            nearest = outwards * (outwards * middle).min(1, keepdims=True)
            middle = np.broadcast_to(nearest, shape)
    x = middle[..., None] + np.linspace(-reach, reach, world.cells)
    d = x - optimum[..., None]
    steeper = (world.steeper + world.drift * (u - 5))[..., None]
    loss = a[..., None] * (d**2 * np.where(d > 0, steeper, 1) + world.cubic * d**3)
    if world.cliff is not None:
        loss += np.where(d > world.cliff, random.uniform(0.5, 3, d.shape), 0)
    losses = 2.5 + loss[..., None] + random.normal(0, world.noise, (*d.shape, world.seeds))
    by_seed = (*shape, 1, world.seeds)
    losses += random.normal(0, world.level, by_seed)
    losses -= 2 * (a[..., None] * d)[..., None] * random.normal(0, world.shift, by_seed)
    gone = np.arange(world.cells) >= world.cells - round(world.diverged * world.cells)
    return Sweeps(_cells(x, losses, np.broadcast_to(gone, d.shape), u), exponent, optimum)


def _cells(x: Array, losses: Array, gone: Mask, u: Array) -> Cells:
    n = np.where(gone, 0.0, losses.shape[-1])
    last = np.where(gone, -FAR, x).max(-1)
    first_gone = np.where(gone, x, FAR).min(-1)
    return Cells(
        x=np.where(gone, FAR, x),
        losses=np.where(gone[..., None], np.nan, losses),
        mean=np.where(gone, 0.0, losses.mean(-1)),
        n=n,
        upper=np.where(gone.any(-1), first_gone, last),
        log2_width=np.array(u),
    )
