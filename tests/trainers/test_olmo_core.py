"""The emitted file in OLMo-core itself: its Llama, its optimizer's groups, its trainer."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.rules.schedule import schedule_factors
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import Arrived, compared
from tests.trainers.conftest import DEPTH, HEADS, VOCAB, WIDTH, Emit, Plan

pytest.importorskip("olmo_core")
pytest.importorskip("transformers")

data = import_module("olmo_core.data")
train = import_module("olmo_core.train")
TransformerConfig = import_module("olmo_core.nn.transformer").TransformerConfig
TrainModuleConfig = import_module("olmo_core.train.train_module").TransformerTrainModuleConfig

Found = Callable[..., Exponents]
VERSION = version("ai2-olmo-core")
STEPS, CONTEXT = 10, 32
CPU = torch.device("cpu")
NAMES = {
    "embeddings": "model.embed_tokens",
    "lm_head.norm": "model.norm",
    "lm_head.w_out": "lm_head",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention.w_q": "self_attn.q_proj",
    "attention.w_k": "self_attn.k_proj",
    "attention.w_v": "self_attn.v_proj",
    "attention.w_out": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}


def llama(**changes: Any) -> Any:
    sizes = {"d_model": WIDTH, "vocab_size": VOCAB, "n_layers": DEPTH, "n_heads": HEADS}
    return TransformerConfig.llama_like(**sizes | changes)


def there(name: str) -> str:
    """The name that transformers gives a parameter."""
    bare = name.removesuffix(".weight")
    if not bare.startswith("blocks."):
        return f"{NAMES[bare]}.weight"
    _, block, rest = bare.split(".", 2)
    return f"model.layers.{block}.{NAMES[rest]}.weight"


@pytest.fixture
def trainer_of(tmp_path: Path) -> Callable[[Any], Any]:
    """OLMo-core's trainer of random tokens for a train module, to stop after two steps."""

    def build(train_module: Any) -> Any:
        path = tmp_path / "tokens.npy"
        np.random.default_rng(0).integers(2, VOCAB, 4096, dtype=np.uint16).tofile(path)
        rows = data.NumpyFSLDatasetConfig(
            paths=[str(path)],
            sequence_length=CONTEXT,
            tokenizer=data.TokenizerConfig(vocab_size=VOCAB, eos_token_id=0, pad_token_id=1),
            work_dir=str(tmp_path),
            dtype="uint16",
        ).build()
        loader = data.NumpyDataLoaderConfig(
            global_batch_size=2 * CONTEXT, seed=0, num_workers=0, work_dir=str(tmp_path)
        ).build(rows)
        return train.TrainerConfig(
            save_folder=str(tmp_path / "saved"),
            max_duration=train.Duration.steps(STEPS),
            hard_stop=train.Duration.steps(2),
            no_checkpoints=True,
            no_evals=True,
        ).build(train_module, loader)

    return build


@pytest.mark.parametrize("by_config", [True, False])
def test_the_trainer_has_the_recipes_values(
    fitted: Found,
    written: Emit,
    wanted: Plan,
    trainer_of: Callable[[Any], Any],
    by_config: bool,
) -> None:
    found, config = fitted(), llama()
    inner = config.block.feed_forward.hidden_size
    emitted = executed(written(found, "olmo-core", by_config, intermediate_size=inner))
    train_module = TrainModuleConfig(
        rank_microbatch_size=2 * CONTEXT,
        max_sequence_length=CONTEXT,
        optim=emitted["optim"](config),
        scheduler=emitted["SCHEDULER"],
        max_grad_norm=1.0,
    ).build(config.build(init_device="meta"), device=CPU)
    torch.manual_seed(0)
    emitted["init_"](train_module.model)
    parameters = dict(train_module.model.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    groups = {id(p): g for g in train_module.optim.param_groups for p in g["params"]}
    trainer = trainer_of(train_module)
    trainer.fit()
    assert all((p != before[name]).any() for name, p in parameters.items())
    found_there = {}
    for name, old in before.items():
        group = groups[id(parameters[name])]
        assert group["lr"] == pytest.approx(group["initial_lr"]), "the warm-up of 2 steps is over"
        found_there[there(name)] = Arrived(
            lr=group["initial_lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            betas=group["betas"],
            mean=old.mean().item(),
            std=old.std().item(),
            count=old.numel(),
        )
    plan = wanted(found, intermediate_size=inner)
    how = "--model" if by_config else "--width"
    name = f"OLMo-core {VERSION}, Trainer, llama_like ({how})"
    row = compared(name, found_there, plan, f"trained {trainer.global_step}")
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)


def test_models_that_are_not_its_llama_are_refused(fitted: Found, written: Emit) -> None:
    optim = executed(written(fitted(), "olmo-core", by_config=False))["optim"]
    tied = llama(tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"embeddings and lm_head would be one .* one of th"):
        optim(tied)
    with pytest.raises(
        ValueError, match=r"attention\.q_norm\.weight: the norm takes the attention"
    ):
        optim(llama(qk_norm=True))
    with pytest.raises(ValueError, match="heads have 16 features, but the attention scale"):
        optim(llama(n_heads=WIDTH // 16))
    with pytest.raises(ValueError, match="d_model is 128, but these values are for 256"):
        optim(llama(d_model=128))
    with pytest.raises(ValueError, match=r"embed_scale=2\.0 would multiply what the embedding's"):
        optim(llama(embed_scale=2.0))
    experts = {"num_experts": 2, "top_k": 1, "expert_hidden_size": 64}
    sizes = {"d_model": WIDTH, "vocab_size": VOCAB, "n_layers": 1, "n_heads": HEADS}
    with pytest.raises(
        ValueError, match=r"feed_forward_moe.*: OLMo-core's Llama has no such param"
    ):
        optim(TransformerConfig.llama_like_moe(**sizes, **experts))


def test_norms_of_queries_are_vectors_where_no_scale_is_folded(
    fitted: Found, written: Emit
) -> None:
    found = fitted(model={"attention_scale": "1/sqrt(d_head)"})
    emitted = executed(written(found, "olmo-core", by_config=False))
    model = llama(qk_norm=True).build(init_device="meta")
    assert emitted["roles_of"](model)["blocks.0.attention.q_norm.weight"] == "vector"
    groups = emitted["optim"](llama(qk_norm=True)).build(model).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_schedules_are_those_of_the_fit_a_step_earlier(
    fitted: Found, written: Emit, schedule: Any
) -> None:
    found = fitted(train={"schedule": schedule})
    text = written(found, "olmo-core", by_config=False)
    scheduler = executed(text)["SCHEDULER"]
    factors = [scheduler.get_lr(1.0, step, STEPS) for step in range(1, STEPS + 1)]
    fit = schedule_factors(STEPS, 2, schedule, 0.2)
    assert factors[:2] == pytest.approx(fit[:2])
    assert factors[2:-1] == pytest.approx(fit[3:])
    assert ("one step ahead" in text.replace("\n#  ", "")) == (factors[-1] == 0)
