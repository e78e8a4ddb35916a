"""The parameterizations: forward multiplier n^-a and init std n^-b of each role."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mutransfer_cli.rules.roles import MatrixRole

ParameterizationName = Literal["standard", "ntk", "mup", "mean_field"]

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Layer:
    """Exponents of one role: its weight enters the forward pass times n^-a, with std n^-b."""

    a: Fraction
    b: Fraction


Layers = dict[MatrixRole, Layer]


def _layers(*ab: tuple[Fraction | int, Fraction | int]) -> Layers:
    embedding, hidden, readout = (Layer(Fraction(a), Fraction(b)) for a, b in ab)
    return {"embedding": embedding, "hidden": hidden, "readout": readout}


# Everett et al. 2024 (arXiv 2407.05872), Table 1: (a, b) of embedding, hidden, readout. Stable at
# init: a + b is 0 for the embedding, 1/2 for hidden, at least 1/2 for the readout.
PARAMETERIZATIONS: dict[ParameterizationName, Layers] = {
    "standard": _layers((0, 0), (0, HALF), (0, HALF)),
    "ntk": _layers((0, 0), (HALF, 0), (HALF, 0)),
    "mup": _layers((-HALF, HALF), (0, HALF), (HALF, HALF)),
    "mean_field": _layers((0, 0), (HALF, 0), (1, 0)),
}


def gradient_exponents(layers: Layers) -> dict[MatrixRole, Fraction]:
    """g of each role: at init the entries of its gradient are of size n^-g.

    The gradient that reaches the last features has size n^-(a + b) of the readout; a weight's own
    gradient carries its multiplier once more, and the readout's sees features of size 1.
    """
    readout = layers["readout"]
    backward = readout.a + readout.b
    return {
        "embedding": backward + layers["embedding"].a,
        "hidden": backward + layers["hidden"].a,
        "readout": readout.a,
    }
