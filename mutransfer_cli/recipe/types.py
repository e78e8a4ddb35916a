"""The recipe file, `schema: mutransfer.recipe/1`: every value with its status and source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mutransfer_cli.fit.forms import Form
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.recipe.choices import RuleChoices
from mutransfer_cli.recipe.quantities import Betas, NumberStatus, Quantity, WeightDecay
from mutransfer_cli.rules.choices import MatrixRole, ParameterizationName, Role
from mutransfer_cli.rules.plan import AxisName, Values
from mutransfer_cli.rules.schedule import decay_steps
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.decoder import AttentionScale
from mutransfer_cli.spec.yaml_io import dump, write_result
from mutransfer_cli.strict import (
    Count,
    Natural,
    NonNegative,
    Number,
    Positive,
    Share,
    Sparse,
    Strict,
)
from mutransfer_cli.words import rate

RECIPE_SCHEMA = "mutransfer.recipe/1"
ROLE_KEYS = (
    *("optimizer", "lr", "weight_decay", "eps", "betas"),
    *("multiplier", "init_std_mult", "parameters"),
)


class OwnValues(Strict):
    """Values of a role, or of those of its parameters whose fan-in grows by another factor."""

    lr: Quantity
    """Peak rate per step."""
    weight_decay: WeightDecay
    """Weight decay per step, in its convention."""
    eps: Quantity | None
    """Added to sqrt(v), in units of the gradient; null where this optimizer has none."""
    multiplier: Quantity
    """Factor on the weight in the forward pass."""
    init_std_mult: Quantity
    """The init std over that of the base model."""


class AtBase(Sparse):
    """A parameter of the base model, from which the rule derives its values at the target."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset(
        {
            *("fan_in", "own_multiplier", "init_exponent", "factor"),
            *("in_block", "is_tied_readout", "own_output_multiplier", "output_factor"),
        }
    )

    init_std: NonNegative
    """Init std at the base width."""
    fan_in: tuple[Count, Count] | None = None
    """Fan-in at the base width and at the target, where it does not grow with the width's
    factor."""
    own_multiplier: Number = 0.0
    """Exponent of the width in a factor that the model's own code puts on the weight."""
    init_exponent: Number | None = None
    """Exponent of the width in the init std of weight times multiplier, where it is not the
    rule's."""
    factor: Positive = 1.0
    """The attention scale over the model's own, the output multiplier of a tied weight, or the
    inverse of a factor of the model's own code that the proxies lack, where it is moved into this
    parameter."""
    in_block: bool = False
    """Whether it is an embedding inside the model, which decays as hidden matrices do."""
    is_tied_readout: bool = False
    """Whether it is an embedding that is the readout too."""
    own_output_multiplier: Number = 0.0
    """As `own_multiplier`, where a tied embedding is the readout."""
    output_factor: Positive = 1.0
    """A factor on the output multiplier: the inverse of what other parameters take of it."""


class ParameterPattern(Sparse):
    """Parameters whose whole name matches `pattern`, with the normal distribution of their init."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset(
        {"init_std", "init_mean", "keeps_draw", "output_multiplier", "own", "base"}
    )

    pattern: str
    """Regular expression of the whole dotted name, in Python's syntax."""
    init_std: Quantity | None = None
    """Standard deviation of the values at init, which a kept draw has at the base width."""
    init_mean: Number = 0.0
    """Mean of the values at init; 1 for a gain. Not written where it is 0."""
    keeps_draw: bool = False
    """Whether they start at the values that the model's own code draws, shifted and scaled to
    `init_mean` and `init_std` where these differ by more than chance."""
    output_multiplier: Quantity | None = None
    """Factor on the weight of an embedding where it is the readout too, in place of `multiplier`;
    absent for every other parameter."""
    own: OwnValues | None = None
    """Values in place of the role's, where the fan-in grows by another factor than the role's;
    absent otherwise."""
    base: AtBase | None = None
    """The same parameters of the base model; absent in recipes of older versions."""

    @model_validator(mode="after")
    def says_how_it_starts(self) -> ParameterPattern:
        if self.init_std is None and not self.keeps_draw:
            raise ValueError(f"{self.pattern}: init_std is missing; give it, or keeps_draw: true")
        return self

    @property
    def std(self) -> float | None:
        """The number of `init_std`, if there is one."""
        return None if self.init_std is None else self.init_std.value

    @property
    def output(self) -> float | None:
        """The number of `output_multiplier`, if there is one."""
        return None if self.output_multiplier is None else self.output_multiplier.value


