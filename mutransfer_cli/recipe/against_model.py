"""Compare a recipe with the model that it is for: names, roles, values, the code's own scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.proxies.factory import import_function, message_of
from mutransfer_cli.proxies.hf import is_tied
from mutransfer_cli.proxies.reading import Note, silent
from mutransfer_cli.recipe.build import tied_patterns
from mutransfer_cli.recipe.loaded import LoadedRecipe, loaded
from mutransfer_cli.recipe.patterns import RolePattern, Targets, listed
from mutransfer_cli.recipe.read_model import (
    APART,
    BuiltTarget,
    NamedModel,
    build_target,
    named_model,
)
from mutransfer_cli.recipe.replan import CLOSE, Deviation, close, deviations, replanned
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import MATRIX_ROLES, Role
from mutransfer_cli.rules.plan import BaseParameter, fan_in_growth
from mutransfer_cli.spec.decoder import attention_factor
from mutransfer_cli.spec.model import HfProtocol

NEAR = 0.1  # tolerance of exponents of width: rules lie 1/2 apart
SURE = 5  # standard errors of a std


class Unseen(str):
    """A clause on what could not be seen from outside; other sentences are findings."""


class OwnInit(NamedTuple):
    """Init std of a parameter at the target's width by the model's own code and by the recipe,
    with the exponents of width that lead there."""

    name: str
    role: Role
    own: float
    recipes: float
    exponent: float
    recipes_exponent: float
    tolerance: float

    @property
    def follows(self) -> bool:
        """Whether it scales with width as the recipe's does."""
        return abs(self.exponent - self.recipes_exponent) <= self.tolerance

    @property
    def is_plain(self) -> bool:
        """Whether it is constant in width or scales as fan_in^-1/2."""
        return -0.5 - self.tolerance <= self.exponent <= self.tolerance

    @property
    def is_equal(self) -> bool:
        """Whether the two stds differ by no more than chance."""
        return close(self.own, self.recipes, 2 * self.tolerance)


def output_scale(recipe: Recipe, targets: Targets, built: BuiltTarget) -> Iterator[str]:
    """Compare the readout's multiplier, which only the forward pass can apply."""
    target = next((t for c, t in targets if built.readout in c.names), None)
    if target is None or recipe.width == recipe.base_width:
        return
    multiplier = target.output_multiplier
    if target.role == "readout":
        multiplier = target.multiplier
    if multiplier is None:
        return
    own, size = (*built.code, *built.code)[:2], 0.0  # a config's code does not scale its output
    before, after = own[0].output_factor, own[1].output_factor
    if before is None or after is None or before * after <= 0:
        why = "its logits were not seen, or are not a multiple of weight times input"
        yield Unseen(f"whether the forward pass scales the output of {target.name}: {why}")
        return
    wanted = _exponent(multiplier, recipe.width / (recipe.base_width or 1))
    found = _exponent(after / before, APART)
    if own[0].input_size and own[1].input_size:
        size = _exponent(own[1].input_size / own[0].input_size, APART)
    if abs(found - wanted) <= NEAR or (wanted and abs(found + size - wanted) <= NEAR):
        return
    remedy = "give the model the factor of recipe.multipliers(model) alone"
    if abs(found) <= NEAR:
        remedy = (
            "the readout multiplier is missing: apply recipe.multipliers(model), or make the "
            "recipe with folded multipliers"
        )
    elif abs(wanted) <= NEAR:
        remedy = "muP is applied twice: take the factor out of the model"
    yield (
        f"{target.name}: the model's own code multiplies the output by width^{_shown(found)} and "
        f"the recipe by width^{_shown(wanted)} (multiplier {multiplier:.6g}); {remedy}"
    )


