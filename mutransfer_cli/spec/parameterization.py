"""The `parameterization` section of a spec: the rule as the user writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from mutransfer_cli.errors import InputError
from mutransfer_cli.explain import shown
from mutransfer_cli.optim.muon import MuonSpec
from mutransfer_cli.rules.choices import (
    ALIGNMENTS,
    FULL,
    MATRIX_ROLES,
    Alignment,
    AlignmentName,
    EpsilonRule,
    LrRule,
    ParameterizationName,
)
from mutransfer_cli.rules.choices import LayerAlignment as RuleLayerAlignment
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    BaseValues,
    PlannedParameter,
    Shapes,
    plan,
)
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.weight_decay import (
    MOST_EXPONENT,
    DecayConvention,
    DecayRuleName,
    EmbeddingDecay,
    ReadoutDecay,
    parse_decay_rule,
)
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.strict import MAX_WIDTH, Count, Number, Sparse, Strict


class LayerAlignment(Strict):
    """Measured alignment exponents of a role."""

    alpha: Number = Field(examples=[1])
    """Change of the weights, features at init: |dW z| ~ n^alpha |dW| |z|."""
    omega: Number = Field(examples=[0.5])
    """Weights at init, change of the features: |W dz| ~ n^omega |W| |dz|."""
    u: Number = Field(examples=[1])
    """Both changes: |dW dz| ~ n^u |dW| |dz|."""

    def exact(self) -> RuleLayerAlignment:
        """The exponents as fractions."""
        alpha, omega, u = (Fraction(str(x)) for x in (self.alpha, self.omega, self.u))
        return RuleLayerAlignment(alpha, omega, u)


class CustomAlignment(Strict):
    """Alignment by role; a role that is left out is fully aligned."""

    hidden: LayerAlignment | None = None
    """Exponents of the hidden matrices."""
    readout: LayerAlignment | None = None
    """Exponents of the readout."""

    def exact(self) -> Alignment:
        """The alignment in fractions, complete with the default of each role."""
        return Alignment(
            hidden=self.hidden.exact() if self.hidden else FULL.hidden,
            readout=self.readout.exact() if self.readout else FULL.readout,
        )


def _decay_rule(rule: Any) -> str:
    try:
        return str(parse_decay_rule(rule if isinstance(rule, str) else shown(rule)))
    except InputError as error:
        raise ValueError(str(error)) from error


DecayExponent = Annotated[float, Field(ge=-MOST_EXPONENT, le=MOST_EXPONENT)]
DecayExponentText = Annotated[str, Field(pattern=r"^\s*[+-]?[\d._]+([eE][+-]?\d+|/\d+)?\s*$")]
DecayRuleText = Annotated[
    str,
    BeforeValidator(
        _decay_rule, json_schema_input_type=DecayRuleName | DecayExponent | DecayExponentText
    ),
]


def _by_name_or_mapping(alignment: Any) -> Any:
    if isinstance(alignment, dict | Strict) or alignment in list(ALIGNMENTS):
        return alignment
    raise ValueError(
        f"unknown alignment {shown(alignment)} (valid: {', '.join(ALIGNMENTS)}, or a mapping "
        "such as {readout: {alpha: 1, omega: 0.8, u: 1}})"
    )


AlignmentChoice = Annotated[AlignmentName | CustomAlignment, BeforeValidator(_by_name_or_mapping)]


class ParameterizationSpec(Sparse):
    """How init, multipliers, learning rate, weight decay and eps scale with width."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"embedding_decay"})

    name: ParameterizationName
    """Exponents of width in the init std and multiplier of each role: standard, ntk, mup (Yang et
    al. 2022, arXiv 2203.03466) or mean_field."""
    base_width: Annotated[Count, Field(le=MAX_WIDTH, examples=[32])]
    """The width at which your values hold: every parameterization is the plain model there, and
    powers are of width / base_width."""
    alignment: AlignmentChoice = "full"
    """Determines the exponents c of the rates, lr_role = lr * (width / base_width)^-c: full, none,
    or measured exponents by role (Everett et al. 2024, arXiv 2407.05872)."""
    lr_rule: LrRule = "per_layer"
    """per_layer: a rate for each role; global: one rate for all."""
    weight_decay: DecayRuleText = "linear_width"
    """How weight decay scales with width: none; constant; linear_width, which keeps lr * weight
    decay (Kosson et al. 2025, arXiv 2510.19093); sqrt_width (Fan et al. 2025, arXiv 2510.15262); or
    an exponent x, weight decay ~ width^x."""
    decay_convention: DecayConvention = "lr_coupled"
    """Meaning of every weight decay, and of an exponent given here: lr_coupled, w -= lr *
    weight_decay * w as in torch, or independent, w -= schedule * weight_decay * w."""
    readout_decay: ReadoutDecay = "as_hidden"
    """Weight decay of the readout: as_hidden or none."""
    embedding_decay: EmbeddingDecay = "none"
    """Weight decay of embeddings: none or as_hidden, by the rule for their own learning rate."""
    epsilon: EpsilonRule | None = None
    """How eps of Adam-like optimizers scales with width: constant; per_layer, which shrinks as the
    role's gradient does; or none. By default as the optimizer requires."""

    def rule(self, optimizer: OptimizerSpec) -> Rule:
        """The rule in exact exponents.

        Raises:
            InputError: settings that contradict each other.
        """
        alignment = self.alignment
        return Rule(
            parameterization=self.name,
            optimizer=optimizer.facts,
            alignment=ALIGNMENTS[alignment] if isinstance(alignment, str) else alignment.exact(),
            lr_rule=self.lr_rule,
            weight_decay=parse_decay_rule(self.weight_decay),
            decay_convention=self.decay_convention,
            readout_decay=self.readout_decay,
            embedding_decay=self.embedding_decay,
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
        """Plan every parameter's values at a width.

        Args:
            axes: base values that complete those of the optimizer.
        """
        rule = replace(self.rule(optimizer), folded=folded)
        swept = {role: axes.get(MULT_AXES[role]) for role in MATRIX_ROLES}
        base = BaseValues(
            lr=axes["lr"],
            weight_decay=axes.get("weight_decay", optimizer.weight_decay),
            eps=getattr(optimizer, "eps", None),
            lr_mult=optimizer.lr_mult | {role: x for role, x in swept.items() if x is not None},
        )
        return plan(base_plan, rule, self.base_width, width, base, shapes)
