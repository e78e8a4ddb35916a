"""The built-in multilayer perceptron, whose hidden width is swept.

It is independent of parameterizations: multipliers, init and learning rates come from a plan.
Shape suffixes: B batch, I inputs, D width, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.inits import Init
from mutransfer_cli.proxies.transformer import Norm
from mutransfer_cli.spec.model import Activation

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
}


class MLP(nn.Module):
    """An input matrix, hidden matrices, each followed by an activation, and a readout; no biases.

    Args:
        inputs: I; outputs: O; width: D.
        depth: number of hidden matrices.
        normed: whether RMSNorm precedes each hidden matrix and the readout.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        activation: Activation,
        normed: bool,
    ) -> None:
        super().__init__()
        self.inputs, self.activation = inputs, ACTIVATIONS[activation]
        self.norm = Norm("rms", "none", width) if normed else nn.Identity()
        self.input = nn.Linear(inputs, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = nn.Linear(width, outputs, bias=False)

    def inits(self) -> dict[str, Init]:
        """The init of every weight at this width: std fan_in^-1/2."""
        return {name: Init(0.0, w.shape[1] ** -0.5) for name, w in self.named_parameters()}

    def forward(self, x_BI: Tensor) -> Tensor:
        """Outputs [B, O]."""
        x_BD = self.activation(self.input(x_BI))
        for hidden in self.hidden:
            x_BD = self.activation(hidden(self.norm(x_BD)))
        y_BO: Tensor = self.readout(self.norm(x_BD))
        return y_BO


def squared_error(outputs_BO: Tensor, targets_BO: Tensor) -> Tensor:
    """Mean over samples and outputs."""
    return (outputs_BO - targets_BO).square().mean()
