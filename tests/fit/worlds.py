"""Made-up sweeps with known optima: bowls of several shapes, with noise, bad runs, missing runs,
cliffs and scatter.

Shapes: G sweeps, K widths, C cells, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask
from mutransfer_cli.fit.cells import FAR, Cells
from mutransfer_cli.fit.optimum import Side

Bowl = Callable[[Array], Array]  # loss in units of the curvature at octaves above the optimum
Law = Callable[[Array], Array]  # octaves that the optimum moves beyond the straight line, by width


def quartic(d: Array) -> Array:
    return d**4 / 4


def log_cosh(d: Array) -> Array:
    return 2 * np.log(np.cosh(d))


def kink(d: Array) -> Array:
    return np.abs(d)


def plateau(d: Array) -> Array:
    """A parabola that ends 1.5 octaves above the optimum."""
    return np.where(d < 1.5, d**2, 1.5**2)


def tilted(tilt: float) -> Bowl:
    """The bowl of the fit, by its closed form."""
    return lambda d: 2 * (np.expm1(tilt * d) - tilt * d) / tilt**2


def fading(octaves: float) -> Law:
    """A drift that fades as 1 / width, so many octaves at width 32."""
    return lambda u: octaves * 2.0 ** (5 - u)


def bent(bend: float) -> Law:
    """A bend in octaves per octave^2, from width 32 on."""
    return lambda u: bend * (u - 5) ** 2


@dataclass(frozen=True)
class World:
    """Parameters of the simulated losses.

    Attributes:
        ratio: octaves between neighbouring widths, from 32 on.
        noise: sd of one loss, nats.
        noise_by_octave, noise_by_width: its growth per octave off the optimum (a factor on its
            square root of 1 + that * d^2), and its exponent of width.
        heavy: whether the noise has the t distribution of 3 degrees of freedom.
        bad: runs that are `bad_by` off, up or down: one of each sweep, or of each width.
        cubic: cubic coefficient, in units of the curvature.
        bowl: shape of the bowl instead of parabola and cubic.
        bends: what the optima follow beside the straight line.
        off_centre: largest shift of the grid, octaves.
        follows: whether the grid of a width is centred at the optimum of the width before.
        diverged: share of the cells that diverge, from the highest rate down.
        scatter: sd of the true optima about the law, octaves.
        strays: number of widths whose optima lie half an octave off, up or down.
        steeper: factor on the curvature above the optimum.
        drift: growth of that factor per doubling of width.
        cliff: octaves above the optimum from which on losses are broken.
        curvature_exponent: exponent of width of the curvature.
        level, shift: sd of a seed's common shift of levels (nats) and of optima (octaves).
        again: number of best cells that alone have the seeds after the first; all cells if None.
        missing: share of the runs that are missing.
        fewer: whether the number of seeds falls from all at the smallest width to one.
        named: whether the runs of a seed are known to be of one seed.
        beyond: octaves by which the optimum lies outside the grid; negative if inside.
        end: end of the grid from which `beyond` counts.
        one_grid: whether all widths share the grid of the width whose optimum is nearest to it.
        astray: distance of the largest width's optimum from the law, octaves.
        curvature: range from which the parabola's curvature is drawn, nats per octave^2.
    """

    widths: int = 4
    ratio: float = 1.0
    cells: int = 13
    spacing: float = 0.5
    seeds: int = 3
    noise: float = 0.0025
    noise_by_octave: float = 0.0
    noise_by_width: float = 0.0
    heavy: bool = False
    bad: Literal["sweep", "width"] | None = None
    bad_by: float = 0.1
    cubic: float = 0.0
    bowl: Bowl | None = None
    bends: Law | None = None
    off_centre: float = 0.0
    follows: bool = False
    diverged: float = 0.0
    scatter: float = 0.0
    strays: int = 0
    steeper: float = 1.0
    drift: float = 0.0
    cliff: float | None = None
    curvature_exponent: float = 0.0
    level: float = 0.0
    shift: float = 0.0
    again: int | None = None
    missing: float = 0.0
    fewer: bool = False
    named: bool = True
    beyond: float | None = None
    end: Side = "high"
    one_grid: bool = False
    astray: float = 0.0
    curvature: tuple[float, float] = (0.008, 0.02)


@dataclass(frozen=True)
class Sweeps:
    """Cells, and the truth behind them: exponent [G], optima [G, K], the optimum at a log2 width
    [G], and the loss above the optimum at so many octaves [G]."""

    cells: Cells
    exponent: Array
    optimum: Array
    law: Callable[[float], Array]
    excess: Callable[[Array], Array]


def simulate(world: World, sweeps: int, seed: int) -> Sweeps:
    """Simulate sweeps whose exponents lie between -1 and 0."""
    random = np.random.default_rng(seed)
    shape = (sweeps, world.widths)
    u = np.broadcast_to(world.ratio * np.arange(world.widths) + 5.0, shape)
    exponent = random.uniform(-1, 0, sweeps)
    a = random.uniform(*world.curvature, (sweeps, 1)) * 2.0 ** (world.curvature_exponent * (u - 5))
    bends = world.bends or bent(0.0)

    def law(at: Array) -> Array:
        line = -6 + exponent[:, None] * (at - u.mean(1, keepdims=True))
        return np.asarray(line + bends(at))

    optimum = law(u) + random.normal(0, world.scatter, shape)
    optimum[:, -1] += world.astray
    if world.strays:
        stray = random.permuted(
            np.tile(np.arange(world.widths) < world.strays, (sweeps, 1)), axis=1
        )
        optimum += stray * random.choice([-0.5, 0.5], shape)
    x = _grids(world, optimum, random)
    d = x - optimum[..., None]
    loss = a[..., None] * excess_at(world, d, u)
    if world.cliff is not None:
        loss += np.where(d > world.cliff, random.uniform(0.5, 3, d.shape), 0)
    of_runs = (*d.shape, world.seeds)
    by_cell = world.noise * np.sqrt(1 + world.noise_by_octave * d**2)
    by_cell *= 2.0 ** (world.noise_by_width * (u - 5))[..., None]
    drawn = random.standard_t(3, of_runs) if world.heavy else random.normal(0, 1, of_runs)
    losses = 2.5 + loss[..., None] + by_cell[..., None] * drawn
    by_seed = (*shape, 1, world.seeds)
    losses += random.normal(0, world.level, by_seed)
    losses -= 2 * (a[..., None] * d)[..., None] * random.normal(0, world.shift, by_seed)
    losses = _spoilt(world, losses, random)
    losses[_absent(world, losses, random)] = np.nan
    gone = np.arange(world.cells) >= world.cells - round(world.diverged * world.cells)
    cells = _cells(x, losses, np.broadcast_to(gone, d.shape), u, world.named)
    return Sweeps(
        cells,
        exponent,
        optimum,
        law=lambda at: law(np.full((sweeps, 1), at))[:, 0],
        excess=lambda off: a[:, -1] * excess_at(world, off[:, None, None], u[:, -1:])[:, 0, 0],
    )


def _grids(world: World, optimum: Array, random: np.random.Generator) -> Array:
    """Positions of the cells, [G, K, C]."""
    middle = optimum + random.uniform(-0.25, 0.25, optimum.shape)
    middle += random.uniform(-world.off_centre, world.off_centre, optimum.shape)
    reach = (world.cells - 1) / 2 * world.spacing
    if world.follows:
        middle[:, 1:] = optimum[:, :-1]
    middle = np.round(middle / world.spacing) * world.spacing
    if world.beyond is not None:
        outwards = 1 if world.end == "high" else -1
        middle = optimum - outwards * (reach + world.beyond)
        if world.one_grid:
            nearest = outwards * (outwards * middle).min(1, keepdims=True)
            middle = np.broadcast_to(nearest, optimum.shape)
    return np.asarray(middle[..., None] + np.linspace(-reach, reach, world.cells))


def excess_at(world: World, d: Array, u: Array) -> Array:
    """Loss above the optimum at d [G, K, C] octaves from it, in units of the curvature."""
    if world.bowl is not None:
        return world.bowl(d)
    steeper = (world.steeper + world.drift * (u - 5))[..., None]
    return np.asarray(d**2 * np.where(d > 0, steeper, 1) + world.cubic * d**3)


def _spoilt(world: World, losses: Array, random: np.random.Generator) -> Array:
    """Losses [G, K, C, S] with bad runs."""
    if world.bad is None:
        return losses
    g, k, c, s = losses.shape
    flat = losses.reshape((g, k * c * s) if world.bad == "sweep" else (g * k, c * s))
    rows = np.arange(len(flat))
    by = world.bad_by * random.choice([-1, 1], len(flat))
    flat[rows, random.integers(0, flat.shape[1], len(flat))] += by
    return flat.reshape(losses.shape)


def _absent(world: World, losses: Array, random: np.random.Generator) -> Mask:
    """Runs that were not made, [G, K, C, S]."""
    _, k, _, s = losses.shape
    absent = random.uniform(size=losses.shape) < world.missing
    absent[..., 0] &= ~absent.all(-1)
    if world.again is not None:
        rank = losses[..., 0].argsort(-1).argsort(-1)
        absent |= (rank >= world.again)[..., None] & (np.arange(s) > 0)
    if world.fewer:
        seeds = np.maximum(np.round(np.linspace(s, 1, k)), 1)[:, None, None]
        absent = absent | (np.arange(s) >= seeds)
    return np.asarray(absent)


def _cells(x: Array, losses: Array, gone: Mask, u: Array, named: bool) -> Cells:
    last = np.where(gone, -FAR, x).max(-1)
    first_gone = np.where(gone, x, FAR).min(-1)
    losses = np.where(gone[..., None], np.nan, losses)
    seeded = np.full((*losses.shape[:2], losses.shape[-1]), named)
    upper = np.where(gone.any(-1), first_gone, last)
    return Cells.of(np.where(gone, FAR, x), losses, upper, np.array(u), seeded=seeded)
