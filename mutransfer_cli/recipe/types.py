"""The recipe, `schema: mutransfer.recipe/1`: what to use at the target, and how sure it is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mutransfer_cli.rules.choices import MatrixRole, OptimizerName, ParameterizationName, Role
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.rule import EpsilonRule, LrRule
from mutransfer_cli.rules.schedule import decay_steps
from mutransfer_cli.rules.weight_decay import DecayConvention, ReadoutDecay
from mutransfer_cli.spec.decoder import AttentionScale
from mutransfer_cli.spec.parameterization import AlignmentChoice, DecayRuleText
from mutransfer_cli.strict import (
    Count,
    Grown,
    Natural,
    NonNegative,
    Number,
    Positive,
    Share,
    Strict,
)

RECIPE_SCHEMA = "mutransfer.recipe/1"

NumberStatus = Literal["derived", "fitted", "assumed"]
Level = Annotated[Number, Field(gt=0, lt=1)]


class Quantity(Strict):
    """A number and what stands behind it.

    Attributes:
        value: the number to use, in the units of its key.
        status: derived from the rule, fitted with interval, or assumed.
        low, high: the ends of the interval of a fitted number.
        level: how often such intervals hold the truth; 0.95 is 95 %.
        source: where the number comes from, in a few words.
    """

    value: Number
    status: NumberStatus
    low: Number | None = None
    high: Number | None = None
    level: Level | None = None
    source: str

    @model_serializer(mode="wrap")
    def without_absent_interval(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class WeightDecay(Quantity):
    """lr_coupled: w -= lr * weight_decay * w, as torch.optim.AdamW. independent: without the lr.

    Attributes:
        value: per step, in the convention.
        convention: lr_coupled, w -= lr * value * w, or independent, w -= schedule * value * w; left
            out where own results did not say it.
    """

    convention: DecayConvention | None = None


class Betas(Strict):
    """Decay per step of Adam's means, and what stands behind it.

    Attributes:
        value: of the mean of the gradient, and of that of its square.
        status: derived from the rule, fitted, or assumed.
        source: where the numbers come from, in a few words.
    """

    value: tuple[NonNegative, NonNegative]
    status: NumberStatus
    source: str


class OwnValues(Strict):
    """What differs between parameters of one role whose fan-ins grow by different factors.

    Attributes:
        lr: peak rate per step.
        weight_decay: per step, in its convention.
        eps: added to sqrt(v), in units of the gradient; null where this optimizer has none.
        multiplier: factor on the weight in the forward pass.
        init_std_mult: the init std over that of the base model.
    """

    lr: Quantity
    weight_decay: WeightDecay
    eps: Quantity | None
    multiplier: Quantity
    init_std_mult: Quantity


class AtBase(Grown):
    """A parameter of the base model, of which the rule makes its values here.

    Attributes:
        init_std: its own at the base width.
        fan_in: at the base width and here, where it grows by another factor than the width.
        own_multiplier: exponent of the width in a factor that the model's own code puts on it.
        init_exponent: exponent of the width in the init std of weight times multiplier, where it is
            not by the rule.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"fan_in", "own_multiplier", "init_exponent"})

    init_std: NonNegative
    fan_in: tuple[Count, Count] | None = None
    own_multiplier: Number = 0.0
    init_exponent: Number | None = None


class ParameterPattern(Strict):
    """Parameters whose whole name matches `pattern`, and their init: normal values.

    Attributes:
        pattern: Python regex of the whole dotted name.
        init_std: standard deviation of the values at init.
        init_mean: the constant around which they are drawn, 1 of a gain; not written where it is 0.
        base: the same parameters of the base model; null in recipes of before it was written.
        own: in place of the role's values, where the fan-in grows by another factor than the
            role's; not written where there are none.
    """

    pattern: str
    init_std: Quantity
    init_mean: Number = 0.0
    own: OwnValues | None = None
    base: AtBase | None = None

    @model_serializer(mode="wrap")
    def without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept = {"pattern", "init_std"}
        return {key: value for key, value in handler(self).items() if key in kept or value}


class RoleRecipe(Strict):
    """Absolute values for every parameter of a role at the target width.

    Attributes:
        optimizer: what updates the role; under muon all but hidden is adamw's.
        lr: peak rate per step.
        weight_decay: per step, in its convention.
        eps: added to sqrt(v), in units of the gradient; null where this optimizer has none.
        betas: null where this optimizer has none.
        multiplier: factor on the weight in the forward pass.
        init_std_mult: the init std over that of the base model.
        parameters: empty for a model that is not known.
    """

    optimizer: OptimizerName
    lr: Quantity
    weight_decay: WeightDecay
    eps: Quantity | None
    betas: Betas | None
    multiplier: Quantity
    init_std_mult: Quantity
    parameters: tuple[ParameterPattern, ...]


class Forecast(Strict):
    """Where one future run's own optimum of a base value lies, and what the recipe's then costs.

    Attributes:
        low, high: prediction interval, scatter between widths included, in units of the base
            value.
        level: how often such intervals hold the future optimum; 0.95 is 95 %.
        expected_excess_loss: nats per token above the optimum at the target; null for given optima,
            whose losses are not known.
        compute_multiplier: compute that would buy the excess back; null where no slope of the loss
            in compute is given.
        times_largest_width: target width over the largest fitted one.
        forms: the value by other forms than the line, from five widths on.
        sentence: the forecast in words.
    """

    low: Positive
    high: Positive
    level: Level
    expected_excess_loss: NonNegative | None
    compute_multiplier: Annotated[Number, Field(ge=1)] | None
    times_largest_width: Positive
    forms: dict[Literal["curved", "saturating"], Positive]
    sentence: str