class RoleRecipe(OwnValues):
    """Absolute values for every parameter of a role at the target width."""

    optimizer: OptimizerName
    """The optimizer of the role; under muon, every role but hidden is updated by adamw."""
    betas: Betas | None
    """Decay per step of Adam's means; null where this optimizer has none."""
    parameters: tuple[ParameterPattern, ...]
    """Patterns of the role's parameters; empty for a model that is not known."""

    @model_serializer(mode="wrap")
    def in_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the keys in the order of the file; the inherited ones would come first."""
        written = handler(self)
        return {key: written[key] for key in ROLE_KEYS}

    def of_pattern(self, pattern: ParameterPattern | None) -> OwnValues:
        """The values of the parameters that a pattern claims: its own, otherwise the role's."""
        return self if pattern is None or pattern.own is None else pattern.own

    def values(
        self,
        pattern: ParameterPattern | None = None,
        convention: DecayConvention | None = "lr_coupled",
    ) -> Values:
        """The numbers alone, for the parameters that a pattern claims or for the role.

        Args:
            pattern: without it, init mean and std are not known.
            convention: of a weight decay for which the file names none.

        Raises:
            InputError: the convention of a weight decay is not known.
        """
        own = self.of_pattern(pattern)
        return Values(
            lr=own.lr.value,
            weight_decay=own.weight_decay.coupled(own.lr.value, convention),
            eps=own.eps.value if own.eps else None,
            betas=self.betas.value if self.betas else None,
            multiplier=own.multiplier.value,
            output_multiplier=pattern.output if pattern else None,
            init_mean=pattern.init_mean if pattern else 0.0,
            init_std=pattern.std if pattern else None,
            keeps_draw=pattern.keeps_draw if pattern else False,
        )


class RecipeGroup(NamedTuple):
    """Parameters of a role that have the same values: `own` ones, or without them the role's."""

    role: Role
    own: OwnValues | None
    patterns: tuple[ParameterPattern, ...]


class Forecast(Strict):
    """Where the optimum of one future run lies, and what using the recipe's value costs."""

    low: Positive
    """Lower end of the prediction interval; where the optima bend, it spans those by all forms."""
    high: Positive
    """Upper end of the prediction interval; scatter between widths is included."""
    level: Share
    """Probability that such an interval holds the future optimum; 0.95 is 95%."""
    expected_excess_loss: NonNegative | None
    """Nats per token above the optimum at the target, the most by any supported form; null for
    given optima, whose losses are not known."""
    compute_multiplier: Annotated[Number, Field(ge=1)] | None
    """Compute that would buy the excess back; null without a slope of the loss in compute."""
    times_largest_width: Positive
    """Target width over the largest fitted one."""
    forms: dict[Form, Positive]
    """The value by forms other than the line, from five widths on."""
    sentence: str
    """The forecast in words."""


class AttentionScaleValue(Sparse):
    """The factor on q.k."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"folded"})

    formula: AttentionScale
    """The factor as a function of the head size."""
    head_size: Count
    """d_head at the target."""
    value: Positive
    """The factor."""
    status: NumberStatus
    """How it was found: derived from the rule, fitted, or assumed."""
    folded: bool = False
    """Whether the factor over 1/sqrt(d_head) is moved into the query matrices, so that the model
    keeps 1/sqrt(d_head)."""

    @property
    def in_forward_pass(self) -> bool:
        """Whether the model's own code must apply it, as it is not the usual 1/sqrt(d_head)."""
        return self.formula != "1/sqrt(d_head)" and not self.folded


class HoldsFor(Sparse):
    """Conditions of the fit; elsewhere the numbers are not claimed.

    Null means not declared; for clip it means no clipping.
    """

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"heads", "decay_fraction", "options"})

    depth: Natural | None
    """Number of blocks; for an mlp, of hidden matrices."""
    head_size: Count | None
    """d_head; null also where it grows with width."""
    heads: Count | None = None
    """Number of heads, where it is fixed."""
    context: Count | None
    """Tokens per sequence."""
    batch: Count
    """Sequences per step; samples for an mlp."""
    batch_tokens: Count | None
    """Tokens per step, batch * context."""
    steps: Count
    """Optimizer steps."""
    tokens: Count | None
    """Tokens trained on, batch_tokens * steps."""
    warmup: Natural
    """Steps of linear warm-up."""
    schedule: str | None
    """Schedule of the learning rate after the warm-up."""
    decay_fraction: Share | None = None
    """The share of all steps in which schedule wsd decays."""
    clip: Positive | None
    """Global gradient norm above which a gradient is scaled down."""
    precision: str | None
    """Precision of the forward and backward pass."""
    optimizer: str
    """Name of the optimizer."""
    vocab: Count | None
    """Tokens in the vocabulary."""
    options: dict[str, str | int | bool] | None = None
    """Options of the built-in decoder that are not its defaults; for an mlp, all of them."""

    @property
    def decay_steps(self) -> int | None:
        """Steps in which schedule wsd decays; None for other schedules."""
        return decay_steps(self.steps, self.decay_fraction) if self.decay_fraction else None


