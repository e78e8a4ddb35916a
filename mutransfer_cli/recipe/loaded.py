"""`load_recipe`: a recipe applied to a model of its width, as groups, init, multipliers, checks."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.proxies.tying import tied_names
from mutransfer_cli.recipe.conditions import Stated, scale_objection
from mutransfer_cli.recipe.initialise import Initialised, has_ranks, initialised
from mutransfer_cli.recipe.optimizer_class import Grouped, held_groups
from mutransfer_cli.recipe.patterns import (
    LeftOut,
    RolePattern,
    Targets,
    bare,
    groups_of,
    named_tensors,
    targets_of,
)
from mutransfer_cli.recipe.scheduler import Stepped
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.recipe.verify import Verification, verification
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.yaml_io import load_yaml, read_text
from mutransfer_cli.strict import nearest, validated

Patterns = Mapping[Role, str | Sequence[str]]


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe to be applied to a model of its width; `load_recipe` makes it.

    Every method that takes a model demands that each trainable parameter is claimed by exactly one
    pattern and that every pattern is used, and raises an InputError naming those that are not.
    Prefixes that DistributedDataParallel, FSDP and torch.compile put before names are ignored, and
    so is an attribute under which all parameters are, such as `model.` in a Lightning module. Tied
    weights are one parameter; frozen parameters and buffers are left out.
    """

    recipe: Recipe
    where: str
    """The file's name, for error messages."""
    patterns: tuple[RolePattern, ...]
    """The recipe's own patterns, or those given in their place."""
    decay_convention: DecayConvention | None = None
    """Convention of a weight decay for which the recipe names none."""

    def plan(self, model: nn.Module) -> tuple[PlannedParameter, ...]:
        """Every trainable parameter with its values, in the order of the model."""
        return tuple(target for _, target in self.targets(model))

    def left_out(self, model: nn.Module) -> LeftOut:
        """Names of frozen parameters and buffers, for which the recipe has no values."""
        frozen = (names[0] for p, names in named_tensors(model) if not p.requires_grad)
        buffers = (name for name, _ in model.named_buffers())
        return LeftOut(tuple(map(bare, frozen)), tuple(map(bare, buffers)))

    def multipliers(self, model: nn.Module) -> dict[str, float]:
        """Factor on every trainable weight in the forward pass, by name in the model as it is.

        All are 1 in a recipe whose multipliers were folded into the other values. An embedding that
        is the readout too has another factor under the readout's name; where the model's code has
        one name for both, the factor of the readout is under `NAME as readout`.
        """
        targets = self.targets(model)
        found = {claimed.names[0]: target.multiplier for claimed, target in targets}
        for claimed, target in targets:
            if target.output_multiplier is not None:
                names = tied_names(model, claimed.names[0])
                outputs = names.readout or (f"{claimed.names[0]} as readout",)
                found |= dict.fromkeys(names.embedding, target.multiplier)
                found |= dict.fromkeys(outputs, target.output_multiplier)
        return found

    def param_groups(
        self,
        model: nn.Module,
        multipliers: Literal["in_model"] | None = None,
        part: OptimizerName | None = None,
    ) -> list[dict[str, Any]]:
        """Groups for torch.optim.AdamW and similar, one for parameters of a role with equal values.

        A group holds `params`, `param_names`, `lr`, `weight_decay` (lr-coupled), `eps`, `betas` and
        `name`, its role; a value that the recipe does not hold is left to the optimizer. The order
        is that of the file that `transfer --to pytorch` writes, so that either loads the state that
        the other saved: roles as in the recipe, hidden last.

        Args:
            multipliers: `in_model` says that the model's forward pass applies `multipliers(model)`.
            part: the optimizer of the groups, where the recipe has two (muon and adamw).

        Raises:
            InputError: the recipe has multipliers other than 1 and `multipliers` is not given, or
                it has two optimizers and `part` is not given.
        """
        targets = self._part(self.targets(model), part)
        others = {str(t.role): t.multiplier for _, t in targets if t.multiplier != 1}
        others |= {
            f"{t.name} as readout": t.output_multiplier
            for _, t in targets
            if t.output_multiplier not in (None, 1)
        }
        if others and multipliers != "in_model":
            found = ", ".join(f"{role} {value:.6g}" for role, value in others.items())
            raise InputError(
                f"{self.where}: has multipliers ({found}) that belong into the forward pass; apply "
                "`recipe.multipliers(model)` there and pass multipliers='in_model', or make the "
                "recipe with folded multipliers, which needs none"
            )
        if self.recipe.scope == "global":
            decay = "" if self.recipe.base_weight_decay else " and weight_decay"
            warnings.warn(
                f"{self.where}: one group for all parameters (scope: global), as no protocol of "
                f"the runs was declared; eps, betas{decay} are left to the optimizer",
                stacklevel=2,
            )
        return groups_of(self.recipe, targets)

    def init_(
        self,
        model: nn.Module,
        generator: torch.Generator | None = None,
        attention_scale: Literal["in_model"] | None = None,
    ) -> Initialised:
        """Draw weights in place from normals of the recipe's init mean and std.

        A parameter stays as it is if the recipe says that it keeps the draw of the model's own
        code, or does not hold its init std; so do vectors and
        scalars of which the recipe tells neither mean nor std, unless they are gain or bias of a
        torch module. With torch.distributed, every rank must call this; all ranks then have what
        the first drew, of FSDP2's parameters as of replicated ones.

        Args:
            generator: on the parameters' device; parameters are drawn in the order of the model.
            attention_scale: `in_model` says that the model's code applies the recipe's.

        Raises:
            InputError: the model's code must apply an attention scale and `attention_scale` is not
                given, or this rank does not hold the values of a parameter (meta device, FSDP1,
                tensor parallelism without DTensor).
        """
        objection = scale_objection(self.recipe.attention_scale, attention_scale)
        if objection is not None:
            raise InputError(f"{self.where}: {objection}")
        if has_ranks():
            from mutransfer_cli.recipe.ranks import demand_unwrapped

            demand_unwrapped(model)
        return initialised(self.targets(model), model, generator)

    def verify(
        self,
        model: nn.Module,
        optimizer: Grouped,
        scheduler: Stepped | None = None,
        steps: int = 1,
        part: OptimizerName | None = None,
        *,
        optimizer_class: OptimizerName | None = None,
        attention_scale: Literal["in_model"] | None = None,
        max_norm: float | None = None,
    ) -> Verification:
        """Compare the optimizer's class, and lr, weight_decay, eps and betas of every group.

        They are compared now and after scheduler steps on a copy; optimizer and scheduler stay as
        they are. A schedule may multiply all rates by the same factor.

        Args:
            optimizer: anything with torch's `param_groups`, or a wrapper of such.
            scheduler: anything with `step()` that changes them.
            steps: scheduler steps to look ahead, and further while every rate is 0; all steps of
                the run show a floor that acts late.
            part: which optimizer this is, where the recipe has two (muon and adamw).
            optimizer_class: the update of an optimizer whose class is not known by name.
            attention_scale: `in_model` says that the model's code applies the recipe's.
            max_norm: the norm at which gradients are clipped, to be compared with the recipe's
                runs; infinite where nothing clips.

        Raises:
            InputError: the model's parameters are not the recipe's, the scheduler cannot be copied
                or stepped, or a statement has no such value.
        """
        stated = Stated(optimizer_class, attention_scale, max_norm)
        targets = self.targets(model)
        inside = {id(p) for held in held_groups(optimizer) for p in held.group["params"]}
        parts = {t.optimizer for claimed, t in targets if id(claimed.tensor) in inside}
        if part is not None or len(parts) < 2:  # otherwise the optimizer has both parts
            targets = self._part(targets, part)
        return verification(self.recipe, targets, model, optimizer, scheduler, steps, stated)

    def targets(self, model: nn.Module) -> Targets:
        """Every trainable parameter, as claimed by its pattern, with its values."""
        try:
            return targets_of(self.recipe, self.patterns, self.decay_convention, model)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from error

    def _part(self, targets: Targets, part: OptimizerName | None) -> Targets:
        names = sorted({target.optimizer for _, target in targets if target.optimizer})
        if part is None and len(names) > 1:
            raise InputError(
                f"{self.where}: has parameters for {' and for '.join(names)}; build one optimizer "
                f"of each and name it with part={names[0]!r}"
            )
        if part is not None and part not in names:
            raise InputError(f"part {part!r}: the recipe has none{nearest(part, names)}")
        return [item for item in targets if part is None or item[1].optimizer == part]


