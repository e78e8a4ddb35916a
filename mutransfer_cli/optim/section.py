"""The base of every optimizer: its section of a spec and its update.

An optimizer is one class in one file, listed in `listed.py`. Specs are read without torch, so these
files use methods of tensors, and import torch only inside functions. Every parameter is a stack
[T, ...] of T trials; every hyperparameter that differs between trials is a tensor [T].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import MatrixRole, Optimizer, Role
from mutransfer_cli.strict import NonNegative, Positive, Strict

if TYPE_CHECKING:
    from torch import Tensor

BelowOne = Annotated[NonNegative, Field(lt=1)]
Betas = Annotated[tuple[BelowOne, BelowOne], Field(examples=[[0.9, 0.95]])]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters of one role that share hyperparameters.

    Attributes:
        names: the parameters.
        lr: peak learning rate per step, [T].
        weight_decay: lr-coupled, [T].
        eps: added to the root of the second moment, [T]; unused where the optimizer has none.
    """

    names: tuple[str, ...]
    role: Role
    lr: Tensor
    weight_decay: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Member:
    """A parameter, its gradient, and its optimizer state by slot; all [T, ...]."""

    param: Tensor
    grad: Tensor
    slots: Mapping[str, Tensor]


class OptimizerSection(Strict):
    """An optimizer with its settings, which are the same for all trials."""

    weight_decay: NonNegative = 0.0
    """Decoupled, at the base width, in the convention of `parameterization.decay_convention`."""
    lr_mult: dict[MatrixRole, Positive] = Field(default_factory=dict)
    """Constants gamma, factors on the rate of a role (Everett et al. 2024); 1 if absent."""
    name: str
    """Which optimizer."""

    @property
    def facts(self) -> Optimizer:
        """The facts that the rules need."""
        return OPTIMIZERS[self.name]

    @abstractmethod
    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        """First values of the state that the optimizer keeps of a parameter."""

    @abstractmethod
    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> Sequence[Tensor]:
        """Return the amount that each member loses at a rate of 1; change slots in place.

        Nothing here may wait for the device: the step is captured in a CUDA graph.

        Args:
            step: steps done with this one, [T]; 1 in the first.
        """


def over(per_trial: Tensor, stack: Tensor) -> Tensor:
    """[T] in the type and shape that broadcast over a stack [T, ...]."""
    return per_trial.to(stack.dtype).view(-1, *[1] * (stack.dim() - 1))
