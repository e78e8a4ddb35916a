"""What a training framework can hold of a recipe, and what would be lost in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mutransfer_cli.emit.targets.sheet import Sheet
from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.rules.optimizers import OptimizerName

Matching = Literal[
    "regex, each parameter exactly once",
    "regex, first match wins",
    "glob, no overlap",
    "predicates, merged",
]

ADAM: frozenset[OptimizerName] = frozenset({"adam", "adamw"})


@dataclass(frozen=True)
class Capability:
    """
    Attributes:
        written_for: the versions or commits whose source was read.
        matching: how parameters are found, and what happens where two patterns match.
        any_names: whether a model of any names is written for, or the target's own Llama alone.
        multipliers: of the forward pass; where not, they are folded into the other values.
        folds_attention: whether an attention scale can be moved into its query matrices.
        unverified: what was neither run nor read.
    """

    name: str
    written_for: str
    matching: Matching
    any_names: bool = False
    optimizers: frozenset[OptimizerName] = ADAM
    role_lr: bool = True
    role_weight_decay: bool = True
    role_eps: bool = True
    betas: bool = True
    init_std: bool = True
    multipliers: bool = False
    attention_scale: bool = False
    folds_attention: bool = False
    schedule_keeps_ratios: bool = True
    unverified: tuple[str, ...] = ()


def refuse_optimizer(capability: Capability, sheet: Sheet) -> None:
    """
    Raises:
        NotExpressible: nothing is left of a recipe without its optimizer.
    """
    name, decayed = sheet.optimizer, any(v.weight_decay for v in sheet.values.values())
    if name is not None and name not in capability.optimizers:
        held = ", ".join(sorted(capability.optimizers))
        raise NotExpressible(
            f"--to {capability.name}: optimizer {name} cannot be written there (it holds {held}); "
            "use --to yaml"
        )
    if name == "sgd" and decayed:
        raise NotExpressible(
            f"--to {capability.name}: torch.optim.SGD's weight decay passes through the momentum, "
            "the recipe's does not; use --to yaml, or sweep sgd without weight decay"
        )


def losses(capability: Capability, sheet: Sheet, unfolded: Sheet) -> Iterator[str]:
    """What the recipe has and the target cannot hold; defaults of the target are no loss.

    Args:
        unfolded: where eps differs by role only in the folded values, the folding warns of it.
    """
    held, by_role = capability, sheet.by_role
    if not held.role_lr and len(set(by_role("lr").values())) > 1:
        yield f"learning rates by role ({_listed(by_role('lr'))})"
    if not held.role_weight_decay and len(set(by_role("weight_decay").values())) > 1:
        yield f"weight decay by role ({_listed(by_role('weight_decay'))})"
    if not held.role_eps and len(set(unfolded.by_role("eps").values())) > 1:
        yield f"eps by role ({_listed(by_role('eps'))})"
    if not held.betas and sheet.rest.betas is not None:
        yield f"betas {sheet.rest.betas}"
    if not held.init_std and set(by_role("init").values()) != {1}:
        yield f"init std by role (times that of the base model: {_listed(by_role('init'))})"
    if not held.multipliers and set(by_role("multiplier").values()) != {1}:
        yield f"multipliers ({_listed(by_role('multiplier'))})"
    if not held.schedule_keeps_ratios and len(set(by_role("lr").values())) > 1:
        yield "ratios between learning rates while the schedule runs"
    scale = sheet.unusual_scale
    if not held.attention_scale and scale is not None:
        yield f"attention scale {scale.formula} (the target's Llama has 1/sqrt(d_head))"


def _listed(by_role: dict[str, float]) -> str:
    return ", ".join(f"{role} {value:.4g}" for role, value in by_role.items())
