"""A rule: every choice that decides how hyperparameters go with width."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.alignment import FULL, Alignment
from mutransfer_cli.rules.optimizers import FAMILY, NO_EPSILON, LrAdjustment, OptimizerName
from mutransfer_cli.rules.parameterizations import ParameterizationName
from mutransfer_cli.rules.stability import LearningRates, derive_rates
from mutransfer_cli.rules.weight_decay import DecayConvention, DecayRule, ReadoutDecay

LrRule = Literal["per_layer", "global"]
EpsilonRule = Literal["constant", "per_layer", "none"]


@dataclass(frozen=True)
class Rule:
    """What is scaled how. All exponents are relative to a base width where every rule is the same.

    Attributes:
        alignment: the assumption under which learning rates are derived.
        lr_rule: `per_layer`, or `global`: one rate for all roles, its movement left to the sweep.
        weight_decay: a rule by name, or its exponent of width in the convention.
        readout_decay: whether the readout decays as hidden matrices do.
        epsilon: `constant`; `per_layer`, which shrinks it with the role's gradient (Everett et al.
            2024, section on epsilon); `none` for optimizers without. Default: by optimizer.
        lr_adjustment: Muon's factor on the rate by shape; None for other optimizers.
        folded: multipliers are moved into init, rates, decay and epsilon: the forward pass of the
            model stays as it is.

    Raises:
        InputError: settings that contradict each other.
    """

    parameterization: ParameterizationName
    optimizer: OptimizerName = "adamw"
    alignment: Alignment = FULL
    lr_rule: LrRule = "per_layer"
    weight_decay: DecayRule = "linear_width"
    decay_convention: DecayConvention = "lr_coupled"
    readout_decay: ReadoutDecay = "as_hidden"
    epsilon: EpsilonRule | None = None
    lr_adjustment: LrAdjustment | None = None
    folded: bool = False

    def __post_init__(self) -> None:
        why = NO_EPSILON.get(self.optimizer)
        if why and self.epsilon not in (None, "none"):
            raise InputError(f"epsilon {self.epsilon}: {why}; leave epsilon out or give none")
        if not why and self.epsilon == "none":
            raise InputError(
                f"epsilon none: {self.optimizer} divides by sqrt(v) + eps; give constant or "
                "per_layer, or take optimizer adam_atan2, which has no epsilon"
            )
        if self.lr_adjustment is not None and self.optimizer != "muon":
            raise InputError(f"lr_adjustment: is Muon's, {self.optimizer} has none; leave it out")
        if self.weight_decay == "sqrt_width" and FAMILY[self.optimizer] != "adam":
            raise InputError(
                f"weight decay sqrt_width: was observed in the steady state of AdamW and says "
                f"nothing of {self.optimizer}; give linear_width, constant, none or an exponent"
            )

    @property
    def effective_epsilon(self) -> EpsilonRule:
        return self.epsilon or ("none" if self.optimizer in NO_EPSILON else "constant")

    @property
    def rates(self) -> LearningRates:
        return derive_rates(
            self.parameterization, self.optimizer, self.alignment, self.lr_adjustment or "original"
        )

    @property
    def expected_base_lr_exponent(self) -> Fraction:
        """x in optimal base rate ~ n^x: 0 if every role is scaled, -max(c) for a global rate."""
        return Fraction(0) if self.lr_rule == "per_layer" else -max(self.rates.c.values())
