"""Updating one trial after the other equals updating the stack, for every optimizer."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mutransfer_cli.optim.listed import OPTIMIZERS, section_of
from mutransfer_cli.optim.stack import update_by_trial_
from tests.optim.stacks import run


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_by_trial_is_the_same_update(name: str) -> None:
    rule = section_of(name)(name=name)
    together, one_by_one = run(rule), run(rule, update=partial(update_by_trial_, rule))
    for name, stack in together.items():
        torch.testing.assert_close(one_by_one[name], stack, rtol=1e-9, atol=1e-12)
