from __future__ import annotations

import pytest

from mutransfer_cli.rules.plan import BaseParameter, BaseValues, plan

BASE = (
    BaseParameter("embedding.weight", "embedding", (256, 32), (1,), 1.0),
    BaseParameter("up.weight", "hidden", (128, 32), (0, 1), 32**-0.5),
    BaseParameter("readout.weight", "readout", (256, 32), (1,), 32**-0.5),
)
VALUES = BaseValues(lr=0.01, weight_decay=0.1, eps=1e-8)


def test_at_the_base_width_every_parameterization_is_the_plain_model() -> None:
    for planned in (plan(BASE, "standard", 32, 32, VALUES), plan(BASE, "mup", 32, 32, VALUES)):
        for base, here in zip(BASE, planned, strict=True):
            assert (here.name, here.shape) == (base.name, base.shape)
            assert (here.init_std, here.multiplier) == (base.init_std, 1.0)
            assert (here.lr, here.eps) == (0.01, 1e-8)


def test_mup_at_four_times_the_width() -> None:
    embedding, hidden, readout = plan(BASE, "mup", 32, 128, VALUES)
    assert (embedding.shape, hidden.shape, readout.shape) == ((256, 128), (512, 128), (256, 128))
    assert (embedding.multiplier, hidden.multiplier, readout.multiplier) == (2.0, 1.0, 0.5)
    assert (embedding.lr, hidden.lr, readout.lr) == pytest.approx((0.005, 0.0025, 0.005))
    assert hidden.init_std == pytest.approx(128**-0.5)
    assert (embedding.weight_decay, hidden.weight_decay) == pytest.approx((0.0, 0.4))


def test_standard_changes_only_the_init() -> None:
    for base, here in zip(BASE, plan(BASE, "standard", 32, 128, VALUES), strict=True):
        assert (here.lr, here.multiplier) == (0.01, 1.0)
        assert here.init_std == (base.init_std if base.role == "embedding" else 128**-0.5)
