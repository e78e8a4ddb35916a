"""Coverage of the exponents of learning rate and weight decay fitted together, in simulated sweeps.

Sweeps have four widths, 7 x 7 cells one octave apart, and one seed; the optima move through a fixed
grid. Prints a Markdown table: share of sweeps called a ridge, and for each exponent the coverage of
the law's interval alone / of the reported interval, and the median half-width of the reported one.

    python -m benchmarks.joint_coverage --worlds 500
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mutransfer_cli.fit.joint import Joint, fit_planes
from mutransfer_cli.fit.law import Laws
from mutransfer_cli.fit.planes import Planes

CURVATURE = (0.008, 0.02)  # nats per octave^2 along the strong direction; drawn anew for each width


@dataclass(frozen=True)
class World:
    """A kind of sweep.

    Attributes:
        lr, wd: exponents of width of the two optima.
        ratio: ratio of the weak to the strong curvature; 0 is a ridge.
        angle: direction of strong curvature, in degrees from the lr axis.
        cubic: cubic coefficient along the strong direction, in units of its curvature.
        tau: sd of the true optima about their lines on each axis, octaves.
        noise: sd of one loss, nats.
        side: number of cells along one axis.
        spacing: distance between cells, octaves.
        widths: number of widths, one octave apart.
        follow: shift of the (lr, wd) grid from width to width, octaves.
    """

    lr: float = 0.0
    wd: float = 0.0
    ratio: float = 0.5
    angle: float = 45.0
    cubic: float = 0.0
    tau: float = 0.0
    noise: float = 0.0025
    side: int = 7
    spacing: float = 1.0
    widths: int = 4
    follow: tuple[float, float] = (0.0, 0.0)

    @property
    def strong(self) -> npt.NDArray[np.float64]:
        """Unit vector across the ridge in (lr, wd)."""
        radians = np.radians(self.angle)
        return np.array([np.cos(radians), np.sin(radians)])

    @property
    def across(self) -> float:
        """Exponent across the ridge, in the scale of the exponent of lr * wd."""
        return float(np.sqrt(2) * self.strong @ np.array([self.lr, self.wd]))


def simulate(world: World, sweeps: int, random: np.random.Generator) -> Planes:
    """Simulate sweeps of one kind, with optima up to half an octave off the middle of the grids."""
    k = world.widths
    u = np.arange(k) - (k - 1) / 2
    ticks = (np.arange(world.side) - (world.side - 1) / 2) * world.spacing
    cells = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    middle = u[:, None] * np.array(world.follow)
    optimum = random.uniform(-0.5, 0.5, (sweeps, 1, 2)) + u[:, None] * [world.lr, world.wd]
    optimum = optimum + random.normal(0, world.tau, (sweeps, k, 2))
    xy = np.broadcast_to(middle[:, None] + cells, (sweeps, k, len(cells), 2))
    distance = xy - optimum[:, :, None]
    p = distance @ world.strong
    q = distance @ np.array([-world.strong[1], world.strong[0]])
    curvature = random.uniform(*CURVATURE, (sweeps, k, 1))
    loss = 3 + curvature * (p**2 + world.cubic * p**3 + world.ratio * q**2)
    loss = loss + random.normal(0, world.noise, loss.shape)
    log2_width = np.broadcast_to(7 + u, (sweeps, k)).copy()
    return Planes(
        x=xy[..., 0].copy(),
        y=xy[..., 1].copy(),
        loss=loss,
        weight=np.ones_like(loss),
        log2_width=log2_width,
        away=np.zeros((*loss.shape, 1)),
    )


def covered(laws: Laws, truth: float, half_width: npt.NDArray[np.float64]) -> float:
    """Share of the given laws whose interval holds the truth."""
    given = np.isfinite(laws.exponent)
    return float(np.mean(np.abs(laws.exponent - truth)[given] <= half_width[given]))


def cell(laws: Laws, truth: float) -> str:
    """Format the coverage of the law / reported interval and the reported median half-width."""
    given = np.isfinite(laws.exponent)
    if given.mean() < 0.02:
        return "none" if not given.any() else f"{given.sum()} given"
    law, floor = covered(laws, truth, laws.law_half_width), covered(laws, truth, laws.half_width)
    width = np.median(laws.half_width[given])
    return f"{100 * law:.1f} / {100 * floor:.1f} ({width:.3f})"


def row(name: str, world: World, joint: Joint) -> str:
    ridges = np.mean(joint.status == "ridge")
    lost = np.mean(joint.status == "insufficient")
    off = np.abs(joint.angle - world.angle) <= 1.96 * joint.angle_error
    return " | ".join(
        [
            f"| {name}",
            f"{world.lr:g}, {world.wd:g}",
            f"{100 * ridges:.1f}" + (f" (+{100 * lost:.1f} insufficient)" if lost else ""),
            cell(joint.lr, world.lr),
            cell(joint.wd, world.wd),
            cell(joint.product, world.lr + world.wd),
            cell(joint.across, world.across),
            f"{100 * off.mean():.1f} ({np.nanmedian(joint.angle_error):.2f}) |",
        ]
    )


EXPONENTS = [(lr, wd) for lr in (0.0, -1.0) for wd in (0.0, 0.5, 1.0)]
MOVING = (-1.0, 0.5)


def worlds() -> list[tuple[str, World]]:
    lr, wd = MOVING
    kinds = [(f"ratio {r:g}", World(lr, wd, ratio=r)) for r in (0.5, 0.17) for lr, wd in EXPONENTS]
    kinds += [(f"ratio {r:g}", World(lr, wd, ratio=r)) for r in (0.04, 0.02)]
    kinds += [("ridge", World(lr, wd, ratio=0.0)) for lr, wd in EXPONENTS]
    return [
        *kinds,
        ("ridge, 60 degrees", World(lr, wd, ratio=0.0, angle=60.0)),
        ("ridge, doubled noise", World(lr, wd, ratio=0.0, noise=0.005)),
        ("ridge, 5 x 5", World(lr, wd, ratio=0.0, side=5)),
        ("ridge, cubic", World(lr, wd, ratio=0.0, cubic=0.15)),
        ("ridge, tau 0.1", World(lr, wd, ratio=0.0, tau=0.1)),
        ("ridge, lr grid follows", World(lr, wd, ratio=0.0, follow=(-1.0, 0.0))),
        *[("0.5, cubic", World(0.0, b, cubic=0.15)) for b in (0.0, 0.5, 1.0)],
        ("0.5, cubic", World(lr, wd, cubic=0.15)),
        ("0.17, cubic", World(lr, wd, ratio=0.17, cubic=0.15)),
        ("0.5, tau 0.1", World(lr, wd, tau=0.1)),
        ("0.17, tau 0.1", World(lr, wd, ratio=0.17, tau=0.1)),
        ("0.5, doubled noise", World(lr, wd, noise=0.005)),
        ("0.5, lr grid follows", World(lr, wd, follow=(-1.0, 0.0))),
        ("0.17, wd the strong axis", World(lr, wd, ratio=0.17, angle=90.0)),
    ]


HEADER = """\
| bowl | lr, wd exponents | called a ridge, % | lr | wd | lr\\*wd | across the ridge | angle (se) |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--worlds", type=int, default=500, help="simulated sweeps per bowl")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(HEADER)
    for number, (name, world) in enumerate(worlds()):
        random = np.random.default_rng([arguments.seed, number])
        planes = simulate(world, arguments.worlds, random)
        print(row(name, world, fit_planes(planes)), flush=True)


if __name__ == "__main__":
    main()
