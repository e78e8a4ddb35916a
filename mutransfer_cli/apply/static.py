"""A recipe against the model that it is for, and perhaps its optimizer: what is not as it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from mutransfer_cli.apply.claims import listed
from mutransfer_cli.apply.load import loaded
from mutransfer_cli.apply.recipe import LoadedRecipe
from mutransfer_cli.apply.scaling import SURE, attention_scale, output_scale, own_inits
from mutransfer_cli.apply.target import TargetParameter, Targets
from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.files.model import HfProtocol
from mutransfer_cli.files.recipe import Recipe
from mutransfer_cli.files.replan import CLOSE, Deviation, Values, deviations, replanned
from mutransfer_cli.proxies.factory import first_line, import_function
from mutransfer_cli.proxies.for_recipe import BuiltTarget, build_target, declared_model
from mutransfer_cli.proxies.hf import is_tied
from mutransfer_cli.proxies.init import Note, silent
from mutransfer_cli.rules.optimizers import OptimizerName
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.rules.roles import Role


@dataclass(frozen=True)
class ModelCheck:
    """
    Attributes:
        findings: faults, each a sentence.
        unchecked: what cannot be seen from outside, each a clause.
    """

    findings: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


def check_model(
    recipe: Recipe, where: str, name: str, optimizer: str | None = None, note: Note = silent
) -> ModelCheck:
    """The model of a recipe: names, roles, values by its own sizes, and what its code scales.

    Args:
        where: the recipe came from.
        name: as `transfer --model`; a function is called, which runs the user's code.
        optimizer: `package.module:function`, called with the model, which lies on the meta device
            where it can be; returns its optimizer, or those of a recipe with two by name. Runs the
            user's code.

    Raises:
        InputError: a recipe without roles, or a model or an optimizer that cannot be built.
    """
    if recipe.scope == "global" or recipe.base_width is None:
        raise InputError(
            f"{where}: is for all parameters alike (scope: global), so that there is no rule to "
            "hold --model against; declare a protocol with `fit-exponents --protocol FILE`"
        )
    if not any(values.parameters for values in recipe.roles.values()):
        raise InputError(
            f"{where}: names no parameters, so that it cannot be held against --model; make it "
            f"with `transfer --model {name}`"
        )
    model, context = declared_model(name, recipe)
    if isinstance(model, HfProtocol) and (refused := _refused(recipe, name, model)):
        return ModelCheck((refused,))
    built = build_target(model, context, recipe.width, recipe.base_width, note)
    held = loaded(recipe, where)
    try:
        targets = held.targets(built.module)
    except InputError as error:
        return ModelCheck((str(error),), ("values: names come first",))
    tied = list(_tied(targets, built))
    roles = {c.names[0]: t.role for c, t in targets if t.role is not None}
    base_plan = _as_written(recipe, built.base_plan(roles), targets)
    findings, unchecked = [*tied, *_other_roles(built, roles)], []
    if recipe.rule is None:
        unchecked.append("values by each parameter's own fan-in: the recipe has no `rule`")
    else:
        findings += _by_rule(recipe, base_plan, targets, built)
    for found, unseen in (
        own_inits(recipe, base_plan, targets, built),
        output_scale(recipe, targets, built),
        attention_scale(recipe, built),
    ):
        findings += found
        unchecked += unseen
    inner = sorted({str(t.role) for _, t in targets if t.multiplier != 1 and t.role != "readout"})
    if inner:
        unchecked.append(f"whether the forward pass applies the multipliers of {', '.join(inner)}")
    if optimizer is not None:
        findings += _of_optimizer(held, built, optimizer)
    return ModelCheck(tuple(findings), tuple(unchecked))


def _refused(recipe: Recipe, name: str, model: HfProtocol) -> str | None:
    """Why a config is none that the recipe could be for."""
    if model.width != recipe.width:
        return (
            f"{name}: has hidden_size {model.width}, and the recipe is for width {recipe.width}; "
            f"make it with `transfer --model {name}`"
        )
    if is_tied(model):
        return (
            f"{name}: ties the embedding to the readout, which the rules treat differently; train "
            "with tie_word_embeddings: false"
        )
    return None


def _tied(targets: Targets, built: BuiltTarget) -> Iterator[str]:
    """Of a readout that is tied to an embedding, whichever of them a pattern claims."""
    for claimed, target in targets:
        others = [name for name in claimed.names if name != claimed.name]
        if others and target.role == "readout":
            yield (
                f"{target.name} is also {listed(others)}: one tied weight, claimed as readout, "
                "whose rules do not hold for what else it does; untie them"
            )


def _other_roles(built: BuiltTarget, roles: Mapping[str, Role]) -> Iterator[str]:
    """Claims that the axes which grow with width contradict."""
    for first, *others in built.weights:
        if others or first.name not in roles:
            continue
        try:
            role = first.role(is_readout=first.name == built.readout)
        except InputError:  # shapes alone do not say which; the recipe does
            continue
        if role != roles[first.name]:
            yield (
                f"{first.name}: claimed as {roles[first.name]}, and by the axes that grow with "
                f"width it is {role}; give its name to the patterns of {role}"
            )


def _as_written(
    recipe: Recipe, base_plan: tuple[BaseParameter, ...], targets: Targets
) -> tuple[BaseParameter, ...]:
    """With the init that the recipe takes in place of the rule's, such as a readout of zeros."""
    written = {
        (role, parameters.pattern): parameters.base
        for role, values in recipe.roles.items()
        for parameters in values.parameters
    }
    regexes = {c.names[0]: c.pattern.regex for c, _ in targets if c.pattern is not None}
    found = []
    for base in base_plan:
        at_base = written.get((base.role, regexes[base.name]))
        if at_base is not None:
            zero = base.role == "readout" and not at_base.init_std
            std = 0.0 if zero else base.init_std
            base = replace(base, init_exponent=at_base.init_exponent, init_std=std)
        found.append(base)
    return tuple(found)


