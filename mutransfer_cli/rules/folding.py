"""Moving multipliers into init, rates, decay and epsilon: where that is exact and where not."""

from __future__ import annotations

from fractions import Fraction

from mutransfer_cli.rules.optimizers import family_of
from mutransfer_cli.rules.parameterizations import PARAMETERIZATIONS
from mutransfer_cli.rules.rule import Rule


def folding_limits(rule: Rule, clip: bool, width_mult: float | None = None) -> tuple[str, ...]:
    """Where a folded model is not exactly the model with its multipliers, and by how much.

    Args:
        clip: whether the gradient is clipped by its global norm.
        width_mult: target width over base width; without it factors are powers of it.
    """
    limits = []
    for role, layer in PARAMETERIZATIONS[rule.parameterization].items():
        if not layer.a:
            continue
        grown = _power(layer.a, width_mult)
        if clip:
            limits.append(
                f"the global gradient norm counts the folded {role} gradient {grown} times: "
                "clipping acts at another point"
            )
        if rule.effective_epsilon != "none" and family_of(rule.optimizer, role) == "adam":
            limits.append(
                f"{role} needs an eps of its own, {grown} times that of the unfolded model: one "
                "eps for all parameters is off by that factor"
            )
        if family_of(rule.optimizer, role) == "adafactor":
            limits.append(
                f"Adafactor's floor under the parameter scale is {grown} times higher against the "
                f"folded {role} weights"
            )
        if role != "hidden":
            limits.append(
                f"{role} weights tied to others cannot be folded: the others would be multiplied "
                f"by {_power(-layer.a, width_mult)} too"
            )
    return tuple(limits)


def folds_exactly(rule: Rule, clip: bool) -> bool:
    """Whether a folded model trains as the unfolded one, given rate, decay and eps of each role.

    Args:
        clip: whether the gradient is clipped by its global norm.
    """
    moved = [role for role, layer in PARAMETERIZATIONS[rule.parameterization].items() if layer.a]
    return not clip and all(family_of(rule.optimizer, role) != "adafactor" for role in moved)


def _power(exponent: Fraction, width_mult: float | None) -> str:
    if width_mult is None:
        return f"width_mult^{exponent}"
    return f"{width_mult ** float(exponent):.3g}"
