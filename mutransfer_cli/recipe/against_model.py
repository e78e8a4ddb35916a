"""What a model's own code scales with width, against what the recipe scales.

MERGED:
A recipe against the model that it is for, and perhaps its optimizer: what is not as it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.proxies.factory import first_line, import_function
from mutransfer_cli.proxies.hf import is_tied
from mutransfer_cli.proxies.reading import Note, silent
from mutransfer_cli.recipe.loaded import LoadedRecipe, loaded
from mutransfer_cli.recipe.patterns import RolePattern, TargetParameter, Targets, listed
from mutransfer_cli.recipe.read_model import APART, BuiltTarget, build_target, declared_model
from mutransfer_cli.recipe.replan import CLOSE, Deviation, Values, close, deviations, replanned
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import MATRIX_ROLES, Role
from mutransfer_cli.rules.plan import BaseParameter, fan_in_growth
from mutransfer_cli.spec.decoder import attention_factor
from mutransfer_cli.spec.model import HfProtocol

NEAR = 0.1  # of exponents of width: rules lie 1/2 apart
SURE = 5  # standard errors of a std

Moved = tuple[str, float, float, float]  # name, own exponent, the recipe's, chance
Said = tuple[list[str], list[str]]  # findings, and what could not be seen


def output_scale(recipe: Recipe, targets: Targets, built: BuiltTarget) -> Said:
    """The readout's multiplier, which only the forward pass can apply."""
    target = next((t for c, t in targets if built.readout in c.names), None)
    if target is None or target.role != "readout" or recipe.width == recipe.base_width:
        return [], []
    own, size = (*built.code, *built.code)[:2], 0.0  # a config's code does not scale its output
    before, after = own[0].output_factor, own[1].output_factor
    if before is None or after is None or before * after <= 0:
        why = "its logits are not given, or no multiple of what it makes of its input"
        return [], [f"whether the forward pass scales the output of {target.name}: {why}"]
    wanted = _exponent(target.multiplier, recipe.width / (recipe.base_width or 1))
    found = _exponent(after / before, APART)
    if own[0].input_size and own[1].input_size:
        size = _exponent(own[1].input_size / own[0].input_size, APART)
    if abs(found - wanted) <= NEAR or (wanted and abs(found + size - wanted) <= NEAR):
        return [], []
    what = (
        f"{target.name}: the model's own code multiplies the output by width^{_shown(found)} and "
        f"the recipe by width^{_shown(wanted)} (multiplier {target.multiplier:.6g})"
    )
    if abs(found) <= NEAR:
        what += (
            "; the readout multiplier is missing: apply recipe.multipliers(model), or make the "
            "recipe with `transfer --fold`"
        )
    elif abs(wanted) <= NEAR:
        what += "; muP is applied twice: take the factor out of the model"
    else:
        what += "; give the model the factor of recipe.multipliers(model) alone"
    return [what], []


def attention_scale(recipe: Recipe, built: BuiltTarget) -> Said:
    named, model = recipe.attention_scale, built.model
    if named is None:
        return [], []
    if isinstance(model, HfProtocol) and model.attention_scale and model.head_size:
        size = model.head_size
        scales = {(size, attention_factor(model.attention_scale, size))}
    else:
        scales = {scale for code in built.code for scale in code.scales}
    if not scales:
        return [], ["the attention scale: no call of scaled_dot_product_attention was seen"]
    for head_size, scale in sorted(scales):
        wanted = attention_factor(named.formula, head_size)
        if not close(scale, wanted):
            return [
                f"attention multiplies q.k by {scale:.6g} at head size {head_size}"
                f"{_formula(scale, head_size)}, the recipe names {named.formula}, {wanted:.6g}; "
                "give the model that scale, or sweep proxies with its own (model.attention_scale)"
            ], []
    return [], []


def _formula(scale: float, head_size: int) -> str:
    return ", 1/sqrt(d_head)" if close(scale, head_size**-0.5) else ""


def own_inits(
    recipe: Recipe, base_plan: Sequence[BaseParameter], targets: Targets, built: BuiltTarget
) -> Said:
    """How the model's own init goes with width, where it is neither plain nor the recipe's.

    A model is plain where no matrix of a role follows the recipe: stds that do not move with width,
    or go as fan_in^-1/2. Its weights are then the recipe's to draw.
    """
    findings: list[str] = []
    plain: list[str] = []
    mults = {claimed.names[0]: _init_std_mult(recipe, claimed.pattern) for claimed, _ in targets}
    if recipe.width == recipe.base_width or len(built.inits) == 1:
        return [], []
    for role in MATRIX_ROLES:
        follow: list[Moved] = []
        other: list[Moved] = []
        for base in base_plan:
            if base.role != role:
                continue
            found = _own_exponent(base, built)
            wanted = _recipe_exponent(recipe, base, mults[base.name], built)
            if found is None or wanted is None:
                continue
            near = abs(found - wanted) <= NEAR + _chance(base)
            (follow if near else other).append((base.name, found, wanted, _chance(base)))
        strange = [x for x in other if not -0.5 - NEAR - x[3] <= x[1] <= NEAR + x[3]]
        wrong = other if follow else strange
        findings += _init_sentences(wrong)
        plain += [name for name, *_ in other if not wrong]
    if plain:
        said = f"whether recipe.init_ is called: the model's own init of {listed(plain)} is plain"
        return findings, [said]
    return findings, []


def _init_sentences(wrong: Sequence[Moved]) -> Iterator[str]:
    alike: dict[tuple[str, str], list[str]] = {}
    for name, found, wanted, _ in wrong:
        alike.setdefault((_shown(found), _shown(wanted)), []).append(name)
    for (own, by_recipe), names in alike.items():
        yield (
            f"{listed(names)}: the model's own init std goes as width^{own}, the recipe's as "
            f"width^{by_recipe}; draw the weights with recipe.init_(model), or make the model's "
            "init as the recipe's"
        )


def _own_exponent(base: BaseParameter, built: BuiltTarget) -> float | None:
    weight = built.weight(base.name)
    before, after = (inits[base.name].std for inits in built.inits)
    growth = fan_in_growth(base, weight.wide_shape) or APART
    return None if not before or not after or growth == 1 else _exponent(after / before, growth)


def _init_std_mult(recipe: Recipe, pattern: RolePattern | None) -> float:
    assert pattern is not None, "a recipe with roles has patterns"
    return (pattern.own or recipe.roles[pattern.role]).init_std_mult.value


def _recipe_exponent(
    recipe: Recipe, base: BaseParameter, init_std_mult: float, built: BuiltTarget
) -> float | None:
    width_mult = recipe.width / (recipe.base_width or recipe.width)
    growth = fan_in_growth(base, built.shapes[base.name]) or width_mult
    return None if not init_std_mult or growth == 1 else _exponent(init_std_mult, growth)


def _chance(base: BaseParameter) -> float:
    """Of an exponent over a factor of `APART`; the error of the wider std is the smaller one."""
    return SURE / math.sqrt(2 * math.prod(base.shape)) / math.log(APART)


def _exponent(ratio: float, growth: float) -> float:
    return math.log(ratio) / math.log(growth) if ratio > 0 else 0.0


def _shown(exponent: float) -> str:
    return f"{exponent + 0.0:.2f}".replace("-0.00", "0.00")


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
