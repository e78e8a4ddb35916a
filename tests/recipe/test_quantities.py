"""A weight decay in its convention."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.quantities import WeightDecay


def decay(value: float, **convention: Any) -> WeightDecay:
    return WeightDecay(value=value, status="assumed", source="here", **convention)


def test_a_weight_decay_is_converted_for_its_rate() -> None:
    assert decay(0.1, convention="lr_coupled").coupled(0.01, None) == 0.1
    assert decay(0.001, convention="independent").coupled(0.01, None) == pytest.approx(0.1)
    assert decay(0.001).coupled(0.01, "independent") == pytest.approx(0.1)
    assert decay(0.0).coupled(0.01, None) == 0.0, "nothing needs no convention"
    with pytest.raises(InputError, match=r"weight_decay 0\.001 has no convention"):
        decay(0.001).coupled(0.01, None)
