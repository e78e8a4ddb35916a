"""Sizes measured in training, one number per trial: norms, updates, top singular values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Quantity = Literal[
    "alignment",
    "top_singular_value",
    "relative_update",
    "gradient_rms",
    "activation_rms",
    "activation_change_rms",
]
Column = tuple[Quantity, str]  # with the name of a parameter or module

MOST_VALUES = 1 << 16  # values kept of one activation
STEPS = 28  # Lanczos iterations
SEED = 0  # of every measurement's first vector, so that no measurement depends on the last
VALUES_AT_ONCE = 1 << 20  # values of the matrices in one batch: a copy that stays in the cache
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Measurement:
    """Values measured of one trial after some of its steps.

    Attributes:
        step: steps done; 0 is the init.
        values: each quantity that has any finite value, by name; None if a value is not finite.
    """

    step: int
    values: dict[Quantity, dict[str, float | None]]

    @classmethod
    def of(cls, step: int, columns: Sequence[Column], row: Iterable[float]) -> Measurement:
        """The measurement with the values of a row, finite or not, by column."""
        values: dict[Quantity, dict[str, float | None]] = {}
        for (quantity, name), value in zip(columns, row, strict=True):
            values.setdefault(quantity, {})[name] = value if math.isfinite(value) else None
        return cls(step, {key: by for key, by in values.items() if set(by.values()) != {None}})


def norm(stack: Tensor) -> Tensor:
    """Frobenius norm of each trial's values, [T, ...] to [T], in float64, since squares of small
    gradients underflow in float32."""
    values = stack.reshape(len(stack), -1)
    result: Tensor = torch.linalg.vector_norm(values, dim=1, dtype=torch.float64)
    return result


def rms(stack: Tensor) -> Tensor:
    """Root mean square of each trial's values, [T, ...] to [T]."""
    return norm(stack) / math.sqrt(stack[0].numel())


def relative_update(before: Tensor, after: Tensor) -> Tensor:
    """||dW||_F / ||W||_F of each trial, [T, ...] to [T], W taken before it; not
    finite if W = 0."""
    return norm(after - before) / norm(before)


def sample(output: Tensor) -> Tensor:
    """Up to MOST_VALUES values of one trial's output, always the same ones, [n]."""
    stride = -(-output.numel() // MOST_VALUES)
    while math.gcd(stride, output.shape[-1]) > 1:
        stride += 1  # otherwise it would meet the same features in every token
    return output.flatten()[::stride]


def top_by_name(stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The top singular value of each trial's matrix, [T, A, B] to [T]; the largest if a trial has
    several, [T, ..., A, B]. Matrices of one shape are processed together."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, stack in stacks.items():
        alike.setdefault(tuple(sorted(stack.shape[-2:])), []).append(name)
    found: dict[str, Tensor] = {}
    for (columns, rows), names in alike.items():
        matrices = [m for name in names for m in tallest(stacks[name]).reshape(-1, rows, columns)]
        at_once = max(1, VALUES_AT_ONCE // (rows * columns))
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
    """The top singular value of each matrix, [G, A, B] to [G], by Lanczos iteration over all.

    It is the root of the largest Ritz value of W^T W, never above the singular value, in the
    matrices' type; NaN for a matrix that is not finite. Convergence is slowest if the spectrum has
    no gap: for a large square Gaussian matrix, k steps fall short by about
    1 - cos(pi / (2 k + 1)) (the largest zero of the orthogonal polynomials of the
    Marchenko-Pastur law), 0.15% after 28 steps, and by chance a few times that; plain power
    iteration would take hundreds of steps.
    """
    scale = torch.linalg.vector_norm(matrices, torch.inf, (1, 2), keepdim=True)
    finite = scale.isfinite()
    # squares of squares would leave the range of float32
    scaled = tallest(matrices) / scale.clamp(min=TINY)
    if not finite.all():
        scaled = scaled.where(finite, 0.0)  # LAPACK raises on values that are not finite
    # a product of matrices is faster than two products with a vector in every step
    squares = torch.bmm(scaled.mT, scaled)
    basis = orthonormal(krylov_basis(squares))
    ritz = torch.linalg.eigvalsh(torch.bmm(torch.bmm(basis, squares), basis.mT))
    top: Tensor = ritz[:, -1].clamp(min=0).sqrt() * scale[:, 0, 0]
    return top.where(finite[:, 0, 0], torch.nan)


def krylov_basis(squares: Tensor) -> Tensor:
    """Nearly orthonormal rows [G, k, B] that span v, S v, S^2 v, ... for symmetric S [G, B, B].

    Rows, because on a CPU a product with a column takes many times longer.
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
    """Orthonormal rows with the same span."""
    columns: Tensor = torch.linalg.qr(rows.mT).Q
    return columns.mT
