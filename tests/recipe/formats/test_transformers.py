"""The emitted file in the real library: a tiny Llama of random weights, one step on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.recipe.formats.conftest import LR, Document, executed, written

transformers = pytest.importorskip("transformers")


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def role_of(name: str) -> str:
    if "embed_tokens" in name:
        return "embedding"
    if "lm_head" in name:
        return "readout"
    return "vector" if "norm" in name else "hidden"


@pytest.fixture
def emitted(document: Document) -> dict[str, Any]:
    return executed(written(document(optimizer={"weight_decay": 0.1}), "transformers"))


def test_every_parameter_has_the_values_of_its_role(emitted: dict[str, Any]) -> None:
    model = llama()
    rate = {"embedding": LR, "readout": LR / 16, "vector": LR, "hidden": LR / 16}
    decay = {"embedding": 0.0, "readout": 1.6, "vector": 0.0, "hidden": 1.6}
    groups = {id(p): g for g in emitted["param_groups"](model) for p in g["params"]}
    for name, parameter in model.named_parameters():
        group, role = groups.pop(id(parameter)), role_of(name)
        assert (group["lr"], group["weight_decay"]) == pytest.approx(
            (rate[role], decay[role]), rel=1e-5
        )
    assert not groups


def test_init_and_attention_scale(emitted: dict[str, Any]) -> None:
    model = llama()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    emitted["init_"](model)
    factor = {"embedding": 1, "readout": 1 / 16, "vector": 1, "hidden": 1 / 4}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name] * factor[role_of(name)])
    tokens = torch.arange(12).view(2, 6)
    plain = model(tokens).logits
    emitted["set_attention_scale_"](model)
    assert {layer.self_attn.scaling for layer in model.model.layers} == {1 / 8}
    assert not torch.allclose(model(tokens).logits, plain)
    with pytest.raises(ValueError, match="no attention with q_proj"):
        emitted["set_attention_scale_"](torch.nn.Linear(2, 2))


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_the_trainer_takes_a_step_with_each_groups_rate(
    emitted: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("accelerate")
    model = llama()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **emitted["TRAINING_ARGUMENTS"],
    )
    rows = [{"input_ids": list(range(8)), "labels": list(range(8))}] * 8
    made = (emitted["optimizer"](model), None)
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, optimizers=made)
    seen = []

    class Rates(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_pre_optimizer_step(self, *_: Any, **given: Any) -> None:
            seen.append({g["role"]: g["lr"] for g in trainer.optimizer.param_groups})

    trainer.add_callback(Rates())
    before = model.lm_head.weight.detach().clone()
    trainer.train()
    assert not torch.equal(model.lm_head.weight, before)
    for rates in seen[1:]:
        assert rates["embedding"] == pytest.approx(16 * rates["hidden"], rel=1e-4)
    assert seen[2]["embedding"] == pytest.approx(LR)