class Provenance(Strict):
    """Where the recipe comes from."""

    tool_version: str
    """The version of mutransfer that wrote it."""
    protocol_hash: str | None
    """As in the exponents; null where own results declared none."""
    data_sha256: str | None
    """Hash of what the proxies were trained on, hex; null for own results."""
    widths: tuple[Count, ...]
    """Widths of the fit, in features."""
    trials: int
    """Number of trials behind the fit."""


class Recipe(Sparse):
    """The values to use at the target width."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"rule"})

    schema_: Literal["mutransfer.recipe/1"] = Field(alias="schema")
    """The format of this file, and its version."""
    width: Count
    """Width of the target, in features."""
    scope: Literal["per_role", "global"]
    """What the values are for: `per_role`; or `global` where no protocol was declared, so that
    `base_lr` and `base_weight_decay` are for all parameters and nothing else is known."""
    base_width: Count | None
    """The width at which every parameterization is the plain model."""
    parameterization: ParameterizationName | None
    """The rule of init std and multiplier."""
    values: Literal["absolute"]
    """How the values are to be used: absolute, as they are, with no further scaling."""
    rule: RuleChoices | None = None
    """Null for scope `global`, and in recipes of older versions."""
    optimizer: dict[str, Any] | None
    """The optimizer's settings that do not depend on width, as in a sweep spec."""
    base_lr: Quantity
    """The fitted base rate at the target, before the rule's powers of width, which `roles`
    contain."""
    base_weight_decay: WeightDecay | None
    """The fitted base weight decay at the target, likewise."""
    forecast: dict[AxisName, Forecast]
    """The forecast of each fitted axis."""
    lr_mult: dict[MatrixRole, Quantity]
    """Factors on the rates of roles; `roles` contain them."""
    attention_scale: AttentionScaleValue | None
    """The factor on q.k."""
    roles: dict[Role, RoleRecipe]
    """The values of every role."""
    holds_for: HoldsFor | None
    """Conditions of the fit; null where no protocol was declared."""
    warnings: tuple[str, ...]
    """Reasons not to use the recipe as it is."""
    provenance: Provenance
    """Where the recipe comes from."""

    @model_validator(mode="before")
    @classmethod
    def says_where_it_is_from(cls, recipe: Any) -> Any:
        if isinstance(recipe, dict) and not recipe.get("provenance"):
            raise ValueError(
                "provenance is missing, so the runs behind the values are not known; write the "
                "recipe with `mutransfer transfer`"
            )
        return recipe

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe file, as `mutransfer transfer` does.

        Raises:
            InputError: the path cannot be written.
        """
        write_result(dump(self), Path(path))

    def __repr__(self) -> str:
        roles = f"; {', '.join(self.roles)}" if self.roles else ""
        return f"Recipe for width {self.width}: base lr {rate(self.base_lr.value)}{roles}"

    __str__ = __repr__

    def groups(self) -> dict[str, RecipeGroup]:
        """The groups of an optimizer by name: state is saved by their place, so the order stays.

        Roles are in the order of the recipe, hidden last; within a role, values of patterns' own
        (hidden_2, hidden_3, ...) come before the role's, the last named first.
        """
        found: dict[str, RecipeGroup] = {}
        for role in sorted(self.roles, key=lambda role: role == "hidden"):
            patterns = self.roles[role].parameters
            owns = dict.fromkeys([None, *(p.own for p in patterns)])
            names = [str(role), *(f"{role}_{n}" for n in range(2, len(owns) + 1))]
            for name, own in reversed(list(zip(names, owns, strict=True))):
                found[name] = RecipeGroup(role, own, tuple(p for p in patterns if p.own == own))
        return found

    def base_values(self, convention: DecayConvention | None = "lr_coupled") -> Values:
        """The base numbers alone; under scope `global` they are for all parameters.

        Args:
            convention: of a weight decay for which the file names none.

        Raises:
            InputError: the convention of the weight decay is not known.
        """
        lr, decay = self.base_lr.value, self.base_weight_decay
        return Values(lr=lr, weight_decay=decay.coupled(lr, convention) if decay else None)