def attention_scale(recipe: Recipe, built: BuiltTarget) -> Iterator[str]:
    """Compare the factor on q.k."""
    named, model = recipe.attention_scale, built.model
    if named is None:
        return
    scales = {scale for code in built.code for scale in code.scales}
    if isinstance(model, HfProtocol) and model.attention_scale and model.head_size:
        size = model.head_size
        scales = {(size, attention_factor(model.attention_scale, size))}
    if not scales:
        yield Unseen("the attention scale: no call of scaled_dot_product_attention was seen")
    for head_size, scale in sorted(scales):
        wanted = attention_factor(named.formula, head_size) / _folded_factor(recipe)
        if not close(scale, wanted):
            usual = ", 1/sqrt(d_head)" if close(scale, head_size**-0.5) else ""
            yield (
                f"attention multiplies q.k by {scale:.6g} at head size {head_size}{usual}, the "
                f"recipe names {named.formula}, {wanted:.6g}; give the model that scale, or sweep "
                "proxies with its own (model.attention_scale)"
            )
            return


def _folded_factor(recipe: Recipe) -> float:
    """The factor on q.k that the query matrices hold; other roles may hold factors of their own."""
    if recipe.attention_scale is None or not recipe.attention_scale.folded:
        return 1.0
    bases = (p.base for p in recipe.roles["hidden"].parameters if p.base)
    return next((base.factor for base in bases if base.factor != 1), 1.0)


def own_inits(
    recipe: Recipe, base_plan: Sequence[BaseParameter], targets: Targets, built: BuiltTarget
) -> Iterator[str]:
    """Compare the std at which the model's own code starts a matrix with the recipe's.

    A role is plain where none of its matrices follows the recipe and their stds are constant in
    width or scale as fan_in^-1/2: the recipe is then expected to draw all weights. Otherwise the
    model does so itself, and every std has to be the recipe's.
    """
    patterns = {claimed.names[0]: claimed.pattern for claimed, _ in targets}
    found = [_own_init(recipe, base, patterns[base.name], built) for base in base_plan]
    differing = [own for own in found if own is not None and not own.is_equal]
    wrong, left = list[OwnInit](), list[OwnInit]()
    for role in MATRIX_ROLES:
        of_role = [own for own in found if own is not None and own.role == role]
        other = [own for own in of_role if not own.follows]
        strange = [own for own in other if not own.is_plain]
        faults = strange if len(other) == len(of_role) else other
        wrong += [own for own in faults if recipe.width != recipe.base_width]
        left += [own for own in other if not faults]
    yield from _init_sentences(wrong)
    if left or (differing and len(built.inits) == 1):
        examples = {own.role: own for own in reversed(left + differing)}
        stds = ", ".join(
            f"{own.name} at {own.own:.3g}, the recipe's {own.recipes:.3g}"
            for own in examples.values()
        )
        yield Unseen(
            f"whether recipe.init_ is called: the model's own init is another (std of {stds})"
        )
    elif differing and not wrong:
        yield (
            f"std of {listed(_stds(own) for own in differing)}: the model's own init scales with "
            "width as the recipe's does, from other values; draw the weights with "
            "recipe.init_(model), or make the model's init as the recipe's"
        )


def _stds(own: OwnInit) -> str:
    return f"{own.name} is {own.own:.4g} and the recipe's {own.recipes:.4g}"


def _own_init(
    recipe: Recipe, base: BaseParameter, pattern: RolePattern | None, built: BuiltTarget
) -> OwnInit | None:
    """The two inits of a matrix; None where either is zero, or it is a vector or scalar."""
    assert pattern is not None, "a recipe with roles has patterns"
    std, values = pattern.init_std, recipe.roles[pattern.role].of_pattern(pattern.written)
    own = [inits[base.name].std for inits in built.inits]
    if base.role not in MATRIX_ROLES or not (std and all(own)):
        return None
    width_mult = recipe.width / (recipe.base_width or recipe.width)
    growth = fan_in_growth(base, built.shapes[base.name]) or width_mult
    wide = fan_in_growth(base, built.weight(base.name).wide_shape) or APART
    # the chance error of a std, and of the exponent between two
    chance = SURE / math.sqrt(2 * math.prod(base.shape))
    exponent = _exponent(own[-1] / own[0], wide) if len(own) > 1 and wide != 1 else 0.0
    recipes = _exponent(values.init_std_mult.value / base.factor, growth) if growth != 1 else 0.0
    tolerance = NEAR + chance / math.log(APART)
    at_width = own[0] * growth**exponent
    return OwnInit(base.name, base.role, at_width, std, exponent, recipes, tolerance)


