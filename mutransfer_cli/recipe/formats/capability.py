"""The record of a format: what its file can hold of a recipe. The rest is refused or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.recipe.formats.sheet import Sheet

ADAM: frozenset[OptimizerName] = frozenset({"adam", "adamw"})


@dataclass(frozen=True)
class Format:
    """A file for a training framework: what it can hold, and what writes it."""

    name: str
    written_for: str
    """The versions or commits whose source was read."""
    write: Callable[[Sheet], str]
    """Gives the text of the file."""
    suffix: str = ".py"
    """The file's, where values are by role."""
    global_suffix: str | None = None
    """The file's, where one rate is for all parameters, if that is another one."""
    any_names: bool = False
    """Parameters may have any names; otherwise only those of the target's own Llama."""
    proxy_names: bool = False
    """Without a target model the names are those of the proxies, where these are known."""
    optimizers: frozenset[OptimizerName] = ADAM
    role_lr: bool = True
    role_weight_decay: bool = True
    role_eps: bool = True
    betas: bool = True
    init_std: bool = True
    multipliers: bool = False
    """Multipliers of the forward pass; otherwise they are folded into the other values."""
    attention_scale: bool = False
    """An attention scale; otherwise it is moved into the query matrices, where these can be told.
    """
    fused_queries: bool = False
    """Queries are rows of one matrix with keys and values, or are normalised, so that no factor can
    be moved into them."""
    schedule_keeps_ratios: bool = True
    also_loses: Callable[[Sheet], Iterator[str]] = lambda _: iter(())
    """What else it cannot hold of a recipe."""
    unverified: tuple[str, ...] = ()
    """What was neither run nor read."""


def refuse_optimizer(fmt: Format, sheet: Sheet) -> None:
    """Refuse a recipe without whose optimizer nothing is left.

    Raises:
        NotExpressible: the target lacks the optimizer, or decays weights by another rule.
    """
    name, decayed = sheet.optimizer, any(v.weight_decay for v in sheet.values.values())
    if name is not None and name not in fmt.optimizers:
        known = ", ".join(sorted(fmt.optimizers))
        raise NotExpressible(
            f"to {fmt.name}: optimizer {name} cannot be written there (it holds {known}); "
            "write yaml instead",
            setting="to",
        )
    if name == "sgd" and decayed:
        raise NotExpressible(
            f"to {fmt.name}: torch.optim.SGD's weight decay passes through the momentum, the "
            "recipe's does not; write yaml, or sweep sgd without weight decay",
            setting="to",
        )


def losses(fmt: Format, sheet: Sheet, unfolded: Sheet) -> Iterator[str]:
    """List what the recipe has and the target cannot hold; defaults of the target are no loss.

    Args:
        unfolded: where eps differs by role only in the folded values, the folding warns of it.
    """
    by_role = sheet.by_role
    several_lr = len(set(by_role("lr").values())) > 1
    if not fmt.role_lr and several_lr:
        yield f"learning rates by role ({_listed(by_role('lr'))})"
    if not fmt.role_weight_decay and len(set(by_role("weight_decay").values())) > 1:
        yield f"weight decay by role ({_listed(by_role('weight_decay'))})"
    if not fmt.role_eps and len(set(unfolded.by_role("eps").values())) > 1:
        yield f"eps by role ({_listed(by_role('eps'))})"
    if not fmt.betas and sheet.rest.betas is not None:
        yield f"betas {sheet.rest.betas}"
    if "all" not in sheet.values:
        if not sheet.knows_init:
            yield (
                "init stds (those of the runs are not known; declare model.init_std in their "
                "protocol)"
            )
        elif not fmt.init_std:
            yield f"init stds ({_listed(by_role('init_std'))})"
    if not fmt.multipliers and set(by_role("multiplier").values()) != {1}:
        yield f"multipliers ({_listed(by_role('multiplier'))})"
    if not fmt.multipliers and sheet.output_multiplier != 1 and sheet.tied:
        yield (
            f"the output multiplier {sheet.output_multiplier:.4g} of {sheet.tied.pattern}, the "
            "embedding that is also the readout (no gain was seen before the readout that could "
            "take it)"
        )
    if not fmt.schedule_keeps_ratios and several_lr:
        yield "ratios between learning rates while the schedule runs"
    scale = sheet.unusual_scale
    if not fmt.attention_scale and scale is not None:
        yield (
            f"attention scale {scale.formula} (the model's own is another, and it has no separate "
            "query matrices without a norm, into which the factor could be moved)"
        )
    yield from fmt.also_loses(sheet)


def _listed(by_role: dict[str, float]) -> str:
    return ", ".join(f"{role} {value:.4g}" for role, value in by_role.items())
