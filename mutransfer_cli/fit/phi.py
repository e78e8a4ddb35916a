"""The shape of a bowl, and the soft window about its optimum in which it is fitted.

    phi(d; L) = 2 (exp(L d) - 1 - L d) / L^2 = d^2 + L d^3 / 3 + L^2 d^4 / 12 + ...

Shapes: G sweeps, K widths, C cells. Distances d in octaves, tilts L per octave.
"""

from __future__ import annotations

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.cells import Cells

SMALL, TERMS = 0.1, 7  # |L d| below which phi is summed as a series of so many terms
NARROW, WIDE = 1.5, 2.5  # half-widths of windows, octaves
COARSE = 0.75  # octaves; on a coarser grid half-widths are numbers of cells:
CELLS = {NARROW: 2, WIDE: 3}


def shape(distance: Array, tilt: Array) -> tuple[Array, Array, Array]:
    """phi, its derivative by distance, and its derivative by tilt, in their common shape.

    With z = tilt * distance, phi = d^2 f(z), dphi/dd = d g(z) and dphi/dtilt = d^3 f'(z), where
    f = 2 (exp(z) - 1 - z) / z^2 and g = 2 (exp(z) - 1) / z.
    """
    d, z = np.broadcast_arrays(distance, tilt * distance)
    small = np.abs(z) < SMALL
    far = np.where(small, 1.0, z)
    grown = np.expm1(far)
    g = 2 * grown / far
    f = (g - 2) / far
    slope = (g - 2 * f) / far
    if small.any():
        f[small], g[small], slope[small] = _series(z[small])
    return d**2 * f, d * g, d**3 * slope


def _series(z: Array) -> tuple[Array, Array, Array]:
    """f, g and f' of small z, from the terms 2 z^j / (j + 2)! of f."""
    f, g, slope, term = np.ones_like(z), np.full_like(z, 2.0), np.zeros_like(z), np.ones_like(z)
    for j in range(1, TERMS):
        slope += j * term / (j + 2)
        term = term * z / (j + 2)
        f += term
        g += (j + 2) * term
    return f, g, slope


def reach(cells: Cells, half_width: float = WIDE) -> Array:
    """Half-width of the window with its soft edge, octaves, [G, K]."""
    return reach_of(cells.spacing, half_width)


def reach_of(spacing: Array, half_width: float = WIDE) -> Array:
    """Half-width of the window with its soft edge on grids of a spacing, octaves, in its shape."""
    in_cells = CELLS[half_width] * spacing
    return np.asarray(np.where(spacing > COARSE, in_cells, half_width) + spacing / 2)


def window(cells: Cells, centre_GK: Array, half_width: float) -> Array:
    """Weights [G, K, C]: 1 within the half-width, falling to 0 over one cell at its edge.

    On grids coarser than COARSE the half-width is a number of cells. Cells weigh by their runs,
    relative to the sweep's mean number of them.
    """
    edge_GKC = reach(cells, half_width)[..., None] - np.abs(cells.x - centre_GK[..., None])
    soft_GKC = np.clip(edge_GKC / cells.spacing[..., None], 0, 1)
    return np.asarray(soft_GKC * cells.trust * cells.n / cells.mean_n[:, None, None])


def distance(cells: Cells, centre_GK: Array) -> Array:
    """Octaves above the centre, [G, K, C]; cells beyond the window, whose weight is 0, are drawn to
    its edge, so that no exponential overflows."""
    edge_GK1 = reach(cells)[..., None]
    return np.clip(cells.x - centre_GK[..., None], -edge_GK1, edge_GK1)