def _init_sentences(wrong: Sequence[OwnInit]) -> Iterator[str]:
    alike: dict[tuple[str, str], list[OwnInit]] = {}
    for own in wrong:
        alike.setdefault((_shown(own.exponent), _shown(own.recipes_exponent)), []).append(own)
    for (exponent, recipes), found in alike.items():
        yield (
            f"{listed(own.name for own in found)}: the model's own init std scales as "
            f"width^{exponent}, the recipe's as width^{recipes} ({_stds(found[0])}); draw the "
            "weights with recipe.init_(model), or make the model's init as the recipe's"
        )


def _exponent(ratio: float, growth: float) -> float:
    return math.log(ratio) / math.log(growth) if ratio > 0 else 0.0


def _shown(exponent: float) -> str:
    return f"{exponent + 0.0:.2f}".replace("-0.00", "0.00")


@dataclass(frozen=True)
class ModelCheck:
    """Result of comparing a recipe with a model."""

    findings: tuple[str, ...]
    """Sentences on faults."""
    unchecked: tuple[str, ...] = ()
    """Clauses on what cannot be seen from outside."""


def check_model(
    recipe: Recipe, where: str, name: str, optimizer: str | None = None, note: Note = silent
) -> ModelCheck:
    """Compare names, roles, values by the model's own sizes, and what its code scales.

    Args:
        where: the recipe's file, for error messages.
        name: as `named_model` takes it; a function is called, which runs the user's code.
        optimizer: `package.module:function`; it is called with the model, on the meta device if
            possible, and returns an optimizer, or for a recipe with two a mapping of them by name.

    Raises:
        InputError: a recipe without roles, or a model or an optimizer that cannot be built.
    """
    if recipe.scope == "global" or recipe.base_width is None:
        raise InputError(
            f"{where}: has one set of values for all parameters (scope: global), so that there is "
            "no rule to compare a model with; declare a protocol for `fit-exponents`"
        )
    if not any(values.parameters for values in recipe.roles.values()):
        raise InputError(
            f"{where}: names no parameters, so that no model can be compared with it; make it with "
            f"`transfer` for the model {name}"
        )
    holds = recipe.holds_for
    sizes = {key: getattr(holds, key) if holds else None for key in ("vocab", "context")}
    target = named_model(name, sizes)
    refused = _refused(recipe, target)
    if refused is not None:
        return ModelCheck((refused,))
    built = build_target(target, recipe.width, recipe.base_width, note)
    held = loaded(recipe, where)
    try:
        targets = held.targets(built.module)
    except InputError as error:
        return ModelCheck((str(error),), ("values: the names have to match first",))
    sentences = list(_compared(recipe, targets, built))
    if optimizer is not None:
        sentences += _of_optimizer(held, built, optimizer)
    return ModelCheck(
        tuple(sentence for sentence in sentences if not isinstance(sentence, Unseen)),
        tuple(sentence for sentence in sentences if isinstance(sentence, Unseen)),
    )


def _compared(recipe: Recipe, targets: Targets, built: BuiltTarget) -> Iterator[str]:
    """All findings about the model itself, and all that could not be seen."""
    yield from _tied(targets, built)
    roles = {c.names[0]: t.role for c, t in targets if t.role is not None}
    base_plan = _as_written(built.base_plan(roles), targets)
    yield from _other_roles(built, roles)
    if recipe.rule is None:
        yield Unseen("values by each parameter's own fan-in: the recipe has no `rule`")
    else:
        yield from _by_rule(recipe, base_plan, targets, built)
    yield from own_inits(recipe, base_plan, targets, built)
    yield from output_scale(recipe, targets, built)
    yield from attention_scale(recipe, built)
    inner = sorted({str(t.role) for _, t in targets if t.multiplier != 1 and t.role != "readout"})
    if inner:
        yield Unseen(f"whether the forward pass applies the multipliers of {', '.join(inner)}")


