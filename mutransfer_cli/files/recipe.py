"""The recipe, `schema: mutransfer.recipe/1`: what to use at the target, and how sure it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mutransfer_cli.files.spec import AttentionScale
from mutransfer_cli.files.strict import Count, Natural, NonNegative, Number, Positive, Strict
from mutransfer_cli.rules.optimizers import OptimizerName
from mutransfer_cli.rules.parameterizations import ParameterizationName
from mutransfer_cli.rules.roles import MatrixRole, Role
from mutransfer_cli.rules.weight_decay import DecayConvention

RECIPE_SCHEMA = "mutransfer.recipe/1"

NumberStatus = Literal["derived", "fitted", "assumed"]
Level = Annotated[Number, Field(gt=0, lt=1)]


class Quantity(Strict):
    """A number and what stands behind it.

    Attributes:
        status: derived from the rule, fitted with interval, or assumed.
        low, high, level: the interval of a fitted number.
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
    """lr_coupled: w -= lr * weight_decay * w, as torch.optim.AdamW. independent: without the lr."""

    convention: DecayConvention


class Betas(Strict):
    value: tuple[NonNegative, NonNegative]
    status: NumberStatus
    source: str


class ParameterPattern(Strict):
    """Parameters whose whole name matches `pattern` (Python regex), and their init std."""

    pattern: str
    init_std: Quantity


class RoleRecipe(Strict):
    """Absolute values for every parameter of a role at the target width.

    Attributes:
        optimizer: what updates the role; under muon all but hidden is adamw's.
        eps, betas: null where this optimizer has none.
    """

    optimizer: OptimizerName
    lr: Quantity
    weight_decay: WeightDecay
    eps: Quantity | None
    betas: Betas | None
    multiplier: Quantity
    parameters: tuple[ParameterPattern, ...]


class Forecast(Strict):
    """Where one future run's own optimum of the base lr lies, and what `base_lr` then costs.

    Attributes:
        low, high: prediction interval at `level`, scatter between widths included.
        expected_excess_loss: nats per token above the optimum at the target.
        times_largest_width: target width over the largest fitted one.
    """

    low: Positive
    high: Positive
    level: Level
    expected_excess_loss: NonNegative
    times_largest_width: Positive
    sentence: str


class AttentionScaleValue(Strict):
    formula: AttentionScale
    head_size: Count
    value: Positive
    status: NumberStatus


class HoldsFor(Strict):
    """What the fit was made under; elsewhere the numbers are not claimed."""

    depth: Count
    head_size: Count
    context: Count
    batch: Count
    batch_tokens: Count
    steps: Count
    tokens: Count
    warmup: Natural
    schedule: str
    clip: Positive | None
    precision: str
    optimizer: str
    vocab: Count


class Provenance(Strict):
    tool_version: str
    protocol_hash: str
    data_sha256: str
    widths: tuple[Count, ...]
    trials: int


class Recipe(Strict):
    """
    Attributes:
        optimizer: its settings that do not depend on width, as in a sweep spec.
        lr_mult: factors on the rates of roles; contained in `roles` already.
    """

    schema_: Literal["mutransfer.recipe/1"] = Field(alias="schema")
    width: Count
    base_width: Count
    parameterization: ParameterizationName
    values: Literal["absolute"]
    optimizer: dict[str, Any]
    base_lr: Quantity
    forecast: Forecast
    lr_mult: dict[MatrixRole, Quantity]
    attention_scale: AttentionScaleValue
    roles: dict[Role, RoleRecipe]
    holds_for: HoldsFor
    warnings: tuple[str, ...]
    provenance: Provenance
