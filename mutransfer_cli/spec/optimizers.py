"""The optimizer section of a spec: base values, at the base width, of each optimizer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from mutransfer_cli.rules.choices import LrAdjustment, MatrixRole, OptimizerName
from mutransfer_cli.strict import NonNegative, Number, Positive, Strict, nearest

BelowOne = Annotated[NonNegative, Field(lt=1)]
Betas = tuple[BelowOne, BelowOne]


class _Common(Strict):
    """What every optimizer has."""

    weight_decay: NonNegative = 0.0
    """Decoupled, at the base width, in the convention of `parameterization.decay_convention`."""
    lr_mult: dict[MatrixRole, Positive] = Field(default_factory=dict)
    """Constants gamma, factors on the rate of a role (Everett et al. 2024); 1 if absent."""


class SGDSpec(_Common):
    """SGD with momentum."""

    name: Literal["sgd"]
    """Which optimizer: sgd."""
    momentum: BelowOne = 0.9
    """Decay of the momentum per step."""


class AdamSpec(_Common):
    """Adam. Its weight decay would pass through the denominator: AdamW is there for decay."""

    name: Literal["adam"]
    """Which optimizer: adam."""
    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    eps: Positive = 1e-8
    """Added to sqrt(v), in units of the gradient."""

    @model_validator(mode="after")
    def without_decay(self) -> AdamSpec:
        if self.weight_decay:
            raise ValueError(f"weight_decay {self.weight_decay:g}: adam has none; use name: adamw")
        return self


class AdamWSpec(_Common):
    """AdamW."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer: adamw."""
    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    eps: Positive = 1e-8
    """Added to sqrt(v), in units of the gradient."""


class AdamAtan2Spec(_Common):
    """Adam-atan2: lr * a * atan2(m, b * sqrt(v)), without eps."""

    name: Literal["adam_atan2"]
    """Which optimizer: adam_atan2."""
    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    a: Positive = 1.27
    """Factor on the arc tangent."""
    b: Positive = 1.0
    """Factor on sqrt(v)."""


class LionSpec(_Common):
    """Lion; betas of its paper."""

    name: Literal["lion"]
    """Which optimizer: lion."""
    betas: Betas = (0.9, 0.99)
    """Weight of the momentum in the update, and decay of the momentum per step."""


class AdafactorSpec(_Common):
    """Adafactor with parameter scale: lr is relative to the weights. Values of torch."""

    name: Literal["adafactor"]
    """Which optimizer: adafactor."""
    beta2_decay: Annotated[Number, Field(lt=0)] = -0.8
    """X of the second moment's decay 1 - step^x, below 0."""
    scale_floor: Positive = 1e-3
    """The least root mean square of a weight that an update is scaled by."""


class MuonSpec(_Common):
    """Muon for hidden matrices; betas and eps are those of AdamW for all others."""

    name: Literal["muon"]
    """Which optimizer: muon."""
    momentum: BelowOne = 0.95
    """Decay of the momentum per step."""
    lr_adjustment: LrAdjustment = "original"
    """Factor on the rate of a matrix of A x B: original sqrt(max(1, A / B)), match_rms_adamw 0.2
    sqrt(max(A, B)), under which updates are as large as AdamW's."""
    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    eps: Positive = 1e-8
    """Added to sqrt(v), in units of the gradient."""


def _name(section: Any) -> Any:
    return section.get("name", "adamw") if isinstance(section, dict) else section.name


def _known(section: Any) -> Any:
    if isinstance(section, dict):
        name, valid = _name(section), get_args(OptimizerName)
        if name not in valid:
            raise ValueError(f"name: unknown optimizer {name!r}{nearest(str(name), valid)}")
    elif not isinstance(section, Strict):
        raise ValueError(f"expected a mapping of keys, found {section!r}")
    return section


OptimizerSpec = Annotated[
    Annotated[SGDSpec, Tag("sgd")]
    | Annotated[AdamSpec, Tag("adam")]
    | Annotated[AdamWSpec, Tag("adamw")]
    | Annotated[AdamAtan2Spec, Tag("adam_atan2")]
    | Annotated[LionSpec, Tag("lion")]
    | Annotated[AdafactorSpec, Tag("adafactor")]
    | Annotated[MuonSpec, Tag("muon")],
    Discriminator(_name),
    BeforeValidator(_known),
]
