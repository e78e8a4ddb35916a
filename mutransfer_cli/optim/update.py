"""From the optimizer section of a protocol to the update of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from mutransfer_cli.optim.adafactor import Adafactor
from mutransfer_cli.optim.adam_atan2 import AdamAtan2
from mutransfer_cli.optim.adamw import AdamW, fused_update_
from mutransfer_cli.optim.lion import Lion
from mutransfer_cli.optim.muon import Muon
from mutransfer_cli.optim.sgd import SGD
from mutransfer_cli.optim.stack import (
    OptimizerState,
    ParamGroup,
    UpdateRule,
    update_,
    update_by_trial_,
)
from mutransfer_cli.spec.optimizers import (
    AdafactorSpec,
    AdamAtan2Spec,
    AdamSpec,
    AdamWSpec,
    LionSpec,
    MuonSpec,
    OptimizerSpec,
    SGDSpec,
)
from mutransfer_cli.torch_private import HAS_FUSED_ADAMW

# parameters, gradients, state, groups, schedule
Update = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor], OptimizerState, Sequence[ParamGroup], Tensor], None
]


def build_update(rule: UpdateRule, by_trial: bool) -> Update:
    """The update of a step in place.

    Args:
        by_trial: one trial after the other, so that results do not depend on the group.
    """
    if not by_trial:
        return partial(update_, rule)
    if isinstance(rule, AdamW) and HAS_FUSED_ADAMW:
        return partial(fused_update_, rule)
    return partial(update_by_trial_, rule)


def build_rule(spec: OptimizerSpec) -> UpdateRule:
    match spec:
        case AdamSpec() | AdamWSpec():
            return AdamW(spec.betas)
        case AdamAtan2Spec():
            return AdamAtan2(spec.betas, spec.a, spec.b)
        case LionSpec():
            return Lion(spec.betas)
        case SGDSpec():
            return SGD(spec.momentum)
        case AdafactorSpec():
            return Adafactor(spec.beta2_decay, spec.scale_floor)
        case MuonSpec():
            return Muon(spec.momentum, spec.lr_adjustment, AdamW(spec.betas))
