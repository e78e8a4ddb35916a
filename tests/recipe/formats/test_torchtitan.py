"""The emitted text beside stand-ins; `tests/trainers` runs it in torchtitan itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol
from mutransfer_cli.strict import validated
from tests.recipe.formats.conftest import (
    INIT,
    LR,
    QUERY,
    WIDTH,
    Document,
    claimed_once,
    executed,
    keeps,
    without_protocol,
    written,
)

FUSED = "layers.11.attention.qkv_linear.wqkv.weight"
NAMES = {
    "embedding": ["tok_embeddings.weight"],
    "readout": ["lm_head.weight"],
    "vector": [
        "norm.weight",
        *(f"layers.{n}.{x}_norm.weight" for n in (0, 11) for x in ("attention", "ffn")),
        "layers.0._checkpoint_wrapped_module.ffn_norm.weight",
    ],
    "query": [
        "layers.11.attention.qkv_linear.wq.weight",
        "layers.0._checkpoint_wrapped_module.attention.qkv_linear.wq.weight",
    ],
    "hidden": [
        FUSED,
        *(f"layers.11.attention.{x}.weight" for x in ("qkv_linear.wk", "qkv_linear.wv", "wo")),
        *(f"layers.0.feed_forward.w{n}.weight" for n in (1, 2, 3)),
        "layers.0._orig_mod._checkpoint_wrapped_module.attention._orig_mod.wo.weight",
    ],
}
OWN_SCALE = {"attention_scale": "1/sqrt(d_head)"}


@pytest.fixture
def run_there(paper: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """Execute an emitted file beside torchtitan's config classes."""
    config = SimpleNamespace(Config=keeps)
    classes = {"OptimizersContainer": config, "LRSchedulersContainer": config}
    paper("torchtitan.components.optimizer", ParamGroupConfig=keeps, **classes)
    layers = ("Embedding", "FusedQKVLinear", "Linear", "QKVLinear", "RMSNorm")
    paper("torchtitan.models.common", **dict.fromkeys(layers))
    paper("torchtitan.models.common.param_init", skip_param_init=None)
    paper("torchtitan.protocols.module", Module=None)
    muon = ("BucketConfig", "ComputeLayout", "Owned")
    paper("torchtitan.distributed.flex_shard", **dict.fromkeys(muon))
    return executed


Run = Callable[[str], dict[str, Any]]


def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, run_there: Run
) -> None:
    emitted = run_there(written(document(optimizer={"weight_decay": 0.1}), "torchtitan"))

    def claims(names: list[str]) -> Iterator[tuple[str, float, float]]:
        for name in names:
            keywords = emitted["GROUPS"][emitted["_role_of"](name)]
            assert set(keywords) == {"lr", "weight_decay", "betas", "eps"}, "nothing is inherited"
            yield name, keywords["lr"], keywords["weight_decay"]

    claimed_once(NAMES, claims)


def test_inits_are_absolute(document: Document, run_there: Run) -> None:
    init = run_there(written(document(), "torchtitan"))["INIT"]
    assert init == INIT


@pytest.mark.parametrize(
    "name",
    [
        "layers.0.attention.q_norm.weight",
        "layers.0.moe.router.gate.weight",
        "layers.0.attention.wo.bias",
        "vision_encoder.layers.0.attention.wo.weight",
    ],
)
def test_a_parameter_that_its_llama_lacks_is_refused(
    document: Document, run_there: Run, name: str
) -> None:
    role_of = run_there(written(document(), "torchtitan"))["_role_of"]
    with pytest.raises(ValueError, match=f"^{re.escape(name)}: torchtitan's Llama 3 has no such"):
        role_of(name)


def test_a_tied_model_is_refused(document: Document, run_there: Run) -> None:
    set_up = run_there(written(document(), "torchtitan"))["set_up"]
    with pytest.raises(ValueError, match="enable_weight_tying: ") as refused:
        set_up(SimpleNamespace(enable_weight_tying=True))
    assert (
        f"(learning rate {LR:.4g} and {LR / 16:.4g}, init std 1 and 0.01562), so that one"
        in str(refused.value)
    )


def test_queries_that_start_at_zero_alone_are_exact_in_a_fused_matrix(document: Document) -> None:
    text = written(document(model=OWN_SCALE | {"query_init": "zero"}), "torchtitan")
    assert "'query': (0.0, 0.0, 256)" in text
    assert "def set_up(config, keep_fused=False):" in text
    assert "against the recipe" not in text.replace("\n#  ", "")


def test_the_header_says_by_how_much_fused_queries_are_off(document: Document) -> None:
    text = written(document(optimizer={"weight_decay": 0.1}), "torchtitan").replace("\n#  ", "")
    said = [f"learning rate is {8**0.5:.4g} times", f"weight decay is {QUERY:.4g} times"]
    assert f"their {', '.join(said)}, eps is {QUERY:.4g} times" in text


def test_a_model_with_the_scale_of_the_fit_stays_fused(document: Document) -> None:
    text = written(document(model=OWN_SCALE), "torchtitan")
    assert "FusedQKVLinear" not in text
    assert "def set_up(config):" in text


def test_one_rate_for_all_is_for_any_model(document: Document, run_there: Run) -> None:
    emitted = run_there(written(without_protocol(document()), "torchtitan"))
    (group,) = emitted["OPTIMIZER"].param_groups
    assert re.search(group.pattern, "whatever.bias")
    assert group.optimizer_kwargs["lr"] == pytest.approx(LR)


def without_inits(found: Exponents) -> Exponents:
    """The same fit of own results, whose protocol does not declare model.init_std."""
    assert isinstance(found.protocol, Protocol)
    sections = found.protocol.model_dump(include={"parameterization", "optimizer"})
    sections |= {"schema": "mutransfer.protocol/1", "train": {"batch": 2, "steps": 10}}
    declared = validated(DeclaredProtocol, sections, "protocol")
    return found.model_copy(update={"protocol": declared, "base_plan": ()})


def test_without_known_inits_a_tied_models_embedding_is_refused(
    document: Document, run_there: Run
) -> None:
    """It would be left with whatever its memory held."""
    emitted = run_there(written(without_inits(document()), "torchtitan"))
    assert "INIT" not in emitted
    untied = SimpleNamespace(enable_weight_tying=False, dim=WIDTH)
    untied.tok_embeddings = SimpleNamespace(param_init={"weight": None})
    with pytest.raises(ValueError, match="is that of a tied weight and draws nothing"):
        emitted["set_up"](untied)


def test_muon_is_dist_muon(document: Document, run_there: Run) -> None:
    settings = {"name": "muon", "momentum": 0.9, "lr_adjustment": "match_rms_adamw"}
    text = written(document(optimizer=settings, model=OWN_SCALE), "torchtitan")
    assert "# not verified: DistMuon on CUDA; its steps were taken on a CPU" in text
    emitted = run_there(text)
    assert emitted["DIST_MUON"] == ("hidden",)
    assert (
        emitted["GROUPS"]["hidden"].items()
        >= {
            "momentum": 0.9,
            "nesterov": True,
            "adjust_lr_fn": "match_rms_adamw",
            "fused": False,
            "foreach": False,
        }.items()
    )
    assert emitted["GROUPS"]["readout"].keys() == {"lr", "weight_decay", "betas", "eps"}


def test_muon_with_several_rates_is_refused(document: Document) -> None:
    found = document(optimizer={"name": "muon"})
    with pytest.raises(NotExpressible, match=r"DistMuon has one learning rate .* scale of 1/sqrt"):
        emit(found, Target(WIDTH, {}), "torchtitan", allow_lossy=True)
