"""The recipe, `schema: mutransfer.recipe/1`: what to use at the target, and how sure it is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.rules.choices import MatrixRole, ParameterizationName, Role
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
    """A number and what stands behind it."""

    value: Number
    """The number to use, in the units of its key."""
    status: NumberStatus
    """Derived from the rule, fitted with interval, or assumed."""
    low: Number | None = None
    """The ends of the interval of a fitted number."""
    high: Number | None = None
    """The ends of the interval of a fitted number."""
    level: Level | None = None
    """How often such intervals hold the truth; 0.95 is 95 %."""
    source: str
    """Where the number comes from, in a few words."""

    @model_serializer(mode="wrap")
    def without_absent_interval(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class WeightDecay(Quantity):
    """lr_coupled: w -= lr * weight_decay * w, as torch.optim.AdamW. independent: without the lr."""

    convention: DecayConvention | None = None
    """lr_coupled, w -= lr * value * w, or independent, w -= schedule * value * w; left out where
    own results did not say it."""


class Betas(Strict):
    """Decay per step of Adam's means, and what stands behind it."""

    value: tuple[NonNegative, NonNegative]
    """Of the mean of the gradient, and of that of its square."""
    status: NumberStatus
    """Derived from the rule, fitted, or assumed."""
    source: str
    """Where the numbers come from, in a few words."""


class OwnValues(Strict):
    """What differs between parameters of one role whose fan-ins grow by different factors."""

    lr: Quantity
    """Peak rate per step."""
    weight_decay: WeightDecay
    """Per step, in its convention."""
    eps: Quantity | None
    """Added to sqrt(v), in units of the gradient; null where this optimizer has none."""
    multiplier: Quantity
    """Factor on the weight in the forward pass."""
    init_std_mult: Quantity
    """The init std over that of the base model."""


class AtBase(Grown):
    """A parameter of the base model, of which the rule makes its values here."""

    LATER: ClassVar[frozenset[str]] = frozenset({"fan_in", "own_multiplier", "init_exponent"})

    init_std: NonNegative
    """Its own at the base width."""
    fan_in: tuple[Count, Count] | None = None
    """At the base width and here, where it grows by another factor than the width."""
    own_multiplier: Number = 0.0
    """Exponent of the width in a factor that the model's own code puts on it."""
    init_exponent: Number | None = None
    """Exponent of the width in the init std of weight times multiplier, where it is not by the
    rule."""


class ParameterPattern(Strict):
    """Parameters whose whole name matches `pattern`, and their init: normal values."""

    pattern: str
    """Python regex of the whole dotted name."""
    init_std: Quantity
    """Standard deviation of the values at init."""
    init_mean: Number = 0.0
    """The constant around which they are drawn, 1 of a gain; not written where it is 0."""
    own: OwnValues | None = None
    """In place of the role's values, where the fan-in grows by another factor than the role's; not
    written where there are none."""
    base: AtBase | None = None
    """The same parameters of the base model; null in recipes of before it was written."""

    @model_serializer(mode="wrap")
    def without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept = {"pattern", "init_std"}
        return {key: value for key, value in handler(self).items() if key in kept or value}


class RoleRecipe(Strict):
    """Absolute values for every parameter of a role at the target width."""

    optimizer: OptimizerName
    """What updates the role; under muon all but hidden is adamw's."""
    lr: Quantity
    """Peak rate per step."""
    weight_decay: WeightDecay
    """Per step, in its convention."""
    eps: Quantity | None
    """Added to sqrt(v), in units of the gradient; null where this optimizer has none."""
    betas: Betas | None
    """Null where this optimizer has none."""
    multiplier: Quantity
    """Factor on the weight in the forward pass."""
    init_std_mult: Quantity
    """The init std over that of the base model."""
    parameters: tuple[ParameterPattern, ...]
    """Empty for a model that is not known."""


class Forecast(Strict):
    """Where one future run's own optimum of a base value lies, and what the recipe's then costs."""

    low: Positive
    """Prediction interval, scatter between widths included, in units of the base value."""
    high: Positive
    """Prediction interval, scatter between widths included, in units of the base value."""
    level: Level
    """How often such intervals hold the future optimum; 0.95 is 95 %."""
    expected_excess_loss: NonNegative | None
    """Nats per token above the optimum at the target; null for given optima, whose losses are not
    known."""
    compute_multiplier: Annotated[Number, Field(ge=1)] | None
    """Compute that would buy the excess back; null where no slope of the loss in compute is given.
    """
    times_largest_width: Positive
    """Target width over the largest fitted one."""
    forms: dict[Literal["curved", "saturating"], Positive]
    """The value by other forms than the line, from five widths on."""
    sentence: str
    """The forecast in words."""


class AttentionScaleValue(Strict):
    """The factor on q.k."""

    formula: AttentionScale
    """Of the head size."""
    head_size: Count
    """d_head at the target."""
    value: Positive
    """The factor."""
    status: NumberStatus
    """Derived from the rule, fitted, or assumed."""