def _by_rule(
    recipe: Recipe, base_plan: tuple[BaseParameter, ...], targets: Targets, built: BuiltTarget
) -> Iterator[str]:
    """Values that the rule does not give for the sizes and the base init of this model."""
    given = {claimed.names[0]: target for claimed, target in targets}
    alike: dict[tuple[object, ...], list[Deviation]] = {}
    for base, wanted in zip(base_plan, replanned(recipe, base_plan, built.shapes), strict=True):
        for deviation in deviations(recipe, _values(given[base.name]), wanted, base.init_std):
            chance = SURE / math.sqrt(2 * math.prod(base.shape))
            allowed = max(CLOSE, chance) if deviation.quantity == "init_std" else CLOSE
            if deviation.share > allowed:
                d = deviation
                alike.setdefault((d.quantity, d.role, d.found, d.wanted), []).append(d)
    for found in alike.values():
        yield str(replace(found[0], name=listed(d.name for d in found)))


def _values(target: TargetParameter) -> Values:
    return {
        "lr": target.lr,
        "weight_decay": target.weight_decay,
        "eps": target.eps,
        "multiplier": target.multiplier,
        "init_std": target.init_std,
    }


def _of_optimizer(held: LoadedRecipe, built: BuiltTarget, name: str) -> Iterator[str]:
    where = f"--optimizer {name}"
    build = import_function(name, where)
    try:
        found = build(built.module)
    except MutransferError:
        raise
    except Exception as error:
        raise InputError(
            f"{where}: raised {type(error).__name__} for the model, which lies on the meta device: "
            f"{first_line(error)}"
        ) from error
    parts: dict[OptimizerName | None, object] = found if isinstance(found, dict) else {None: found}
    for part, optimizer in parts.items():
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(
                f"{where}: returned {type(optimizer).__name__}, expected a torch optimizer, or of "
                "a recipe with two a mapping of them by name"
            )
        for difference in held.verify(built.module, optimizer, part=part).differences:
            yield f"{difference.name}: {difference.sentence}"
