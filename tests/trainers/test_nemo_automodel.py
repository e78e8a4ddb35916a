from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import yaml

from mutransfer_cli.fit.exponents import Exponents
from tests.trainers.compare import ROWS, Arrived, compared
from tests.trainers.conftest import Emit, Plan, llama_config

transformers = pytest.importorskip("transformers")
automodel = pytest.importorskip("nemo_automodel")

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 10


def made(text: str, model: Any) -> tuple[Any, Any]:
    """Optimizer and scheduler, as its recipes make them of their YAML file."""
    from nemo_automodel.components.config.loader import ConfigNode
    from nemo_automodel.recipes._typed_config import RecipeConfig

    config = RecipeConfig(ConfigNode(yaml.safe_load(text)))
    (optimizer,) = config.optimizer.build(model)
    steps = config.step_scheduler.build([0] * STEPS, dp_group_size=1, local_batch_size=1)
    (scheduler,) = config.lr_scheduler.build([optimizer], steps)
    return optimizer, scheduler


def llama() -> Any:
    """NeMo Automodel's own Llama."""
    from nemo_automodel.components.models.llama.model import LlamaForCausalLM

    return LlamaForCausalLM(transformers.LlamaConfig(**llama_config()))


def two_steps(model: Any, optimizer: Any, scheduler: Any) -> str:
    tokens = torch.arange(32).view(2, 16)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    scheduler.step(1)  # the first rate of a warm-up is 0
    for _ in range(2):
        logits = model(input_ids=tokens).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step(1)
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not still
    return "every parameter moved"


@pytest.mark.parametrize("by_config", [True, False])
def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, by_config: bool
) -> None:
    found = fitted()
    model = llama()
    optimizer, scheduler = made(written(found, "nemo-automodel", by_config, lossy=True), model)
    said = two_steps(model, optimizer, scheduler)
    scheduler.step(2 - scheduler.num_steps)  # back to the peak
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    plan = wanted(found)
    arrived = {
        name: Arrived(
            lr=groups[id(parameter)]["lr"],
            weight_decay=groups[id(parameter)]["weight_decay"],
            eps=groups[id(parameter)]["eps"],
            betas=groups[id(parameter)]["betas"],
            mean=plan[name].init_mean,
            std=plan[name].init_std or 0.0,
            count=parameter.numel(),
        )
        for name, parameter in model.named_parameters()
    }
    how = "--model" if by_config else "--width"
    name = f"nemo-automodel {automodel.__version__}, its Llama ({how}); no init, one eps"
    row = compared(name, arrived, plan, said)
    ROWS[-1] = replace(row, std=math.nan, allowed_std=math.nan)
    assert (row.lr, row.weight_decay, row.betas) == pytest.approx((0,) * 3, abs=1e-12)
    assert row.eps == pytest.approx(3), "the folded embedding's is a quarter of the one that it has"


def test_rates_by_role_are_applied_under_an_unknown_schedule(
    fitted: Callable[..., Exponents], written: Emit, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fitted()
    assert found.protocol is not None
    train = found.protocol.train.model_copy(update={"schedule": None})
    unknown = found.model_copy(
        update={"protocol": found.protocol.model_copy(update={"train": train})}
    )
    model = llama()
    optimizer, scheduler = made(written(unknown, "nemo-automodel", False, lossy=True), model)
    for _ in range(3):
        scheduler.step(1)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    embedding = groups[id(model.model.embed_tokens.weight)]["lr"]
    assert embedding == pytest.approx(
        16 * groups[id(model.model.layers[0].mlp.up_proj.weight)]["lr"]
    )
