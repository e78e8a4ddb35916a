"""What is asked of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mutransfer_cli.rules.plan import TargetModel


@dataclass(frozen=True)
class Target:
    """What the recipe is for.

    Attributes:
        said: what the user says of the target run, by key of `holds_for`; a difference is a
            warning, never a silent rescaling.
        folded: move multipliers into the other values, with a warning where that is not exact;
            None: where it is.
        loss_per_doubling: nats by which the target's loss falls per doubling of its compute.
        group: which of the exponents' groups.
        model: to be trained, of this width; without it the recipe has the proxies' own names.
        by_role: values of roles alone, without names.
    """

    width: int
    said: Mapping[str, str]
    folded: bool | None = None
    loss_per_doubling: float | None = None
    group: str | None = None
    model: TargetModel | None = None
    by_role: bool = False
