"""From the optimizer section of a protocol to its update rule."""

from __future__ import annotations

from mutransfer_cli.files.optimizers import (
    AdafactorSpec,
    AdamAtan2Spec,
    AdamSpec,
    AdamWSpec,
    LionSpec,
    MuonSpec,
    OptimizerSpec,
    SGDSpec,
)
from mutransfer_cli.optim.adafactor import Adafactor
from mutransfer_cli.optim.adam_atan2 import AdamAtan2
from mutransfer_cli.optim.adamw import AdamW, FusedAdamW
from mutransfer_cli.optim.lion import Lion
from mutransfer_cli.optim.muon import Muon
from mutransfer_cli.optim.sgd import SGD
from mutransfer_cli.optim.stack import ByTrial, Optimizer
from mutransfer_cli.torch_private import HAS_FUSED_ADAMW


def build_optimizer(spec: OptimizerSpec, by_trial: bool) -> Optimizer:
    """The update rule of a spec.

    Args:
        by_trial: one trial after the other, so that results do not depend on the group.
    """
    if isinstance(spec, AdamSpec | AdamWSpec) and by_trial and HAS_FUSED_ADAMW:
        return FusedAdamW(spec.betas)
    optimizer = _of_stacks(spec)
    return ByTrial(optimizer) if by_trial else optimizer


def _of_stacks(spec: OptimizerSpec) -> Optimizer:
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
