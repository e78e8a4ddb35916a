"""The learning-rate exponents, derived: the fastest rates under which nothing blows up with width.

Everett et al. 2024 (arXiv 2407.05872): a layer computes n^-a (W + dW)(z + dz), and the three terms
that change, dW z, W dz and dW dz, must each stay bounded, in the features and in the logits. With
a quantity of size n^-x written as x, a product adds exponents and a sum takes the smallest. All x
are linear in the unknown exponents c, so that the stable c form a polyhedron with few faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations

from mutransfer_cli.rules.choices import (
    HALF,
    MATRIX_ROLES,
    PARAMETERIZATIONS,
    Alignment,
    Layer,
    LayerAlignment,
    Layers,
    LrAdjustment,
    MatrixRole,
    Optimizer,
    ParameterizationName,
)

Point = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True)
class Linear:
    """weights . c + constant, with c the learning-rate exponents in the order of MATRIX_ROLES."""

    weights: tuple[int, int, int]
    constant: Fraction

    def __add__(self, other: Linear) -> Linear:
        a, b = self.weights, other.weights
        return Linear((a[0] + b[0], a[1] + b[1], a[2] + b[2]), self.constant + other.constant)

    def at(self, c: Point) -> Fraction:
        return sum((w * x for w, x in zip(self.weights, c, strict=True)), self.constant)


# a sum of terms: its size is n^-(the smallest of their exponents)
Size = tuple[Linear, ...]


def power(exponent: Fraction) -> Size:
    return (Linear((0, 0, 0), exponent),)


def rate(role: MatrixRole) -> Size:
    one_hot = tuple(int(role == other) for other in MATRIX_ROLES)
    return (Linear((one_hot[0], one_hot[1], one_hot[2]), Fraction(0)),)


def product(*sizes: Size) -> Size:
    first, *rest = sizes
    return first if not rest else tuple(x + y for x in first for y in product(*rest))


@dataclass(frozen=True)
class LearningRates:
    """The derived rates: role r may use lr ~ n^-c[r].

    Attributes:
        c: exponent of each role.
        features: the last features move as n^-features; 0 is movement at all widths.
    """

    c: dict[MatrixRole, Fraction]
    features: Fraction


@cache
def derive_rates(
    parameterization: ParameterizationName,
    optimizer: Optimizer,
    alignment: Alignment,
    lr_adjustment: LrAdjustment = "original",
) -> LearningRates:
    """The stable c under which the features move most, and among those the fastest (least sum).

    Equal sums are decided for the earlier layer. All hidden layers count as one; more of them give
    the same c unless omega of hidden is above 1/2, where every further layer amplifies.
    """
    layers = PARAMETERIZATIONS[parameterization]
    entries = {
        role: update_entries(optimizer, role, layers, lr_adjustment) for role in MATRIX_ROLES
    }
    embedding = product(power(layers["embedding"].a), entries["embedding"])
    hidden_alignment = alignment.hidden
    if optimizer.family == "muon":
        # |O z| = |z| for an orthogonal O with entries n^-1/2: neither more nor less than 1/2
        hidden_alignment = LayerAlignment(alpha=HALF, omega=alignment.hidden.omega, u=HALF)
    hidden = change(layers["hidden"], entries["hidden"], hidden_alignment, embedding)
    logits = change(layers["readout"], entries["readout"], alignment.readout, hidden)
    bounded = [*embedding, *hidden, *logits]
    if optimizer.family == "adafactor":
        bounded += [term for role in MATRIX_ROLES for term in rate(role)]

    def moves(c: Point) -> Fraction:
        return min(term.at(c) for term in hidden)

    c = min(vertices(bounded), key=lambda c: (moves(c), sum(c), c))
    return LearningRates(dict(zip(MATRIX_ROLES, c, strict=True)), features=moves(c))


def update_entries(
    optimizer: Optimizer, role: MatrixRole, layers: Layers, lr_adjustment: LrAdjustment
) -> Size:
    """Size of the entries of one update of a role's weights, before its multiplier."""
    match optimizer.family_of(role):
        case "sgd":
            return product(rate(role), gradient(role, layers))
        case "adam":
            return rate(role)
        case "adafactor":
            return product(rate(role), power(layers[role].b))
        case "muon":
            # entries of an orthogonal matrix are n^-1/2, those matched to AdamW's are of size 1
            return product(rate(role), power(HALF if lr_adjustment == "original" else Fraction(0)))


def gradient(role: MatrixRole, layers: Layers) -> Size:
    """Size of a role's gradient during training.

    What flows back through the readout is n^-a (|W| + |dW|), the larger of the two: the smaller
    exponent, where a printed version of the constraints has the maximum.
    """
    readout = layers["readout"]
    if role == "readout":
        return power(readout.a)
    at_init = power(readout.a + readout.b)
    learned = product(power(2 * readout.a), rate("readout"))
    return product(power(layers[role].a), at_init + learned)


def change(layer: Layer, entries: Size, alignment: LayerAlignment, before: Size) -> Size:
    """Change of a layer's output by that of its weights (entries) and of its input (before)."""
    learned = product(power(layer.a - alignment.alpha), entries)
    propagated = product(power(layer.a + layer.b - alignment.omega), before)
    both = product(power(layer.a - alignment.u), entries, before)
    return learned + propagated + both


def vertices(bounded: Iterable[Linear]) -> list[Point]:
    """Corners of the region where every term is at least 0, exactly.

    The region has corners (every c is bounded below), and both the least feature exponent, a
    minimum of linear functions, and the least sum on the face where it is reached lie at one.
    """
    tightest: dict[tuple[int, int, int], Fraction] = {}
    for term in bounded:
        known = tightest.get(term.weights, term.constant)
        tightest[term.weights] = min(known, term.constant)
    faces = [Linear(weights, constant) for weights, constant in tightest.items()]
    corners = (intersection(three) for three in combinations(faces, 3))
    return [c for c in corners if c is not None and all(face.at(c) >= 0 for face in faces)]


def intersection(planes: Sequence[Linear]) -> Point | None:
    """Where three planes `term = 0` meet (Cramer's rule); None when not in one point."""
    rows = [plane.weights for plane in planes]
    right = [-plane.constant for plane in planes]
    whole = determinant(rows)
    if not whole:
        return None
    x, y, z = (
        Fraction(
            determinant(
                [
                    (*row[:column], value, *row[column + 1 :])
                    for row, value in zip(rows, right, strict=True)
                ]
            )
        )
        / whole
        for column in range(3)
    )
    return x, y, z


def determinant(rows: Sequence[Sequence[Fraction | int]]) -> Fraction | int:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
