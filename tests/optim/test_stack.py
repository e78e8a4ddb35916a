"""Updating one trial after the other is updating the stack, whatever the optimizer."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mutransfer_cli.optim.adafactor import Adafactor
from mutransfer_cli.optim.adam_atan2 import AdamAtan2
from mutransfer_cli.optim.adamw import AdamW
from mutransfer_cli.optim.lion import Lion
from mutransfer_cli.optim.muon import Muon
from mutransfer_cli.optim.sgd import SGD
from mutransfer_cli.optim.stack import UpdateRule, update_by_trial_
from tests.optim.stacks import BETAS, run

RULES = [
    SGD(0.9),
    AdamW(BETAS),
    AdamAtan2(BETAS, 1.27, 1.0),
    Lion(BETAS),
    Adafactor(-0.8, 1e-3),
    Muon(0.95, "original", AdamW(BETAS)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_by_trial_is_the_same_update(rule: UpdateRule) -> None:
    together, one_by_one = run(rule), run(rule, update=partial(update_by_trial_, rule))
    for name, stack in together.items():
        torch.testing.assert_close(one_by_one[name], stack, rtol=1e-9, atol=1e-12)
