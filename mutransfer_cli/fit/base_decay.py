"""Weight decays that the optimizer got at each width, converted to those of the base width."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.rule import role_exponents
from mutransfer_cli.spec.protocol import DeclaredProtocol

SAME = 0.01  # relative; closer values are one, rounded at different widths


def applied_exponent(protocol: DeclaredProtocol) -> Fraction:
    """Exponent x of hidden matrices in weight decay ~ width^x, in the protocol's convention.

    Raises:
        InputError: the protocol's rule has no weight decay.
    """
    exponent = role_exponents(protocol.rule, "hidden").weight_decay
    if exponent is None:
        raise InputError(
            "weight_decay_values applied: parameterization.weight_decay none leaves no weight "
            "decay to convert; name the rule that the runs followed"
        )
    return exponent


def to_base(rows: pd.DataFrame, protocol: DeclaredProtocol) -> pd.DataFrame:
    """The rows with the base value of each weight decay, base = applied * (width / base)^-x.

    Base values that differ by rounding alone become one, that of the width closest to the base
    width.

    Args:
        rows: columns width and, as applied to hidden matrices there, weight_decay.

    Raises:
        InputError: no column weight_decay, or a rule without weight decay.
    """
    exponent = applied_exponent(protocol)
    if "weight_decay" not in rows:
        raise InputError(
            "weight_decay_values applied: the table has no column weight_decay to convert, and "
            "optimizer.weight_decay is a base value; say base"
        )
    width_mult = rows["width"].to_numpy() / protocol.parameterization.base_width
    base = rows["weight_decay"].to_numpy() * width_mult ** -float(exponent)
    return rows.assign(weight_decay=_merged(base, np.abs(np.log(width_mult))))


def _merged(
    values: npt.NDArray[np.float64], distance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Replace each run of values closer than `SAME` by the one with the least distance."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    run = np.cumsum(np.r_[False, ascending[1:] > ascending[:-1] * (1 + SAME)])
    merged = np.empty_like(values)
    for number in range(run[-1] + 1):
        members = order[run == number]
        merged[members] = values[members[np.argmin(distance[members])]]
    return merged


def refuse_another_rule(
    applied: pd.DataFrame, groups: Iterable[pd.DataFrame], protocol: DeclaredProtocol
) -> None:
    """Refuse a rule that the runs contradict: every width has one base value, and they differ.

    Args:
        applied: the rows before conversion.
        groups: parts of the rows after it, with the same index; each may have a value of its own.

    Raises:
        InputError: such a group.
    """
    for rows in groups:
        of_a_width = rows.groupby("width")["weight_decay"].nunique()
        if of_a_width.max() > 1 or rows["weight_decay"].nunique() == 1:
            continue
        by_width = pd.DataFrame(
            {
                "width": rows["width"],
                "applied": applied["weight_decay"].loc[rows.index],
                "base": rows["weight_decay"],
            }
        ).sort_values("width")
        shown = ", ".join(
            f"{one['applied']:.4g} at width {one['width']:g} to {one['base']:.4g}"
            for one in by_width.iloc[[0, -1]].to_dict("records")
        )
        raise InputError(
            f"weight_decay_values applied: weight_decay {protocol.parameterization.weight_decay} "
            f"converts {shown}, and runs that followed it have one base value; name the rule that "
            "they followed, such as constant"
        )
