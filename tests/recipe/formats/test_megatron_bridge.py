from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mutransfer_cli.errors import NotExpressible
from tests.recipe.formats.conftest import LR, Document, executed, without_protocol, written


@pytest.fixture
def bridge(paper: Any) -> None:
    paper("megatron.bridge.training.config", OptimizerConfigOverrideProvider=object)


def container() -> Any:
    hooks: list[Any] = ["loads weights"]
    model = SimpleNamespace(
        kv_channels=8,
        share_embeddings_and_output_weights=True,
        register_pre_wrap_hook=lambda hook, prepend: hooks.insert(0 if prepend else 1, hook),
        hooks=hooks,
    )
    return SimpleNamespace(
        optimizer=SimpleNamespace(decoupled_lr=None), scheduler=SimpleNamespace(), model=model
    )


def test_one_call_sets_all_of_the_recipe(document: Document, bridge: None) -> None:
    emitted = executed(written(document(optimizer={"weight_decay": 0.1}), "megatron-bridge"))
    cfg = container()
    emitted["configure"](cfg)
    optimizer, scheduler = vars(cfg.optimizer), vars(cfg.scheduler)
    assert optimizer == {
        "decoupled_lr": None,
        "optimizer": "adam",
        "lr": pytest.approx(LR / 16),
        "min_lr": 0.0,
        "weight_decay": pytest.approx(1.6),
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_eps": 1e-8,
        "clip_grad": 1.0,
    }
    assert (
        scheduler["start_weight_decay"]
        == scheduler["end_weight_decay"]
        == optimizer["weight_decay"]
    )
    assert (scheduler["lr_decay_style"], scheduler["lr_warmup_iters"]) == ("linear", 2)
    assert cfg.model.softmax_scale == 1 / 8
    assert cfg.model.share_embeddings_and_output_weights is False
    assert cfg.model.hooks == [emitted["init_all_"], "loads weights"]
    assert type(cfg.optimizer_config_override_provider) is emitted["RecipeOverrides"]
    cfg.model.use_mup = True
    with pytest.raises(ValueError, match="leave out use_mup"):
        emitted["configure"](cfg)


def test_one_global_rate_needs_no_groups(document: Document) -> None:
    emitted = executed(written(without_protocol(document(), weight_decay=0.1), "megatron-bridge"))
    cfg = container()
    emitted["configure"](cfg)
    assert (cfg.optimizer.lr, cfg.scheduler.end_weight_decay) == (LR, 0.1)
    assert cfg.model.share_embeddings_and_output_weights is True


def test_muon_is_refused(document: Document) -> None:
    with pytest.raises(NotExpressible, match="optimizer muon cannot be written there"):
        written(document(optimizer={"name": "muon"}), "megatron-bridge")
