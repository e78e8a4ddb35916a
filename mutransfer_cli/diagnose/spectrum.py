"""The top singular value of matrices, by Lanczos iteration over all of them at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

STEPS = 28
SEED = 0  # of the first vector: the same in every measurement, so that none depends on the last
MOST_VALUES = 1 << 20  # of the matrices that are taken together: a copy that stays in the cache
TINY = torch.finfo(torch.float32).tiny


def top_by_name(stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The top singular value of each trial's matrix, [T, A, B] to [T]; of stacks of matrices,
    [T, ..., A, B], the largest of them. Those of one shape are taken together."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, stack in stacks.items():
        alike.setdefault(tuple(sorted(stack.shape[-2:])), []).append(name)
    found: dict[str, Tensor] = {}
    for (columns, rows), names in alike.items():
        matrices = [m for name in names for m in tallest(stacks[name]).reshape(-1, rows, columns)]
        at_once = max(1, MOST_VALUES // (rows * columns))
        parts = (matrices[i : i + at_once] for i in range(0, len(matrices), at_once))
        tops = torch.cat([top_singular_values(torch.stack(part)) for part in parts])
        counts = [stacks[name].numel() // (rows * columns) for name in names]
        for name, top in zip(names, torch.split(tops, counts), strict=True):
            found[name] = top.view(len(stacks[name]), -1).amax(1)
    return {name: found[name] for name in stacks}


def tallest(stack: Tensor) -> Tensor:
    """[..., A, B] or its transpose, whichever has no more columns than rows."""
    return stack if stack.shape[-2] >= stack.shape[-1] else stack.mT


def top_singular_values(matrices: Tensor) -> Tensor:
    """Of each matrix, [G, A, B] to [G], in the matrices' type; NaN where one is not finite.

    The root of the largest Ritz value of W^T W, never above the singular value. It is slowest where
    the spectrum has no gap: of a large square matrix of Gaussian values the k-th lacks about
    1 - cos(pi / (2 k + 1)) (the largest zero of the orthogonal polynomials of the
    Marchenko-Pastur law), 0.15 % after 28 steps, and by chance a few times that; plain power
    iteration would take hundreds of steps.
    """
    scale = torch.linalg.vector_norm(matrices, torch.inf, (1, 2), keepdim=True)
    finite = scale.isfinite()
    # squares of squares would leave float32
    scaled = tallest(matrices) / scale.clamp(min=TINY)
    if not finite.all():
        scaled = scaled.where(finite, 0.0)  # LAPACK raises on what is not finite
    # a product of matrices is faster than two products with a vector in every step
    squares = torch.bmm(scaled.mT, scaled)
    basis = orthonormal(krylov_basis(squares))
    ritz = torch.linalg.eigvalsh(torch.bmm(torch.bmm(basis, squares), basis.mT))
    top: Tensor = ritz[:, -1].clamp(min=0).sqrt() * scale[:, 0, 0]
    return top.where(finite[:, 0, 0], torch.nan)


def krylov_basis(squares: Tensor) -> Tensor:
    """About orthonormal vectors [G, k, B] that span v, S v, S^2 v, ... of symmetric S [G, B, B].

    They are rows: on a CPU a product with a column takes many times longer.
    """
    G, B, _ = squares.shape
    basis = squares.new_zeros(G, min(STEPS, B), B)
    first = torch.randn(B, generator=torch.Generator().manual_seed(SEED))
    row = first.to(squares).expand(G, 1, B)
    for step in range(basis.shape[1]):
        row = torch.baddbmm(row, torch.bmm(row, basis.mT), basis, alpha=-1)
        row = row / torch.linalg.vector_norm(row, dim=2, keepdim=True).clamp(min=TINY)
        basis[:, step] = row[:, 0]
        row = torch.bmm(row, squares)
    return basis


def orthonormal(rows: Tensor) -> Tensor:
    columns: Tensor = torch.linalg.qr(rows.mT).Q
    return columns.mT
