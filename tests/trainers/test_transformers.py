from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.fit.exponents import Exponents
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import Arrived, compared
from tests.trainers.conftest import Emit, Plan, llama_config

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("by_config", [True, False])
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, by_config: bool, tmp_path: Path
) -> None:
    found = fitted()
    emitted = executed(written(found, "transformers", by_config))
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**llama_config())
    )
    emitted["init_"](model)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **emitted["TRAINING_ARGUMENTS"],
    )
    inits = {name: (p.mean().item(), p.std().item()) for name, p in model.named_parameters()}
    rows = [{"input_ids": list(range(8)), "labels": list(range(8))}] * 8
    made = (emitted["optimizer"](model), None)
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, optimizers=made)
    trainer.train()
    groups = {id(p): g for g in made[0].param_groups for p in g["params"]}
    arrived: dict[str, Arrived] = {}
    for name, parameter in model.named_parameters():
        group, (mean, std) = groups[id(parameter)], inits[name]
        arrived[name] = Arrived(
            lr=group["initial_lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            betas=group["betas"],
            mean=mean,
            std=std,
            count=parameter.numel(),
        )
    how = "--model" if by_config else "--width"
    name = f"transformers {transformers.__version__}, Trainer, Llama ({how})"
    row = compared(name, arrived, wanted(found), f"trained {trainer.state.global_step}")
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)
