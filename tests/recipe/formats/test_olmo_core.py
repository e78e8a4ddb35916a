"""The emitted text beside stand-ins; `tests/trainers` runs it in OLMo-core itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from types import SimpleNamespace
from typing import Any

import pytest

from tests.recipe.formats.conftest import (
    INIT,
    LR,
    WIDTH,
    Document,
    claimed_once,
    executed,
    keeps,
    without_protocol,
    written,
)

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
        "blocks.0._checkpoint_wrapped_module.attention.w_k.weight",
    ],
}
OWN_SCALE = {"attention_scale": "1/sqrt(d_head)"}


class Model(SimpleNamespace):
    """A model and its config in one, as far as the emitted file looks at them."""

    def __init__(self, names: list[str], **changes: Any) -> None:
        heads = SimpleNamespace(attention=SimpleNamespace(head_dim=8))
        stock = {"tie_word_embeddings": False, "embed_scale": None, "d_model": WIDTH}
        super().__init__(names=names, blocks={"0": heads}, **stock | changes)

    def build(self, init_device: str) -> Model:
        assert init_device == "meta"
        return self

    def named_parameters(self) -> list[tuple[str, None]]:
        return [(name, None) for name in self.names]


Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run_there(paper: Callable[..., Any]) -> Run:
    """Execute an emitted file beside OLMo-core's config classes."""
    schedulers = dict.fromkeys(("LinearWithWarmup", "CosWithWarmup"), keeps)
    paper("olmo_core.optim", AdamWConfig=keeps, OptimGroupOverride=keeps, **schedulers)
    return executed


def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, run_there: Run
) -> None:
    emitted = run_there(written(document(optimizer={"weight_decay": 0.1}), "olmo-core"))

    def claims(names: list[str]) -> Iterator[tuple[str, float, float]]:
        config = emitted["optim"](Model(names))
        claimed: set[str] = set()
        for override in config.group_overrides:
            assert set(override.opts) == {"lr", "weight_decay", "betas", "eps"}
            for glob in override.params:
                found = [name for name in names if fnmatch(name, glob)]
                assert found, "a glob that matches nothing is an error there"
                claimed |= set(found)
                yield from ((n, override.opts["lr"], override.opts["weight_decay"]) for n in found)
        rest = [name for name in names if name not in claimed]
        yield from ((name, config.lr, config.weight_decay) for name in rest)

    claimed_once(NAMES, claims)


def test_inits_are_absolute(document: Document, run_there: Run) -> None:
    emitted = run_there(written(document(), "olmo-core"))
    assert emitted["INIT"] == INIT
    for role, names in NAMES.items():
        assert set(emitted["roles_of"](Model(names)).values()) == {role}


REFUSED = {
    "attention.w_qkv": "which share this matrix with keys and values; build the model",
    "attention.q_norm": "the norm takes the attention scale out of the queries again",
    "feed_forward_moe.router": "OLMo-core's Llama has no such parameter",
    "attention.w_g": "OLMo-core's Llama has no such parameter",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_parameter_without_values_is_refused(
    document: Document, run_there: Run, name: str
) -> None:
    emitted = run_there(written(document(), "olmo-core"))
    with pytest.raises(ValueError, match=rf"^blocks\.0\.{name}\.weight: .*{REFUSED[name]}"):
        emitted["roles_of"](Model([f"blocks.0.{name}.weight"]))


def test_a_fused_matrix_is_hidden_where_queries_have_no_values_of_their_own(
    document: Document, run_there: Run
) -> None:
    emitted = run_there(written(document(model=OWN_SCALE), "olmo-core"))
    names = ["blocks.0.attention.w_qkv.weight", "blocks.0.attention.q_norm.weight"]
    assert list(emitted["roles_of"](Model(names)).values()) == ["hidden", "vector"]


def test_a_tied_model_is_refused(document: Document, run_there: Run) -> None:
    emitted = run_there(written(document(), "olmo-core"))
    values = rf"\(learning rate {LR:.4g} and {LR / 16:.4g}, init std 1 and 0.01562\), so that one"
    with pytest.raises(ValueError, match=values):
        emitted["optim"](Model([], tie_word_embeddings=True))


def test_one_rate_for_all(document: Document, run_there: Run) -> None:
    emitted = run_there(written(without_protocol(document()), "olmo-core"))
    assert emitted["OPTIM"].lr == pytest.approx(LR)
    assert not hasattr(emitted["OPTIM"], "group_overrides")