def load_recipe(
    source: str | os.PathLike[str] | IO[Any] | Recipe,
    *,
    patterns: Patterns | None = None,
    decay_convention: DecayConvention | None = None,
) -> LoadedRecipe:
    """Read a recipe that `mutransfer transfer` wrote, to apply it to a model.

    Args:
        source: a path, an open file, or "-" for stdin, YAML or JSON; or the recipe of a fit.
        patterns: role to regex or regexes for whole parameter names, in place of the recipe's own,
            for a model whose names are not those of the proxies. Init means and stds are then not
            known.
        decay_convention: convention of a weight decay for which the recipe names none.

    Raises:
        InputError: the file cannot be read or is not a recipe, or a pattern is not a regex or is
            for a role that the recipe lacks.
    """
    if isinstance(source, Recipe):
        return loaded(source, "recipe", decay_convention, patterns)
    text, where = _text_of(source)
    recipe = validated(Recipe, load_yaml(text, where), where)
    return loaded(recipe, where, decay_convention, patterns)


def loaded(
    recipe: Recipe,
    where: str,
    decay_convention: DecayConvention | None = None,
    patterns: Patterns | None = None,
) -> LoadedRecipe:
    """Prepare a recipe that was read already; arguments and errors as in `load_recipe`."""
    if patterns is not None:
        known = _given_patterns(recipe, patterns, where)
    else:
        known = tuple(
            RolePattern(role, written.pattern, written)
            for role, values in recipe.roles.items()
            for written in values.parameters
        )
    for pattern in known:
        try:
            re.compile(pattern.regex)
        except re.error as error:
            raise InputError(
                f"{where}: {pattern.regex} ({pattern.role}) is not a regex ({error}); correct it"
            ) from error
    return LoadedRecipe(recipe, where, known, decay_convention)


def _text_of(source: str | os.PathLike[str] | IO[Any]) -> tuple[str, str]:
    """The text of a source, and the source's name."""
    if isinstance(source, str | os.PathLike):
        path = None if source == "-" else Path(source)
        return read_text(path), str(path or "stdin")
    read, where = source.read(), str(getattr(source, "name", "recipe"))
    try:
        return (read.decode() if isinstance(read, bytes) else str(read)), where
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text (byte {error.start})") from error


def _given_patterns(recipe: Recipe, patterns: Patterns, where: str) -> tuple[RolePattern, ...]:
    if recipe.scope == "global":
        raise InputError(
            f"{where}: has one set of values for all parameters (scope: global); leave patterns out"
        )
    for role in patterns:
        if role not in recipe.roles:
            raise InputError(
                f"patterns: the recipe {where} has no role {role}{nearest(role, recipe.roles)}"
            )
    return tuple(
        RolePattern(role, regex)
        for role, regexes in patterns.items()
        for regex in ([regexes] if isinstance(regexes, str) else regexes)
    )