class HoldsFor(Grown):
    """What the fit was made under; elsewhere the numbers are not claimed. Null: not declared, or
    for clip none.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"heads", "decay_fraction", "options"})

    depth: Natural | None
    """Number of blocks; of an mlp, of hidden matrices."""
    head_size: Count | None
    """d_head; null too where it grows with width."""
    heads: Count | None = None
    """Where their number is fixed."""
    context: Count | None
    """Tokens per sequence."""
    batch: Count
    """Sequences per step; samples, where the data are such."""
    batch_tokens: Count | None
    """Tokens per step, batch * context."""
    steps: Count
    """Optimizer steps."""
    tokens: Count | None
    """Tokens trained on, batch_tokens * steps."""
    warmup: Natural
    """Steps of linear warm-up."""
    schedule: str | None
    """Of the rate, after the warm-up."""
    decay_fraction: Share | None = None
    """Of schedule wsd, the share of all steps in which it decays."""
    clip: Positive | None
    """Global gradient norm above which a gradient is scaled down."""
    precision: str | None
    """Of the forward and backward pass."""
    optimizer: str
    """By name."""
    vocab: Count | None
    """Tokens in the vocabulary."""
    options: dict[str, str | int | bool] | None = None
    """Of the built-in decoder, where they are not its defaults; all of an mlp."""

    @property
    def decay_steps(self) -> int | None:
        return decay_steps(self.steps, self.decay_fraction) if self.decay_fraction else None


class Provenance(Strict):
    """Where the recipe comes from."""

    tool_version: str
    """Of mutransfer, which wrote it."""
    protocol_hash: str | None
    """As in the exponents; null where own results declared none."""
    data_sha256: str | None
    """Of what the proxies were trained on, hex; null for own results."""
    widths: tuple[Count, ...]
    """Those of the fit, in features."""
    trials: int
    """How many stand behind the fit."""


class RuleChoices(Strict):
    """What makes `roles` of the base values, with `parameterization`, `base_width`, `optimizer` and
    `lr_mult`; keys as in a sweep spec.
    """

    alignment: AlignmentChoice
    """Of updates with what they multiply: full, none, or exponents by role."""
    lr_rule: LrRule
    """Rates by role, or one for all."""
    weight_decay: DecayRuleText
    """How base weight decay goes with width."""
    decay_convention: DecayConvention
    """Of every weight decay here."""
    readout_decay: ReadoutDecay
    """That of the hidden matrices, or none."""
    epsilon: EpsilonRule | None
    """How eps goes with width; null where the optimizer has none."""
    folded: bool
    """Multipliers are moved into the other values."""
    eps: Positive | None
    """At the base width; null where the optimizer has none."""


class Recipe(Grown):
    """What to use at the target width."""

    LATER: ClassVar[frozenset[str]] = frozenset({"rule"})

    schema_: Literal["mutransfer.recipe/1"] = Field(alias="schema")
    """The format of this file, and its version."""
    width: Count
    """Of the target, in features."""
    scope: Literal["per_role", "global"]
    """`per_role`; `global` where no protocol was declared, so that `base_lr` and
    `base_weight_decay` are for all parameters and nothing else is known."""
    base_width: Count | None
    """Where every parameterization is the plain model."""
    parameterization: ParameterizationName | None
    """The rule of init std and multiplier."""
    values: Literal["absolute"]
    """Absolute: to be used as they are, with no further scaling."""
    rule: RuleChoices | None = None
    """Null for scope `global`, and in recipes of before it was written."""
    optimizer: dict[str, Any] | None
    """Its settings that do not depend on width, as in a sweep spec."""
    base_lr: Quantity
    """The fitted base values at the target, before the rule's powers of width; contained in `roles`
    already."""
    base_weight_decay: WeightDecay | None
    """The fitted base values at the target, before the rule's powers of width; contained in `roles`
    already."""
    forecast: dict[AxisName, Forecast]
    """By fitted axis."""
    lr_mult: dict[MatrixRole, Quantity]
    """Factors on the rates of roles; contained in `roles` already."""
    attention_scale: AttentionScaleValue | None
    """The factor on q.k."""
    roles: dict[Role, RoleRecipe]
    """The values of every role."""
    holds_for: HoldsFor | None
    """What the fit was made under; null where no protocol was declared."""
    warnings: tuple[str, ...]
    """What speaks against using the recipe as it is."""
    provenance: Provenance
    """Where it comes from."""

    @model_validator(mode="before")
    @classmethod
    def says_where_it_is_from(cls, recipe: Any) -> Any:
        if isinstance(recipe, dict) and not recipe.get("provenance"):
            raise ValueError(
                "provenance is missing, so that nothing says which runs the values come from; "
                "write the recipe with `mutransfer transfer`"
            )
        return recipe
