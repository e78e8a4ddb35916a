from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.files.recipe import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.apply.made import WIDTH
from tests.emit.test_recipe import exponents, recipe_of

Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    """muP from base width 16 on, with weight decay."""
    tiny["optimizer"] = {"weight_decay": 0.1}
    return prepare(tiny)


@pytest.fixture
def unfolded(sweep: Sweep) -> Recipe:
    """The recipe of the proxy at width 64."""
    return recipe_of(exponents(sweep), WIDTH)


@pytest.fixture
def folded(sweep: Sweep) -> Recipe:
    """The same without multipliers."""
    return recipe_of(exponents(sweep), WIDTH, folded=True)
