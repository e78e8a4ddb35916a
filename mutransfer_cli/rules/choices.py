"""The choices that make a rule: roles, optimizers, parameterizations and alignment.

A role says which axes of a parameter grow with width. An optimizer enters a rule through how the
size of its updates depends on the gradient. A parameterization gives each role a forward multiplier
n^-a and an init std n^-b. Alignment is how strongly changes of weights and features line up with
what they multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from mutransfer_cli.errors import InputError

MatrixRole = Literal["embedding", "hidden", "readout"]
Role = Literal[MatrixRole, "vector", "scalar"]
LrRule = Literal["per_layer", "global"]
EpsilonRule = Literal["constant", "per_layer", "none"]

MATRIX_ROLES: tuple[MatrixRole, ...] = get_args(MatrixRole)
ROLES: tuple[Role, ...] = get_args(Role)


def role_of(
    name: str,
    growing_axes: Sequence[int],
    fan_in_axis: int | None,
    is_readout: bool,
) -> Role:
    """Find the role of a parameter from the axes that grow with width.

    Args:
        name: parameter name, for the error message.
        growing_axes: axes whose size differs between two widths.
        fan_in_axis: input axis of a matrix (1 in Linear, 0 in Embedding); None for a vector.
        is_readout: whether this matrix produces the model's output.

    Raises:
        InputError: the readout's fan-in does not grow, so width cannot scale the output.
    """
    if is_readout:
        if fan_in_axis not in growing_axes:
            raise InputError(f"readout {name}: its fan-in does not grow with width")
        return "readout"
    if not growing_axes:
        return "scalar"
    if fan_in_axis is None:
        return "vector"
    return "hidden" if fan_in_axis in growing_axes else "embedding"


Family = Literal["sgd", "adam", "adafactor", "muon"]
LrAdjustment = Literal["original", "match_rms_adamw"]


@dataclass(frozen=True)
class Optimizer:
    """The facts about an optimizer that the rules need.

    Attributes:
        family: how the size of an update depends on the gradient.
        no_epsilon: why it has no epsilon that a rule could scale; empty if it has one.
    """

    name: str
    family: Family
    no_epsilon: str = ""

    def of_role(self, role: Role) -> Optimizer:
        """The optimizer that updates a role: Muon leaves all but hidden matrices to AdamW."""
        return ADAMW if self.family == "muon" and role != "hidden" else self

    def family_of(self, role: Role) -> Family:
        return self.of_role(role).family

    def rescalings(self, role: Role) -> int:
        """How often rescaling a weight enters the rate that undoes it: W/s is trained by lr/s^this.

        Updates that follow the gradient feel it twice (their own size and the gradient's), those of
        fixed size once, those relative to the weight not at all (Yang & Hu 2022, arXiv 2203.03466,
        Lemma J.1 for SGD and Adam).
        """
        return {"sgd": 2, "adam": 1, "muon": 1, "adafactor": 0}[self.family_of(role)]


ADAMW = Optimizer("adamw", "adam")


ParameterizationName = Literal["standard", "ntk", "mup", "mean_field"]

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Layer:
    """Exponents of one role: the forward pass multiplies its weight by n^-a; its std is n^-b."""

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
    """Exponent g of each role: at init the entries of its gradient have size n^-g.

    The gradient that reaches the last features has size n^-(a + b), with a and b of the readout. A
    weight's own gradient carries its multiplier once more; the readout's sees features of size 1.
    """
    readout = layers["readout"]
    backward = readout.a + readout.b
    return {
        "embedding": backward + layers["embedding"].a,
        "hidden": backward + layers["hidden"].a,
        "readout": readout.a,
    }


AlignmentName = Literal["full", "none"]


@dataclass(frozen=True)
class LayerAlignment:
    """Exponents of one layer (Everett et al. 2024, arXiv 2407.05872); |.| is a root mean square.

    A sum of n independent terms grows as n^1/2, one of n equal terms as n; more is impossible
    (Cauchy-Schwarz).

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
    """Alignment of the roles whose fan-in grows; an embedding's rows are read one at a time."""

    hidden: LayerAlignment
    readout: LayerAlignment


_FULL = LayerAlignment(alpha=Fraction(1), omega=HALF, u=Fraction(1))
_NONE = LayerAlignment(alpha=HALF, omega=HALF, u=HALF)

FULL, NONE = Alignment(_FULL, _FULL), Alignment(_NONE, _NONE)
ALIGNMENTS: dict[AlignmentName, Alignment] = {"full": FULL, "none": NONE}
