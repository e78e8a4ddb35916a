"""Recipes that are made once, as no test changes them."""

from __future__ import annotations

import copy

import pytest

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import TINY
from tests.recipe.made import NAMES, WIDTH, Net, loaded
from tests.recipe.test_build import exponents


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A muP sweep of base width 16 with weight decay."""
    folder = tmp_path_factory.mktemp("apply")
    (folder / "text.txt").write_text("the quick brown fox\n" * 800)
    raw = copy.deepcopy(TINY) | {"optimizer": {"weight_decay": 0.1}}
    return Sweep.prepare(validated(SweepSpec, raw, "spec"), folder)


@pytest.fixture(scope="session")
def fitted(sweep: Sweep) -> Exponents:
    return exponents(sweep)


@pytest.fixture(scope="session")
def unfolded(fitted: Exponents) -> Recipe:
    """The recipe of the proxy at width 64."""
    return build_recipe(fitted, Target(WIDTH, {}))


@pytest.fixture(scope="session")
def folded(fitted: Exponents) -> Recipe:
    """The same without multipliers, and with the attention scale in the query matrices."""
    recipe = build_recipe(fitted, Target(WIDTH, {}, folded=True))
    assert recipe.attention_scale is not None
    scale = recipe.attention_scale.model_copy(update={"folded": True})
    return recipe.model_copy(update={"attention_scale": scale})


@pytest.fixture
def recipe(folded: Recipe) -> LoadedRecipe:
    """A recipe at four times the base width, where embeddings have four times the others' rate."""
    return loaded(folded, NAMES)


@pytest.fixture
def model() -> Net:
    return Net()
