from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from mutransfer_cli.optim.section import OptimizerSection, over


def test_hyperparameters_of_trials_broadcast_over_their_stacks() -> None:
    per_trial = torch.tensor([2.0, 3.0], dtype=torch.float64)
    for shape in ((2,), (2, 4), (2, 3, 4)):
        found = over(per_trial, torch.ones(shape)) * torch.ones(shape)
        assert found.dtype == torch.float32
        assert [found[trial].flatten()[-1].item() for trial in range(2)] == [2.0, 3.0]


def test_the_base_is_no_optimizer_of_its_own() -> None:
    with pytest.raises(TypeError, match="abstract"):
        OptimizerSection(name="adamw")  # type: ignore[abstract]


def test_shared_settings_are_checked() -> None:
    from mutransfer_cli.optim.sgd import SGDSpec

    assert SGDSpec(name="sgd", lr_mult={"readout": 2}).lr_mult == {"readout": 2.0}
    for wrong in ({"weight_decay": -1}, {"lr_mult": {"vector": 1}}, {"lr_mult": {"hidden": 0}}):
        with pytest.raises(ValidationError):
            SGDSpec.model_validate({"name": "sgd", **wrong})
