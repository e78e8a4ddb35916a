"""The parameterization section of a spec: the rule, as the user writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.optimizers import MuonSpec, OptimizerSpec
from mutransfer_cli.files.strict import MAX_WIDTH, Count, Number, Strict
from mutransfer_cli.rules.alignment import ALIGNMENTS, FULL, Alignment, AlignmentName
from mutransfer_cli.rules.alignment import LayerAlignment as RuleLayerAlignment
from mutransfer_cli.rules.parameterizations import ParameterizationName
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    BaseValues,
    PlannedParameter,
    Shapes,
    plan,
)
from mutransfer_cli.rules.roles import MATRIX_ROLES
from mutransfer_cli.rules.rule import EpsilonRule, LrRule, Rule
from mutransfer_cli.rules.weight_decay import DecayConvention, ReadoutDecay, parse_decay_rule


class LayerAlignment(Strict):
    """Alignment exponents of a role, as measured."""

    alpha: Number
    omega: Number
    u: Number

    def exact(self) -> RuleLayerAlignment:
        alpha, omega, u = (Fraction(str(x)) for x in (self.alpha, self.omega, self.u))
        return RuleLayerAlignment(alpha, omega, u)


class CustomAlignment(Strict):
    """Alignment by role; a role that is left out is fully aligned."""

    hidden: LayerAlignment | None = None
    readout: LayerAlignment | None = None

    def exact(self) -> Alignment:
        return Alignment(
            hidden=self.hidden.exact() if self.hidden else FULL.hidden,
            readout=self.readout.exact() if self.readout else FULL.readout,
        )


def _decay_rule(rule: Any) -> str:
    try:
        return str(parse_decay_rule(str(rule)))
    except InputError as error:
        raise ValueError(str(error)) from error


def _by_name_or_mapping(alignment: Any) -> Any:
    if isinstance(alignment, dict | Strict) or alignment in list(ALIGNMENTS):
        return alignment
    raise ValueError(
        f"unknown alignment {alignment!r} (valid: {', '.join(ALIGNMENTS)}, or a mapping such as "
        "{readout: {alpha: 1, omega: 0.8, u: 1}})"
    )


AlignmentChoice = Annotated[AlignmentName | CustomAlignment, BeforeValidator(_by_name_or_mapping)]
DecayRuleText = Annotated[str, BeforeValidator(_decay_rule)]


class ParameterizationSpec(Strict):
    """How everything goes with width.

    Attributes:
        base_width: where every parameterization is the plain model.
        alignment: full, none, or exponents by role.
        lr_rule: per_layer, or global: one rate for all roles.
        weight_decay: none, constant, sqrt_width, linear_width or an exponent of width.
        decay_convention: of `optimizer.weight_decay` and of an exponent given here.
        readout_decay: as_hidden or none.
        epsilon: constant, per_layer, or none; by default what the optimizer has.
    """

    name: ParameterizationName
    base_width: Annotated[Count, Field(le=MAX_WIDTH)]
    alignment: AlignmentChoice = "full"
    lr_rule: LrRule = "per_layer"
    weight_decay: DecayRuleText = "linear_width"
    decay_convention: DecayConvention = "lr_coupled"
    readout_decay: ReadoutDecay = "as_hidden"
    epsilon: EpsilonRule | None = None

    def rule(self, optimizer: OptimizerSpec) -> Rule:
        """
        Raises:
            InputError: settings that contradict each other.
        """
        alignment = self.alignment
        return Rule(
            parameterization=self.name,
            optimizer=optimizer.name,
            alignment=ALIGNMENTS[alignment] if isinstance(alignment, str) else alignment.exact(),
            lr_rule=self.lr_rule,
            weight_decay=parse_decay_rule(self.weight_decay),
            decay_convention=self.decay_convention,
            readout_decay=self.readout_decay,
            epsilon=self.epsilon,
            lr_adjustment=optimizer.lr_adjustment if isinstance(optimizer, MuonSpec) else None,
        )

    def plan(
        self,
        optimizer: OptimizerSpec,
        base_plan: Sequence[BaseParameter],
        width: int,
        axes: Mapping[AxisName, float],
        folded: bool = False,
        shapes: Shapes | None = None,
    ) -> tuple[PlannedParameter, ...]:
        """Every parameter's hyperparameters at a width, for base values that `axes` completes."""
        rule = replace(self.rule(optimizer), folded=folded)
        swept = {role: axes.get(MULT_AXES[role]) for role in MATRIX_ROLES}
        base = BaseValues(
            lr=axes["lr"],
            weight_decay=axes.get("weight_decay", optimizer.weight_decay),
            eps=getattr(optimizer, "eps", None),
            lr_mult=optimizer.lr_mult | {role: x for role, x in swept.items() if x is not None},
        )
        return plan(base_plan, rule, self.base_width, width, base, shapes)