def _refused(recipe: Recipe, target: NamedModel) -> str | None:
    """Why the recipe cannot be for a config; None if it can."""
    name, model = target.name, target.protocol
    if not isinstance(model, HfProtocol):
        return None
    if model.width != recipe.width:
        return (
            f"{name}: has hidden_size {model.width}, and the recipe is for width {recipe.width}; "
            f"make it with `transfer` for the model {name}"
        )
    if is_tied(model) and not tied_patterns(recipe.roles):
        return (
            f"{name}: ties the embedding to the readout, and the models of the fit had two "
            "weights, which the rules treat differently; train with tie_word_embeddings: false"
        )
    return None


def _tied(targets: Targets, built: BuiltTarget) -> Iterator[str]:
    """Findings for a readout that is tied to other weights and claimed as readout."""
    for claimed, target in targets:
        others = [name for name in claimed.names if name != claimed.name]
        if others and target.role == "readout":
            yield (
                f"{target.name} is also {listed(others)}: one tied weight, claimed as readout, "
                "whose rules do not hold for its other uses; untie them"
            )


def _other_roles(built: BuiltTarget, roles: Mapping[str, Role]) -> Iterator[str]:
    """Findings for roles that contradict how a forward pass uses the parameters."""
    if built.why_not:
        yield Unseen(f"roles: {built.why_not}")
    for name, found in built.found.items():
        if name in roles and found.role != roles[name]:
            yield (
                f"{name}: claimed as {roles[name]}, and by the axes that grow with width it is "
                f"{found.role}; give its name to the patterns of {found.role}"
            )


def _as_written(
    base_plan: tuple[BaseParameter, ...], targets: Targets
) -> tuple[BaseParameter, ...]:
    """The base plan with the inits from which the recipe's follow, which are the proxies'."""
    patterns = {claimed.names[0]: claimed.pattern for claimed, _ in targets}
    found = []
    for base in base_plan:
        pattern = patterns[base.name]
        at_base = pattern.written.base if pattern and pattern.written else None
        if at_base is not None:
            base = replace(
                base,
                init_std=at_base.init_std,
                init_exponent=at_base.init_exponent,
                factor=at_base.factor,
                in_block=at_base.in_block,
                is_tied_readout=at_base.is_tied_readout,
                output_factor=at_base.output_factor,
            )
        found.append(base)
    return tuple(found)


def _by_rule(
    recipe: Recipe, base_plan: tuple[BaseParameter, ...], targets: Targets, built: BuiltTarget
) -> Iterator[str]:
    """Values that differ from the rule's for the sizes of this model."""
    given = {claimed.names[0]: target for claimed, target in targets}
    alike: dict[tuple[object, ...], list[Deviation]] = {}
    for base, wanted in zip(base_plan, replanned(recipe, base_plan, built.shapes), strict=True):
        for deviation in deviations(recipe, base, given[base.name], wanted):
            if deviation.share > CLOSE:
                d = deviation
                alike.setdefault((d.quantity, d.role, d.found, d.wanted), []).append(d)
    for equal in alike.values():
        yield str(replace(equal[0], name=listed(d.name for d in equal)))


def _of_optimizer(held: LoadedRecipe, built: BuiltTarget, name: str) -> Iterator[str]:
    where = f"optimizer {name}"
    build = import_function(name, where)
    try:
        found = build(built.module)
    except MutransferError:
        raise
    except Exception as error:
        raise InputError(
            f"{where}: raised {type(error).__name__} for the model, which is on the meta device: "
            f"{message_of(error)}",
            setting="optimizer",
        ) from error
    parts: dict[OptimizerName | None, object] = found if isinstance(found, dict) else {None: found}
    scale = held.recipe.attention_scale  # compared with the model's own, where that is seen
    in_model: Literal["in_model"] | None = "in_model" if scale and scale.in_forward_pass else None
    for part, optimizer in parts.items():
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(
                f"{where}: returned {type(optimizer).__name__}, expected a torch optimizer, or for "
                "a recipe with two optimizers a mapping of them by name",
                setting="optimizer",
            )
        result = held.verify(
            built.module, optimizer, part=part, optimizer_class=part, attention_scale=in_model
        )
        for difference in result.differences:
            yield f"{difference.name}: {difference.sentence}"
