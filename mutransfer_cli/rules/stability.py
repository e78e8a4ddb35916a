"""Derivation of the learning-rate exponents: the fastest rates under which training is stable.

Everett et al. 2024 (arXiv 2407.05872): a layer computes n^-a (W + dW)(z + dz), and the three terms
that change, dW z, W dz and dW dz, must each stay bounded as n grows, in features and in logits. A
quantity of size n^-x is written as x: a product adds exponents, a sum takes the smallest. All x are
linear in the unknown exponents c, so that the stable c form a polyhedron with few faces.
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
    """The term weights . c + constant; c are learning-rate exponents, in order of MATRIX_ROLES."""

    weights: tuple[int, int, int]
    constant: Fraction

    def __add__(self, other: Linear) -> Linear:
        a, b = self.weights, other.weights
        return Linear((a[0] + b[0], a[1] + b[1], a[2] + b[2]), self.constant + other.constant)

    def at(self, c: Point) -> Fraction:
        return sum((w * x for w, x in zip(self.weights, c, strict=True)), self.constant)


# size of a sum of terms: n^-x with x the smallest of their exponents
Size = tuple[Linear, ...]


def power(exponent: Fraction) -> Size:
    """The size n^-exponent."""
    return (Linear((0, 0, 0), exponent),)


def rate(role: MatrixRole) -> Size:
    """The size n^-c of a role's learning rate."""
    one_hot = tuple(int(role == other) for other in MATRIX_ROLES)
    return (Linear((one_hot[0], one_hot[1], one_hot[2]), Fraction(0)),)


def product(*sizes: Size) -> Size:
    """The size of a product of sums: every term of one times every term of the others."""
    first, *rest = sizes
    return first if not rest else tuple(x + y for x in first for y in product(*rest))


@dataclass(frozen=True)
class LearningRates:
    """The derived rates.

    Attributes:
        c: exponent of each role: role r may use lr ~ n^-c[r].
        features: the last features move by n^-features; 0 is the same movement at all widths.
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

    Between equal sums, the earlier layer gets the faster rate. All hidden layers count as one; more
    of them give the same c unless hidden omega exceeds 1/2, where every further layer amplifies.
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
    """Size of the entries of one update of a role's weights, without the multiplier."""
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

    The gradient behind the readout is n^-a (|W| + |dW|), the larger of the two and thus the smaller
    exponent; a printed version of the constraints has the maximum.
    """
    readout = layers["readout"]
    if role == "readout":
        return power(readout.a)
    at_init = power(readout.a + readout.b)
    learned = product(power(2 * readout.a), rate("readout"))
    return product(power(layers[role].a), at_init + learned)


def change(layer: Layer, entries: Size, alignment: LayerAlignment, before: Size) -> Size:
    """Change of a layer's output, given those of its weights (entries) and its input (before)."""
    learned = product(power(layer.a - alignment.alpha), entries)
    propagated = product(power(layer.a + layer.b - alignment.omega), before)
    both = product(power(layer.a - alignment.u), entries, before)
    return learned + propagated + both


def vertices(bounded: Iterable[Linear]) -> list[Point]:
    """Corners of the region where every term is at least 0, exactly.

    Every c is bounded below, so that the region has corners. The least feature exponent, a minimum
    of linear functions, is reached at one, and so is the least sum on the face where it is reached.
    """
    tightest: dict[tuple[int, int, int], Fraction] = {}
    for term in bounded:
        known = tightest.get(term.weights, term.constant)
        tightest[term.weights] = min(known, term.constant)
    faces = [Linear(weights, constant) for weights, constant in tightest.items()]
    corners = (intersection(three) for three in combinations(faces, 3))
    return [c for c in corners if c is not None and all(face.at(c) >= 0 for face in faces)]


def intersection(planes: Sequence[Linear]) -> Point | None:
    """Point where three planes `term = 0` meet (Cramer's rule); None if there is not one point."""
    rows = [plane.weights for plane in planes]
    whole = determinant(rows)
    if not whole:
        return None

    def coordinate(column: int) -> Fraction:
        replaced: list[tuple[Fraction | int, ...]] = [
            (*plane.weights[:column], -plane.constant, *plane.weights[column + 1 :])
            for plane in planes
        ]
        return Fraction(determinant(replaced)) / whole

    return coordinate(0), coordinate(1), coordinate(2)


def determinant(rows: Sequence[Sequence[Fraction | int]]) -> Fraction | int:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
