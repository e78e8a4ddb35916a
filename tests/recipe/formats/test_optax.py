"""The tables of the emitted file; tests/trainers/test_optax.py runs its functions in JAX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from tests.recipe.formats.conftest import (
    INIT,
    WIDTH,
    Document,
    claimed_once,
    executed,
    without_protocol,
    written,
)

LEVANTER = {
    "embedding": ["embeddings/token_embeddings/weight"],
    "readout": ["lm_head/weight"],
    "vector": [
        "transformer/norm/weight",
        "transformer/layers/stacked/input_layernorm/weight",
        "transformer/layers/blocks/11/post_attention_layernorm/weight",
    ],
    "query": [f"transformer/layers/{x}/self_attn/q_proj/weight" for x in ("stacked", "blocks/11")],
    "hidden": [
        *(f"transformer/layers/stacked/self_attn/{x}_proj/weight" for x in "kvo"),
        *(f"transformer/layers/blocks/0/mlp/{x}_proj/weight" for x in ("gate", "up", "down")),
    ],
}
MAXTEXT = {
    "embedding": ["token_embedder/embedding"],
    "readout": ["decoder/logits_dense/kernel"],
    "vector": [
        "decoder/decoder_norm/scale",
        "decoder/layers/pre_self_attention_layer_norm/scale",
        "decoder/layers_11/post_self_attention_layer_norm/scale",
    ],
    "query": [f"decoder/{x}/self_attention/query/kernel" for x in ("layers", "layers_11")],
    "hidden": [
        *(f"decoder/layers/self_attention/{x}/kernel" for x in ("key", "value", "out")),
        *(f"decoder/layers_0/mlp/{x}/kernel" for x in ("wi_0", "wi_1", "wo")),
    ],
}


@pytest.fixture
def run_there(paper: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """Execute an emitted file beside an empty JAX."""
    paper("jax")
    paper("optax", constant_schedule=lambda value: lambda step: value)
    return executed


def claims(emitted: dict[str, Any], names: list[str]) -> Iterator[tuple[str, float, float]]:
    for name in names:
        for pattern, (label, *_) in emitted["LABELS"].items():
            if re.fullmatch(pattern, name):
                values = emitted["GROUPS"][label]
                yield name, values["learning_rate"], values["weight_decay"]


Run = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("names", [LEVANTER, MAXTEXT])
def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, run_there: Run, names: dict[str, list[str]]
) -> None:
    emitted = run_there(written(document(optimizer={"weight_decay": 0.1}), "optax"))
    claimed_once(names, lambda found: claims(emitted, found))
    assert {frozenset(values) for values in emitted["GROUPS"].values()} == {
        frozenset({"learning_rate", "b1", "b2", "eps", "weight_decay"})
    }, "nothing is left to optax's defaults"


def test_init_is_absolute(document: Document, run_there: Run) -> None:
    emitted = run_there(written(document(), "optax", folded=True))
    assert emitted["INIT"] == INIT


def test_queries_have_a_label_of_their_own_with_the_usual_attention(
    document: Document, run_there: Run
) -> None:
    """MaxText has no 1/sqrt(head size), so that its queries' values differ from Levanter's."""
    emitted = run_there(written(document(model={"attention_scale": "1/sqrt(d_head)"}), "optax"))
    assert emitted["GROUPS"]["query"] == emitted["GROUPS"]["hidden"]
    assert emitted["INIT"]["query"] == emitted["INIT"]["hidden"]


def test_an_unknown_weight_decay_is_no_default(document: Document, run_there: Run) -> None:
    unknown = without_protocol(document(), weight_decay=None)
    emitted = run_there(emit(unknown, Target(WIDTH, {}), "optax").text)
    with pytest.raises(ValueError, match="weight decay is not known; write that of your runs"):
        emitted["optimizer"](10)


def test_the_steps_fit_the_file(document: Document) -> None:
    def steps(**changes: Any) -> str:
        return written(document(**changes), "optax").replace("\n#   ", " ")

    assert "gradient_clipping_threshold 0, as this file clips" in steps()
    unclipped = steps(train={"clip": None})
    assert "gradient_clipping_threshold 0, as the fit did not clip" in unclipped
    assert "clip_by_global_norm" not in unclipped
