from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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

lightning: Any = pytest.importorskip("lightning")


class Module(lightning.LightningModule):  # type: ignore[misc]
    """A Llama under the name `model`, set up by an emitted file."""

    def __init__(self, emitted: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.emitted, self.losses = llama(), emitted, list[float]()
        emitted["init_"](self.model)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(input_ids=batch[0], labels=batch[0]).loss
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        if "optimizer" in self.emitted:
            made = self.emitted["optimizer"](self.model)
        else:
            (made,) = self.emitted["optimizers"](self.model)
        schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda step: 1 / (1 + step))
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.mark.parametrize("to", ["transformers", "pytorch"])
@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, logging and much else
def test_a_lightning_module_has_the_recipes_values(
    fitted: Callable[..., Exponents],
    target: Callable[..., TargetModel],
    wanted: Plan,
    tmp_path: Path,
    to: str,
) -> None:
    found = fitted()
    emitted = executed(emit(found, Target(WIDTH, {}, True, model=target(found)), to).text)
    module = Module(emitted)
    names = [name for name, _ in module.named_parameters()]
    assert all(name.startswith("model.") for name in names)
    with pytest.raises(ValueError, match=r"model.model.embed_tokens.weight: claimed by 0 patterns"):
        emitted["param_groups"](module)
    started = means_and_stds(module.model)
    rows = torch.utils.data.TensorDataset(torch.arange(64).view(8, 8) % VOCAB)
    trainer = lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(rows, batch_size=2))
    (optimizer,) = trainer.optimizers
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(group["initial_lr"] / 3), "two steps of the schedule"
    name = f"lightning {lightning.__version__}, LightningModule of a Llama ({to} file)"
    steps = f"trained {trainer.global_step}, loss {module.losses[0]:.3f} to {module.losses[-1]:.3f}"
    values = arrived(optimizer.param_groups, module.model, started)
    row = compared(name, values, wanted(found), steps)
    assert (row.lr, row.weight_decay, row.eps, row.betas) == pytest.approx((0,) * 4, abs=1e-12)
