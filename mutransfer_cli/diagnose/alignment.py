"""How much the inputs of a matrix line up with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mutransfer_cli.proxies.orientation import is_transformers_conv1d


@dataclass(frozen=True)
class Product:
    """A product of one trial's forward pass: weight W, input z [..., fan-in], output W z."""

    weight: Tensor
    input: Tensor
    output: Tensor

    @classmethod
    def of(cls, layer: nn.Module, z: Tensor, out: Tensor) -> Product:
        """Of a module that `multiplies`, from what went in and came out."""
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor), "it multiplies"
        return cls(weight, z, out - bias if isinstance(bias, Tensor) else out)


def multiplies(module: nn.Module) -> bool:
    """Whether its output is its weight times its input, plus a bias."""
    return type(module).forward is nn.Linear.forward or is_transformers_conv1d(module)


def log_alignment_ratio(calls: Sequence[Product]) -> Tensor:
    """A = log_fan_in(|W z|_RMS / (|W|_RMS |z|_RMS)) over all calls of a matrix (Everett et al.
    2024, arXiv 2407.05872); in Frobenius norms 1 + log_fan_in(|W z| / (|W| |z|)).

    1/2 where W and z know nothing of each other, 1 where every row of W points along z. It takes
    W z as a whole: the exponents alpha, omega and u of the rules, which ask how updates line up
    with activations and with their changes, are others. Not finite where the fan-in is 1.
    """
    fan_in = calls[0].input.shape[-1]
    z, wz = joint_norm([call.input for call in calls]), joint_norm([call.output for call in calls])
    ratio = wz / (joint_norm([calls[0].weight]) * z)
    return 1 + ratio.log() / (math.log(fan_in) or math.nan)


def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Of all values of one trial together."""
    norms = [torch.linalg.vector_norm(x) for x in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms)) if norms[1:] else norms[0]
    return total
