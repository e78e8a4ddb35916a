from __future__ import annotations

from fractions import Fraction

import pytest

from mutransfer_cli.rules.exponents import (
    ParameterizationName,
    expected_base_lr_exponent,
    role_exponents,
)
from mutransfer_cli.rules.roles import Role

HALF = Fraction(1, 2)


@pytest.mark.parametrize(
    ("parameterization", "role", "init_std", "multiplier", "lr", "weight_decay"),
    [
        # Everett et al. 2024, Table 1, Adam, full alignment; standard with one global rate
        ("standard", "embedding", 0, 0, 0, None),
        ("standard", "hidden", -HALF, 0, 0, 0),
        ("standard", "readout", -HALF, 0, 0, 0),
        ("standard", "vector", 0, 0, 0, None),
        ("mup", "embedding", -HALF, HALF, -HALF, None),
        ("mup", "hidden", -HALF, 0, -1, 1),
        ("mup", "readout", -HALF, -HALF, -HALF, HALF),
        ("mup", "vector", 0, 0, 0, None),
        ("mup", "scalar", 0, 0, 0, None),
    ],
)
def test_table(
    parameterization: ParameterizationName,
    role: Role,
    init_std: Fraction,
    multiplier: Fraction,
    lr: Fraction,
    weight_decay: Fraction | None,
) -> None:
    x = role_exponents(parameterization, role)
    assert (x.init_std, x.multiplier, x.lr, x.weight_decay) == (
        init_std,
        multiplier,
        lr,
        weight_decay,
    )


@pytest.mark.parametrize("role", ["hidden", "readout"])
@pytest.mark.parametrize("parameterization", ["standard", "mup"])
def test_decay_per_step_is_constant_in_width(
    parameterization: ParameterizationName, role: Role
) -> None:
    x = role_exponents(parameterization, role)
    assert x.weight_decay is not None
    assert x.lr + x.weight_decay == 0


def test_mup_transfers_and_a_global_rate_falls_as_one_over_width() -> None:
    assert expected_base_lr_exponent("mup") == 0
    assert expected_base_lr_exponent("standard") == -1
