from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import Any

import pytest

from tests.recipe.formats.conftest import QUERY, Document, claimed_once, executed, keeps, written

NAMES = {
    "embedding": ["embeddings.weight"],
    "readout": ["lm_head.w_out.weight"],
    "vector": [
        "lm_head.norm.weight",
        *(f"blocks.{n}.{x}_norm.weight" for n in (0, 11) for x in ("attention", "feed_forward")),
    ],
    "query": ["blocks.11.attention.w_q.weight"],
    "hidden": [
        *(f"blocks.11.attention.w_{x}.weight" for x in ("k", "v", "out")),
        *(f"blocks.0.feed_forward.w{n}.weight" for n in (1, 2, 3)),
    ],
}


@pytest.fixture
def run_there(paper: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """Execute an emitted file beside OLMo-core's config classes."""
    schedulers = dict.fromkeys(("LinearWithWarmup", "CosWithWarmup"), keeps)
    paper("olmo_core.optim", AdamWConfig=keeps, OptimGroupOverride=keeps, **schedulers)
    return executed


def claims(emitted: dict[str, Any], names: list[str]) -> Iterator[tuple[str, float, float]]:
    config = emitted["OPTIM"]
    claimed: set[str] = set()
    for override in config.group_overrides:
        for glob in override.params:
            found = [name for name in names if fnmatch(name, glob)]
            assert found, "a glob that matches nothing is an error there"
            claimed |= set(found)
            yield from ((n, override.opts["lr"], override.opts["weight_decay"]) for n in found)
    rest = [name for name in names if name not in claimed]
    yield from ((name, config.lr, config.weight_decay) for name in rest)


Run = Callable[[str], dict[str, Any]]


def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, run_there: Run
) -> None:
    emitted = run_there(written(document(optimizer={"weight_decay": 0.1}), "olmo-core"))
    claimed_once(NAMES, lambda names: claims(emitted, names))


def test_init_is_scaled_by_role(document: Document, run_there: Run) -> None:
    emitted = run_there(written(document(), "olmo-core", folded=True))
    expected = {"embedding": 1, "readout": 1 / 16, "vector": 1, "hidden": 1 / 4, "query": QUERY / 4}
    assert emitted["INIT_FACTORS"] == pytest.approx(expected, rel=1e-5)
    for role, names in NAMES.items():
        assert {emitted["role_of"](name) for name in names} == {role}
