"""Which pattern of a recipe claims which parameter of a model.

MERGED:
What a recipe gives to every parameter of a model.
Parameters with equal values as the groups that torch optimizers take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.recipe.types import OwnValues, Recipe, WeightDecay
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.weight_decay import DecayConvention, to_lr_coupled

# put into names by torch.compile, FSDP and activation checkpointing; nobody calls a module so
PRIVATE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# by DistributedDataParallel; a model may have a module of that name too
WRAPPERS = PRIVATE | {"module"}
SHOWN = 5


@dataclass(frozen=True)
class RolePattern:
    """A regex for whole names and what it gives.

    Attributes:
        init_std: None where it is not known.
        own: in place of the role's values.
    """

    role: Role
    regex: str
    init_std: float | None
    own: OwnValues | None = None


@dataclass(frozen=True, eq=False)
class Claimed:
    """A trainable parameter under the name its pattern knows.

    Attributes:
        names: as in the model; several for tied weights.
        pattern: None where the recipe is for all parameters alike.
    """

    tensor: nn.Parameter
    name: str
    names: tuple[str, ...]
    pattern: RolePattern | None


@dataclass(frozen=True)
class LeftOut:
    """What a recipe says nothing of: names of frozen parameters and of buffers."""

    frozen: tuple[str, ...]
    buffers: tuple[str, ...]


def left_out(model: nn.Module) -> LeftOut:
    return LeftOut(
        tuple(bare(names[0]) for p, names in named_tensors(model) if not p.requires_grad),
        tuple(bare(name) for name, _ in model.named_buffers()),
    )


def named_tensors(model: nn.Module) -> list[tuple[nn.Parameter, list[str]]]:
    """Every parameter once with all its names, in the order of the model."""
    found: dict[int, tuple[nn.Parameter, list[str]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), (parameter, []))[1].append(name)
    return list(found.values())


def bare(name: str, wrappers: frozenset[str] = WRAPPERS) -> str:
    """The name without what wrappers put into it: module._orig_mod.up.weight -> up.weight."""
    *path, last = name.split(".")
    return ".".join([*(part for part in path if part not in wrappers), last])


def known_names(name: str) -> tuple[str, ...]:
    """The names under which a pattern may know a parameter, the barest first."""
    names = [name, bare(name, PRIVATE)]
    while names[-1].startswith("module."):
        names.append(names[-1].removeprefix("module."))
    return tuple(dict.fromkeys([bare(name), *reversed(names)]))


def claim_all(model: nn.Module) -> list[Claimed]:
    """Every trainable parameter, without patterns."""
    return [
        Claimed(tensor, bare(names[0]), tuple(names), None)
        for tensor, names in named_tensors(model)
        if tensor.requires_grad
    ]


def claim(model: nn.Module, patterns: Sequence[RolePattern], where: str) -> list[Claimed]:
    """Every trainable parameter with its pattern.

    Raises:
        InputError: a parameter that no pattern or more than one claims, a pattern that matches
            nothing, or tied weights under patterns that disagree.
    """
    claimed: list[Claimed] = []
    unclaimed: list[str] = []
    used: set[RolePattern] = set()
    for tensor, names in named_tensors(model):
        found: dict[RolePattern, str] = {}
        for name in names:
            found |= matches(patterns, name, where)
        used |= found.keys()
        if not tensor.requires_grad:
            continue
        if not found:
            unclaimed.append(bare(names[0]))
            continue
        if len({(pattern.role, pattern.init_std, pattern.own) for pattern in found}) > 1:
            raise InputError(_tied(found, where))
        pattern, name = next(iter(found.items()))
        claimed.append(Claimed(tensor, name, tuple(names), pattern))
    unused = [f"{p.regex} ({p.role})" for p in patterns if p not in used]
    wrong = []
    if unclaimed:
        wrong.append(f"no pattern claims {listed(unclaimed)}")
    if unused:
        wrong.append(f"nothing in the model matches {listed(unused)}")
    if wrong:
        raise InputError(
            f"{where}: {' and '.join(wrong)}; say which names are which role with "
            "`load_recipe(..., patterns={role: regex})`, or under `parameters` in the recipe"
        )
    return claimed


def matches(patterns: Sequence[RolePattern], name: str, where: str) -> dict[RolePattern, str]:
    """At most one pattern, with the name it knows."""
    found: dict[RolePattern, str] = {}
    for pattern in patterns:
        known = next((n for n in known_names(name) if re.fullmatch(pattern.regex, n)), None)
        if known is not None:
            found[pattern] = known
    if len(found) > 1:
        both = " and ".join(f"{p.regex} ({p.role})" for p in found)
        raise InputError(f"{where}: {name} is claimed by {both}; make the patterns disjoint")
    return found


def listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def named_count(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} parameters, {names[0]} first"


def _tied(found: dict[RolePattern, str], where: str) -> str:
    claims = " and as ".join(
        f"{name} ({pattern.role}, init std {pattern.init_std})" for pattern, name in found.items()
    )
    return (
        f"{where}: one tied parameter is claimed as {claims}; untie it, or keep the pattern of one "
        "name only with `load_recipe(..., patterns={role: regex})`"
    )


@dataclass(frozen=True)
class TargetParameter:
    """What one trainable parameter gets; None where the recipe does not say it.

    Attributes:
        name: dotted, without what wrappers put into it; of tied weights the name that is claimed.
        role: None in a recipe for all parameters alike.
        optimizer: what updates it; under muon all but hidden matrices is adamw's.
        lr: peak rate per step.
        weight_decay: lr-coupled, as torch.optim.AdamW takes it: w -= lr * weight_decay * w.
        eps: added to the root of Adam's second moment.
        init_std: of its normal init with mean 0.
        multiplier: factor on the weight in the forward pass.
    """

    name: str
    role: Role | None
    shape: tuple[int, ...]
    optimizer: OptimizerName | None
    lr: float
    weight_decay: float | None
    eps: float | None
    betas: tuple[float, float] | None
    init_std: float | None
    multiplier: float


Targets = list[tuple[Claimed, TargetParameter]]


def targets_of(
    recipe: Recipe,
    patterns: Sequence[RolePattern],
    convention: DecayConvention | None,
    model: nn.Module,
    where: str,
) -> Targets:
    """Every trainable parameter of the model with its values; `claim`'s errors."""
    if recipe.scope == "global":
        return [
            (claimed, _global_target(recipe, claimed, convention, where))
            for claimed in claim_all(model)
        ]
    if not patterns:
        raise InputError(
            f"{where}: names no parameters; say which names are which role with `load_recipe(..., "
            "patterns={role: regex})`"
        )
    return [
        (claimed, _role_target(recipe, claimed, claimed.pattern, convention, where))
        for claimed in claim(model, patterns, where)
        if claimed.pattern is not None
    ]


