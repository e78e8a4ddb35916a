from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import TargetModel
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import compared
from tests.trainers.conftest import VOCAB, WIDTH, Plan
from tests.trainers.llama import arrived, llama, means_and_stds

transformers: Any = pytest.importorskip("transformers")
accelerate: Any = pytest.importorskip("accelerate")


@pytest.mark.parametrize("to", ["transformers", "pytorch"])
def test_a_plain_loop_has_the_recipes_values(
    fitted: Callable[..., Exponents], target: Callable[..., TargetModel], wanted: Plan, to: str
) -> None:
    found = fitted()
    emitted = executed(emit(found, Target(WIDTH, {}, True, model=target(found)), to).text)
    model = llama()
    emitted["init_"](model)
    started = means_and_stds(model)
    made = emitted["optimizer"](model) if to == "transformers" else emitted["optimizers"](model)[0]
    schedule = transformers.get_scheduler(
        "cosine_with_min_lr",
        made,
        num_warmup_steps=1,
        num_training_steps=4,
        scheduler_specific_kwargs={"min_lr": emitted["GROUPS"]["hidden"]["lr"] / 10},
    )
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer, schedule = accelerator.prepare(model, made, schedule)
    peaks = {group["role"]: group["initial_lr"] for group in optimizer.param_groups}
    tokens = torch.arange(16).view(2, 8) % VOCAB
    for _ in range(4):
        with accelerator.accumulate(model):
            accelerator.backward(model(input_ids=tokens, labels=tokens).loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(peaks[group["role"]] / 10, rel=1e-9), "the floor"
    name = f"accelerate {accelerate.__version__}, plain loop, Llama ({to} file)"
    steps = "4 steps, all groups at a tenth of their peak"
    values = arrived(optimizer.param_groups, accelerator.unwrap_model(model), started)
    row = compared(name, values, wanted(found), steps)
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)