class AttentionScaleValue(Strict):
    """The factor on q.k.

    Attributes:
        formula: of the head size.
        head_size: d_head at the target.
        value: the factor.
        status: derived from the rule, fitted, or assumed.
    """

    formula: AttentionScale
    head_size: Count
    value: Positive
    status: NumberStatus


class HoldsFor(Grown):
    """What the fit was made under; elsewhere the numbers are not claimed. Null: not declared, or
    for clip none.

    Attributes:
        depth: number of blocks; of an mlp, of hidden matrices.
        head_size: d_head; null too where it grows with width.
        heads: where their number is fixed.
        context: tokens per sequence.
        batch: sequences per step; samples, where the data are such.
        batch_tokens: tokens per step, batch * context.
        steps: optimizer steps.
        tokens: tokens trained on, batch_tokens * steps.
        warmup: steps of linear warm-up.
        schedule: of the rate, after the warm-up.
        decay_fraction: of schedule wsd, the share of all steps in which it decays.
        clip: global gradient norm above which a gradient is scaled down.
        precision: of the forward and backward pass.
        optimizer: by name.
        vocab: tokens in the vocabulary.
        options: of the built-in decoder, where they are not its defaults; all of an mlp.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"heads", "decay_fraction", "options"})

    depth: Natural | None
    head_size: Count | None
    heads: Count | None = None
    context: Count | None
    batch: Count
    batch_tokens: Count | None
    steps: Count
    tokens: Count | None
    warmup: Natural
    schedule: str | None
    decay_fraction: Share | None = None
    clip: Positive | None
    precision: str | None
    optimizer: str
    vocab: Count | None
    options: dict[str, str | int | bool] | None = None

    @property
    def decay_steps(self) -> int | None:
        return decay_steps(self.steps, self.decay_fraction) if self.decay_fraction else None


class Provenance(Strict):
    """Where the recipe comes from.

    Attributes:
        tool_version: of mutransfer, which wrote it.
        protocol_hash: as in the exponents; null where own results declared none.
        data_sha256: of what the proxies were trained on, hex; null for own results.
        widths: those of the fit, in features.
        trials: how many stand behind the fit.
    """

    tool_version: str
    protocol_hash: str | None
    data_sha256: str | None
    widths: tuple[Count, ...]
    trials: int


class RuleChoices(Strict):
    """What makes `roles` of the base values, with `parameterization`, `base_width`, `optimizer` and
    `lr_mult`; keys as in a sweep spec.

    Attributes:
        alignment: of updates with what they multiply: full, none, or exponents by role.
        lr_rule: rates by role, or one for all.
        weight_decay: how base weight decay goes with width.
        decay_convention: of every weight decay here.
        readout_decay: that of the hidden matrices, or none.
        epsilon: how eps goes with width; null where the optimizer has none.
        folded: multipliers are moved into the other values.
        eps: at the base width; null where the optimizer has none.
    """

    alignment: AlignmentChoice
    lr_rule: LrRule
    weight_decay: DecayRuleText
    decay_convention: DecayConvention
    readout_decay: ReadoutDecay
    epsilon: EpsilonRule | None
    folded: bool
    eps: Positive | None


class Recipe(Grown):
    """What to use at the target width.

    Attributes:
        schema: the format of this file, and its version.
        width: of the target, in features.
        scope: `per_role`; `global` where no protocol was declared, so that `base_lr` and
            `base_weight_decay` are for all parameters and nothing else is known.
        base_width: where every parameterization is the plain model.
        parameterization: the rule of init std and multiplier.
        values: absolute: to be used as they are, with no further scaling.
        optimizer: its settings that do not depend on width, as in a sweep spec.
        base_lr, base_weight_decay: the fitted base values at the target, before the rule's powers
            of width; contained in `roles` already.
        forecast: by fitted axis.
        lr_mult: factors on the rates of roles; contained in `roles` already.
        attention_scale: the factor on q.k.
        roles: the values of every role.
        holds_for: what the fit was made under; null where no protocol was declared.
        warnings: what speaks against using the recipe as it is.
        provenance: where it comes from.
        rule: null for scope `global`, and in recipes of before it was written.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"rule"})

    schema_: Literal["mutransfer.recipe/1"] = Field(alias="schema")
    width: Count
    scope: Literal["per_role", "global"]
    base_width: Count | None
    parameterization: ParameterizationName | None
    values: Literal["absolute"]
    rule: RuleChoices | None = None
    optimizer: dict[str, Any] | None
    base_lr: Quantity
    base_weight_decay: WeightDecay | None
    forecast: dict[AxisName, Forecast]
    lr_mult: dict[MatrixRole, Quantity]
    attention_scale: AttentionScaleValue | None
    roles: dict[Role, RoleRecipe]
    holds_for: HoldsFor | None
    warnings: tuple[str, ...]
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def says_where_it_is_from(cls, recipe: Any) -> Any:
        if isinstance(recipe, dict) and not recipe.get("provenance"):
            raise ValueError(
                "provenance is missing, so that nothing says which runs the values come from; "
                "write the recipe with `mutransfer transfer`"
            )
        return recipe
