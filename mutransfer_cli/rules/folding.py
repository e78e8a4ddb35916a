"""Moving multipliers into init, rates, decay and epsilon: where that is exact and where not."""

from __future__ import annotations

from mutransfer_cli.rules.optimizers import family_of
from mutransfer_cli.rules.parameterizations import PARAMETERIZATIONS
from mutransfer_cli.rules.rule import Rule


def folding_limits(rule: Rule, width_mult: float, clip: bool) -> tuple[str, ...]:
    """Where a folded model is not exactly the model with its multipliers, and by how much.

    Args:
        width_mult: target width over base width.
        clip: whether the gradient is clipped by its global norm.
    """
    limits = []
    for role, layer in PARAMETERIZATIONS[rule.parameterization].items():
        if not layer.a:
            continue
        grown = width_mult ** float(layer.a)
        if clip:
            limits.append(
                f"the global gradient norm counts the folded {role} gradient {grown:.3g} times: "
                "clipping acts at another point"
            )
        if rule.effective_epsilon != "none" and family_of(rule.optimizer, role) == "adam":
            limits.append(
                f"{role} needs an eps of its own, {grown:.3g} times that of the unfolded model: "
                "one eps for all parameters is off by that factor"
            )
        if family_of(rule.optimizer, role) == "adafactor":
            limits.append(
                f"Adafactor's floor under the parameter scale is {grown:.3g} times higher against "
                f"the folded {role} weights"
            )
        if role != "hidden":
            limits.append(
                f"{role} weights tied to others cannot be folded: the others would be multiplied "
                f"by {1 / grown:.3g} too"
            )
    return tuple(limits)
