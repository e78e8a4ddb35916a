"""Roles: what width does to a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from mutransfer_cli.errors import InputError

MatrixRole = Literal["embedding", "hidden", "readout"]
Role = Literal[MatrixRole, "vector", "scalar"]

MATRIX_ROLES: tuple[MatrixRole, ...] = get_args(MatrixRole)
ROLES: tuple[Role, ...] = get_args(Role)


def role_of(
    name: str,
    growing_axes: Sequence[int],
    fan_in_axis: int | None,
    is_readout: bool,
) -> Role:
    """Role of a parameter from the axes that grow with width.

    Args:
        name: parameter name, for the error message.
        growing_axes: axes whose size differs between two widths.
        fan_in_axis: the input axis of a matrix (1 in Linear, 0 in Embedding); None for one axis.
        is_readout: whether this matrix produces the model's output.

    Raises:
        InputError: the readout's fan-in does not grow, so width cannot scale the output.
    """
    if is_readout:
        if fan_in_axis not in growing_axes:
            raise InputError(f"readout {name}: its fan-in does not grow with width")
        return "readout"
    if not growing_axes:
        return "scalar"
    if fan_in_axis is None:
        return "vector"
    return "hidden" if fan_in_axis in growing_axes else "embedding"
