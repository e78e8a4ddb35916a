from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.fit.exponents import Exponents
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import compared
from tests.trainers.conftest import VOCAB, Emit, Plan
from tests.trainers.llama import arrived, llama, means_and_stds

transformers: Any = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
ROWS = [{"input_ids": [(n + i) % VOCAB for i in range(8)]} for n in range(32)]
ROWS = [row | {"labels": row["input_ids"]} for row in ROWS]


def trainer_of(model: Any, emitted: dict[str, Any], folder: Path, **arguments: Any) -> Any:
    given = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **emitted["TRAINING_ARGUMENTS"] | arguments,
    )
    made = (emitted["optimizer"](model), None)
    return transformers.Trainer(model, given, train_dataset=ROWS, optimizers=made)


@pytest.mark.parametrize("by_config", [True, False])
def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, by_config: bool, tmp_path: Path
) -> None:
    found = fitted()
    emitted = executed(written(found, "transformers", by_config))
    model = llama()
    emitted["init_"](model)
    started = means_and_stds(model)
    trainer = trainer_of(model, emitted, tmp_path, max_steps=2)
    trainer.train()
    how = "--model" if by_config else "--width"
    name = f"transformers {transformers.__version__}, Trainer, Llama ({how})"
    groups = trainer.optimizer.param_groups
    steps = f"trained {trainer.state.global_step}"
    row = compared(name, arrived(groups, model, started), wanted(found), steps)
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "constant"])
def test_every_schedule_of_a_fit_multiplies_all_rates_alike(
    fitted: Callable[..., Exponents], written: Emit, tmp_path: Path, schedule: str
) -> None:
    emitted = executed(written(fitted(train={"schedule": schedule}), "transformers"))
    trainer = trainer_of(llama(), emitted, tmp_path, max_steps=10)
    seen = []

    class Factors(transformers.TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, *_: Any, **given: Any) -> None:
            seen.append([g["lr"] / g["initial_lr"] for g in trainer.optimizer.param_groups])

    trainer.add_callback(Factors())
    trainer.train()
    assert all(max(factors) == pytest.approx(min(factors), rel=1e-12) for factors in seen)
    first = [factors[0] for factors in seen]
    assert first[:3] == pytest.approx([0, 0.5, 1]), "two steps of warm-up"
    last = {"wsd": 0.5, "cosine": 0.038, "constant": 1.0}[schedule]
    assert first[-1] == pytest.approx(last, rel=0.01)


def test_what_was_trained_can_be_saved_resumed_and_loaded(
    fitted: Callable[..., Exponents], written: Emit, tmp_path: Path
) -> None:
    emitted = executed(written(fitted(), "transformers"))
    tokens = torch.randint(VOCAB, (4, 64), generator=torch.Generator().manual_seed(0))

    def loss_of(model: Any) -> float:
        with torch.no_grad():
            return float(model(input_ids=tokens, labels=tokens).loss)

    torch.manual_seed(0)
    model = llama()
    emitted["init_"](model)
    trainer = trainer_of(model, emitted, tmp_path, max_steps=4, save_steps=2)
    trainer.train()
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-4")
    assert loss_of(reloaded) == pytest.approx(loss_of(model), abs=1e-6)
    resumed = trainer_of(llama(), emitted, tmp_path, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert loss_of(resumed.model) == pytest.approx(loss_of(model), abs=1e-6)
