"""What a model's own code scales with width, against what the recipe scales."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mutransfer_cli.apply.claims import RolePattern, listed
from mutransfer_cli.apply.target import Targets
from mutransfer_cli.files.model import HfProtocol
from mutransfer_cli.files.recipe import Recipe
from mutransfer_cli.files.replan import close
from mutransfer_cli.files.transformer import attention_factor
from mutransfer_cli.proxies.for_recipe import APART, BuiltTarget
from mutransfer_cli.rules.plan import BaseParameter, fan_in_growth
from mutransfer_cli.rules.roles import MATRIX_ROLES

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
