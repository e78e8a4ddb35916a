"""Parameters of a model matched to a recipe: names and patterns, values, optimizer groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.types import ParameterPattern, Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import PlannedParameter, Values
from mutransfer_cli.rules.weight_decay import DecayConvention

# put into names by torch.compile, FSDP and activation checkpointing; no model uses these names
PRIVATE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# put into names by DistributedDataParallel; a model may have a module of that name too
WRAPPERS = PRIVATE | {"module"}
SHOWN = 5  # names in one sentence
ALL = "all"  # the name of the group of a recipe with one set of values for all parameters


@dataclass(frozen=True)
class RolePattern:
    """A regex for whole names, and the role of the parameters that it matches."""

    role: Role
    regex: str
    written: ParameterPattern | None = None
    """The recipe's pattern; None for one that the user gives, whose init and own values are not
    known."""

    @property
    def init_std(self) -> float | None:
        """Init std that the recipe gives, if it is known."""
        return None if self.written is None else self.written.std

    @property
    def gives(self) -> tuple[object, ...]:
        """Equal for patterns that give a parameter the same values."""
        written = self.written
        if written is None:
            return (self.role,)
        draw, output = written.keeps_draw, written.output_multiplier
        return (self.role, self.init_std, written.init_mean, draw, output, written.own)


@dataclass(frozen=True, eq=False)
class Claimed:
    """A trainable parameter under the name that its pattern matches."""

    tensor: nn.Parameter
    name: str
    names: tuple[str, ...]
    """Its names in the model; several for tied weights."""
    pattern: RolePattern | None
    """None where the recipe has one set of values for all parameters."""


Targets = list[tuple[Claimed, PlannedParameter]]


@dataclass(frozen=True)
class LeftOut:
    """Bare names of frozen parameters and of buffers, for which a recipe has no values."""

    frozen: tuple[str, ...]
    buffers: tuple[str, ...]


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


def claim(model: nn.Module, patterns: Sequence[RolePattern]) -> list[Claimed]:
    """Every trainable parameter with its pattern.

    Where the names do not match, an attribute under which they all are is left out, such as the
    `model.` of a Lightning module; so is one with which all patterns begin, such as the `gpt.` of
    proxies that wrapped the model.

    Raises:
        InputError: a parameter that no pattern or more than one claims, a pattern that matches
            nothing, tied weights under patterns that disagree, or names that match in several ways.
    """
    tensors = named_tensors(model)
    attempt = _attempt(tensors, patterns)
    if not attempt.wrong:
        return attempt.claimed
    names = [names for tensor, names in tensors if tensor.requires_grad]
    others = [
        _attempt(tensors, patterns, prefix, added)
        for added in ("", *_pattern_prefixes(patterns))
        for prefix in ("", *_common_prefixes(names))
        if prefix or added
    ]
    fitting = [other for other in others if not other.wrong]
    if any(not other.gives_same(fitting[0]) for other in fitting):
        raise InputError(
            "the names of the model match the recipe's in several ways, with one attribute or "
            "another left out; give each role's names with `load_recipe(..., patterns={role: "
            "regex})`"
        )
    if fitting:
        return fitting[0].claimed
    closest = max((attempt, *others), key=lambda each: len(each.claimed))
    raise InputError(
        f"{closest.wrong}; give each role's names with `load_recipe(..., patterns={{role: "
        "regex})`, or under `parameters` in the recipe"
    )


@dataclass(frozen=True)
class Attempt:
    """Parameters that are claimed, and in words those that are not, and unused patterns."""

    claimed: list[Claimed]
    wrong: str

    def gives_same(self, other: Attempt) -> bool:
        """Whether the other gives every parameter the same pattern."""
        mine, others = ({id(c.tensor): c.pattern for c in a.claimed} for a in (self, other))
        return mine == others


def _attempt(
    tensors: Sequence[tuple[nn.Parameter, list[str]]],
    patterns: Sequence[RolePattern],
    prefix: str = "",
    added: str = "",
) -> Attempt:
    """Claim the parameters by their names without the prefix and with what is added in front."""
    claimed: list[Claimed] = []
    unclaimed: list[str] = []
    used: set[RolePattern] = set()
    for tensor, names in tensors:
        found: dict[RolePattern, str] = {}
        for name in names:
            if not prefix and not added:
                found |= matches(patterns, name)
            elif bare(name).startswith(prefix):
                found |= matches(patterns, added + bare(name).removeprefix(prefix))
        used |= found.keys()
        if not tensor.requires_grad:
            continue
        if not found:
            unclaimed.append(bare(names[0]))
            continue
        pattern, name = next(iter(found.items()))
        if len({other.gives for other in found}) > 1:
            raise InputError(_tied(found))
        claimed.append(Claimed(tensor, name, tuple(names), pattern))
    unused = [f"{p.regex} ({p.role})" for p in patterns if p not in used]
    wrong = [f"no pattern claims {listed(unclaimed)}"] if unclaimed else []
    wrong += [f"nothing in the model matches {listed(unused)}"] if unused else []
    return Attempt(claimed, " and ".join(wrong))


def _common_prefixes(names: Sequence[Sequence[str]]) -> list[str]:
    """Attributes under which all bare names are, the shortest path first: model., model.net."""
    paths = [bare(name).split(".")[:-1] for all_names in names for name in all_names]
    shared: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(f"{shared[-1] if shared else ''}{parts[0]}.")
    return shared


def _pattern_prefixes(patterns: Sequence[RolePattern]) -> list[str]:
    """Attributes with which all patterns begin, the shortest path first: gpt., gpt.net."""
    shared: list[str] = []
    for parts in zip(
        *(p.regex.removeprefix("^").split(r"\.")[:-1] for p in patterns), strict=False
    ):
        if len(set(parts)) > 1 or not parts[0].isidentifier():
            break
        shared.append(f"{shared[-1] if shared else ''}{parts[0]}.")
    return shared


def matches(patterns: Sequence[RolePattern], name: str) -> dict[RolePattern, str]:
    """The pattern that claims a name, if there is one, with the form of the name that it matches.

    Raises:
        InputError: more than one pattern claims it.
    """
    found: dict[RolePattern, str] = {}
    for pattern in patterns:
        known = next((n for n in known_names(name) if re.fullmatch(pattern.regex, n)), None)
        if known is not None:
            found[pattern] = known
    if len(found) > 1:
        both = " and ".join(f"{p.regex} ({p.role})" for p in found)
        raise InputError(f"{name} is claimed by {both}; make the patterns disjoint")
    return found


def _tied(found: dict[RolePattern, str]) -> str:
    claims = " and as ".join(
        f"{name} ({pattern.role}, init std {pattern.init_std})" for pattern, name in found.items()
    )
    return (
        f"one tied parameter is claimed as {claims}; untie it, or keep the pattern of one name "
        "only with `load_recipe(..., patterns={role: regex})`"
    )


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def named_count(names: Sequence[str]) -> str:
    """A single name, otherwise how many there are and the first one."""
    return names[0] if len(names) == 1 else f"{len(names)} parameters, {names[0]} first"


def targets_of(
    recipe: Recipe,
    patterns: Sequence[RolePattern],
    convention: DecayConvention | None,
    model: nn.Module,
) -> Targets:
    """Every trainable parameter of the model with its values.

    Args:
        convention: of a weight decay for which the recipe names none.

    Raises:
        InputError: as in `claim`; also a recipe without names, or a weight decay of an unknown
            convention.
    """
    if recipe.scope == "per_role" and not patterns:
        raise InputError(
            "names no parameters; give each role's names with `load_recipe(..., "
            "patterns={role: regex})`"
        )
    if recipe.scope == "per_role":
        found = claim(model, patterns)
    else:
        trainable = [(p, names) for p, names in named_tensors(model) if p.requires_grad]
        found = [Claimed(p, bare(names[0]), tuple(names), None) for p, names in trainable]
    targets: Targets = []
    for claimed in found:
        role, optimizer = None, None
        values = recipe.base_values(convention)
        if claimed.pattern is not None:
            role = claimed.pattern.role
            optimizer = recipe.roles[role].optimizer
            values = recipe.roles[role].values(claimed.pattern.written, convention)
        shape = tuple(claimed.tensor.shape)
        planned = PlannedParameter(
            name=claimed.name, role=role, shape=shape, optimizer=optimizer, **vars(values)
        )
        targets.append((claimed, planned))
    return targets


def groups_of(recipe: Recipe, targets: Targets) -> list[dict[str, Any]]:
    """Groups for a torch optimizer in the order of `Recipe.groups`, without empty ones."""
    keys = {(group.role, group.own): name for name, group in recipe.groups().items()}
    groups: dict[str, dict[str, Any]] = {name: {} for name in [*keys.values(), ALL]}
    for claimed, target in targets:
        name, written = ALL, None if claimed.pattern is None else claimed.pattern.written
        if claimed.pattern is not None:
            name = keys[claimed.pattern.role, None if written is None else written.own]
        if not groups[name]:
            settings = {k: v for k, v in settings_of(target).items() if v is not None}
            groups[name] = {"params": [], "param_names": [], **settings, "name": name}
        groups[name]["params"].append(claimed.tensor)
        groups[name]["param_names"].append(target.name)
    return [group for group in groups.values() if group]


def settings_of(values: Values) -> dict[str, Any]:
    """Keys of a torch optimizer's group; None where the value is not known."""
    return {key: getattr(values, key) for key in ("lr", "weight_decay", "eps", "betas")}
