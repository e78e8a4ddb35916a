"""Width exponents of each parameterization under Adam, relative to the base width.

A layer has a multiplier n^-a, an init std n^-b and a learning rate n^-c (abc-parameterization).
Values: Everett et al. 2024 (arXiv 2407.05872), Table 1, Adam with full alignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mutransfer_cli.rules.roles import Role

ParameterizationName = Literal["standard", "mup"]

HALF = Fraction(1, 2)
ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Abc:
    """Exponents of one role: multiplier n^-a, init std n^-b, Adam learning rate n^-c."""

    a: Fraction
    b: Fraction
    c: Fraction


UNSCALED = Abc(ZERO, ZERO, ZERO)

ADAM_FULL_ALIGNMENT: dict[ParameterizationName, dict[Role, Abc]] = {
    "standard": {
        "embedding": Abc(ZERO, ZERO, ZERO),
        "hidden": Abc(ZERO, HALF, ONE),
        "readout": Abc(ZERO, HALF, ONE),
        "vector": UNSCALED,
        "scalar": UNSCALED,
    },
    "mup": {
        "embedding": Abc(-HALF, HALF, HALF),
        "hidden": Abc(ZERO, HALF, ONE),
        "readout": Abc(HALF, HALF, HALF),
        "vector": UNSCALED,
        "scalar": UNSCALED,
    },
}

GLOBAL_RATE: frozenset[ParameterizationName] = frozenset({"standard"})


@dataclass(frozen=True)
class RoleExponents:
    """Each quantity of a role goes as (n / base_width)^x; None where there is no such quantity."""

    init_std: Fraction
    multiplier: Fraction
    lr: Fraction
    weight_decay: Fraction | None


def role_exponents(parameterization: ParameterizationName, role: Role) -> RoleExponents:
    """The exponents that are applied to a role.

    `standard` is the common practice of one global learning rate: the lr exponent applied is 0.
    Weight decay (lr-coupled) keeps lr * weight_decay constant in width for matrices with a growing
    fan-in, the "independent" rule (Kosson et al., arXiv 2510.19093), and is absent elsewhere.
    """
    abc = ADAM_FULL_ALIGNMENT[parameterization][role]
    lr = ZERO if parameterization in GLOBAL_RATE else -abc.c
    decayed = role in ("hidden", "readout")
    return RoleExponents(
        init_std=-abc.b, multiplier=-abc.a, lr=lr, weight_decay=-lr if decayed else None
    )


def expected_base_lr_exponent(parameterization: ParameterizationName) -> Fraction:
    """Exponent of width that the optimal base learning rate should show under the rule.

    0 where the rule scales every role; under one global rate the largest stable rate goes as
    n^-max(c), derived from the stability constraints of Everett et al. 2024.
    """
    if parameterization not in GLOBAL_RATE:
        return ZERO
    return -max(abc.c for abc in ADAM_FULL_ALIGNMENT[parameterization].values())
