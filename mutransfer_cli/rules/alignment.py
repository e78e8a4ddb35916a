"""Alignment: how strongly changes of weights and features line up with what they multiply."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.parameterizations import HALF

AlignmentName = Literal["full", "none"]


@dataclass(frozen=True)
class LayerAlignment:
    """Exponents of one layer (Everett et al. 2024, arXiv 2407.05872), norms as root mean squares.

    1/2 is the growth of a sum of independent terms, 1 that of a sum of equal ones; more than 1 is
    impossible (Cauchy-Schwarz).

    Attributes:
        alpha: |dW z| ~ n^alpha |dW| |z|, the change of the weights on the features of init.
        omega: |W dz| ~ n^omega |W| |dz|, the weights of init on the change of the features.
        u: |dW dz| ~ n^u |dW| |dz|, change on change.

    Raises:
        InputError: an exponent outside 0 to 1.
    """

    alpha: Fraction
    omega: Fraction
    u: Fraction

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise InputError(f"alignment {name}: found {float(value):g}, must be 0 to 1")


@dataclass(frozen=True)
class Alignment:
    """Alignment of the two roles whose fan-in grows; an embedding's rows are read one at a time."""

    hidden: LayerAlignment
    readout: LayerAlignment


_FULL = LayerAlignment(alpha=Fraction(1), omega=HALF, u=Fraction(1))
_NONE = LayerAlignment(alpha=HALF, omega=HALF, u=HALF)

FULL, NONE = Alignment(_FULL, _FULL), Alignment(_NONE, _NONE)
ALIGNMENTS: dict[AlignmentName, Alignment] = {"full": FULL, "none": NONE}
