"""`transfer --to`: from exponents to the text of any format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mutransfer_cli.errors import InputError, NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe, is_folded, with_rule_of
from mutransfer_cli.recipe.formats import (
    megatron,
    nemo_automodel,
    olmo_core,
    pytorch,
    torchtitan,
    transformers,
)
from mutransfer_cli.recipe.formats.capability import Capability, header_of, losses, refuse_optimizer
from mutransfer_cli.recipe.formats.sheet import STOCK_ROLES, Sheet, fold_attention, sheet_of
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.strict import nearest


@dataclass(frozen=True)
class Format:
    """
    Attributes:
        scales_itself: whether the target applies the recipe's rule, multipliers included.
    """

    capability: Capability
    write: Callable[[Sheet], str]
    scales_itself: Callable[[Sheet], bool] = lambda _: False


PLAIN = ("yaml", "json")
FORMATS: dict[str, Format] = {
    found.capability.name: found
    for found in (
        Format(pytorch.CAPABILITY, pytorch.write),
        Format(torchtitan.CAPABILITY, torchtitan.write),
        Format(megatron.CAPABILITY, megatron.write, megatron.is_native),
        Format(transformers.CAPABILITY, transformers.write),
        Format(olmo_core.CAPABILITY, olmo_core.write),
        Format(nemo_automodel.CAPABILITY, nemo_automodel.write),
    )
}


@dataclass(frozen=True)
class Emitted:
    """
    Attributes:
        recipe: what was written, with its warnings.
        dropped: what the target cannot hold.
    """

    text: str
    recipe: Recipe
    dropped: tuple[str, ...] = ()


def emit(exponents: Exponents, asked: Target, to: str, allow_lossy: bool = False) -> Emitted:
    """
    Raises:
        InputError: an unknown format, or build_recipe's.
        InsufficientEvidence: build_recipe's.
        NotExpressible: the target cannot hold the recipe, and losses are not allowed.
    """
    if to not in (*PLAIN, *FORMATS):
        known = (*PLAIN, *FORMATS)
        raise InputError(f"--to {to}: unknown{nearest(to, known)}; formats: {', '.join(known)}")
    asked = replace(asked, folded=is_folded(exponents, asked))
    recipe = build_recipe(exponents, asked)
    if to in PLAIN:
        return Emitted(dump(recipe, to == "json"), recipe)
    found = FORMATS[to]
    capability = found.capability
    unfolded = sheet = _sheet(recipe, exponents, asked, capability)
    refuse_optimizer(capability, sheet)
    scaled_there, folded = found.scales_itself(sheet), bool(asked.folded)
    if scaled_there:
        capability = replace(capability, multipliers=True)
    if not capability.multipliers and set(sheet.by_role("multiplier").values()) != {1}:
        sheet = _sheet(recipe, exponents, replace(asked, folded=True), capability)
        folded = True
    if capability.folds_attention:
        sheet = fold_attention(sheet)
    dropped = tuple(losses(capability, sheet, unfolded))
    if dropped and not allow_lossy:
        raise NotExpressible(
            f"--to {to} cannot hold: {'; '.join(dropped)}; use --to yaml or pytorch, or write the "
            "rest with --allow-lossy"
        )
    header = tuple(header_of(capability, recipe, sheet, dropped, folded, scaled_there))
    return Emitted(found.write(replace(sheet, header=header)), sheet.recipe, dropped)


def _sheet(recipe: Recipe, exponents: Exponents, asked: Target, capability: Capability) -> Sheet:
    """The recipe by the names of a given model, or for plain torch by the proxies' own; otherwise
    by role, for the names of a stock Llama."""
    to, model = capability.name, asked.model
    proxies = to == "pytorch" and bool(exponents.base_plan or exponents.protocol is None)
    if (capability.any_names and model is not None) or (model is None and proxies):
        return sheet_of(with_rule_of(recipe, exponents, asked))
    if model is not None and not model.is_llama:
        raise NotExpressible(
            f"--to {to} is written for the names of its own Llama; give --width in place of "
            "--model, or take --to pytorch"
        )
    by_role = replace(asked, by_role=True)
    return sheet_of(with_rule_of(recipe, exponents, by_role), STOCK_ROLES)
