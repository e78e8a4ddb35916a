"""The output multiplier of a tied weight, moved into the gain and bias before the readout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mutransfer_cli.rules.plan import BaseParameter, output_multiplier
from mutransfer_cli.rules.rule import Rule


def with_gains(
    base_plan: Sequence[BaseParameter], rule: Rule, width_mult: float
) -> tuple[BaseParameter, ...]:
    """The base plan in which the norm before a tied readout takes its output multiplier, if there
    is one with values that the plan determines; otherwise as it is.

    The gain becomes as large, at a rate that makes its updates as large, so that the logits train
    as before; gains do not decay.

    Args:
        width_mult: target width over base width.
    """
    tied = [p for p in base_plan if p.is_tied_readout]
    gains = [p for p in base_plan if p.before_readout]
    if len(tied) != 1 or not gains or any(p.keeps_draw for p in gains):
        return tuple(base_plan)
    factor = output_multiplier(rule, tied[0], width_mult)
    assert factor is not None, "a tied weight has one"
    moved = {tied[0].name: replace(tied[0], output_factor=tied[0].output_factor / factor)}
    moved |= {p.name: replace(p, factor=p.factor * factor) for p in gains}
    return tuple(moved.get(p.name, p) for p in base_plan)