def _role_target(
    recipe: Recipe,
    claimed: Claimed,
    pattern: RolePattern,
    convention: DecayConvention | None,
    where: str,
) -> TargetParameter:
    of_role = recipe.roles[pattern.role]
    values = pattern.own or of_role
    lr = values.lr.value
    return TargetParameter(
        name=claimed.name,
        role=pattern.role,
        shape=tuple(claimed.tensor.shape),
        optimizer=of_role.optimizer,
        lr=lr,
        weight_decay=_coupled(values.weight_decay, lr, convention, where),
        eps=values.eps.value if values.eps else None,
        betas=of_role.betas.value if of_role.betas else None,
        init_std=pattern.init_std,
        multiplier=values.multiplier.value,
    )


def _global_target(
    recipe: Recipe, claimed: Claimed, convention: DecayConvention | None, where: str
) -> TargetParameter:
    lr, decay = recipe.base_lr.value, recipe.base_weight_decay
    return TargetParameter(
        name=claimed.name,
        role=None,
        shape=tuple(claimed.tensor.shape),
        optimizer=None,
        lr=lr,
        weight_decay=None if decay is None else _coupled(decay, lr, convention, where),
        eps=None,
        betas=None,
        init_std=None,
        multiplier=1.0,
    )


def _coupled(
    decay: WeightDecay, lr: float, convention: DecayConvention | None, where: str
) -> float:
    if not decay.value:
        return 0.0
    said = decay.convention or convention
    if said is None:
        raise InputError(
            f"{where}: weight_decay {decay.value:g} has no convention; say it with "
            "`load_recipe(..., decay_convention='lr_coupled')` or 'independent'"
        )
    return to_lr_coupled(decay.value, said, lr)


ALL = "all"  # the name of the group of a recipe for all parameters alike


def merged_groups(targets: Targets) -> list[dict[str, Any]]:
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for claimed, target in targets:
        values = settings_of(target)
        group = groups.setdefault(
            tuple(values.values()), {"params": [], "param_names": [], **values, "name": []}
        )
        group["params"].append(claimed.tensor)
        group["param_names"].append(target.name)
        if (target.role or ALL) not in group["name"]:
            group["name"].append(target.role or ALL)
    for group in groups.values():
        group["name"] = ", ".join(group["name"])
        for key in ("weight_decay", "eps", "betas"):
            if group[key] is None:
                del group[key]
    return list(groups.values())


def settings_of(target: TargetParameter) -> dict[str, Any]:
    return {
        "lr": target.lr,
        "weight_decay": target.weight_decay,
        "eps": target.eps,
        "betas": target.betas,
    }
