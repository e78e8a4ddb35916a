"""From exponents to the text of any format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from mutransfer_cli.errors import InputError, NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe, is_folded, with_rule_of
from mutransfer_cli.recipe.formats import FORMATS, PLAIN
from mutransfer_cli.recipe.formats.capability import Format, losses, refuse_optimizer
from mutransfer_cli.recipe.formats.header import header_of
from mutransfer_cli.recipe.formats.sheet import STOCK_ROLES, fold_attention, sheet_of
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.strict import nearest


@dataclass(frozen=True)
class Emitted:
    """A recipe as text."""

    text: str
    recipe: Recipe
    """What was written, with its warnings."""
    dropped: tuple[str, ...] = ()
    """What the target cannot hold."""


def emit(exponents: Exponents, asked: Target, to: str, allow_lossy: bool = False) -> Emitted:
    """Write the recipe of a target in format `to`.

    Raises:
        InputError: an unknown format, or build_recipe's.
        InsufficientEvidence: build_recipe's.
        NotExpressible: the target cannot hold the recipe, and losses are not allowed.
    """
    known = (*PLAIN, *FORMATS)
    if to not in known:
        raise InputError(
            f"to {to}: unknown{nearest(to, known)}; formats: {', '.join(known)}", setting="to"
        )
    asked = replace(asked, folded=is_folded(exponents, asked))
    recipe = build_recipe(exponents, asked)
    if to in PLAIN:
        return Emitted(dump(recipe, to == "json"), recipe)
    fmt = format_of(to)
    there, roles = _as_written(exponents, asked, fmt)
    plain = recipe if there is asked else with_rule_of(recipe, exponents, there)
    unfolded = sheet = sheet_of(plain, roles)
    refuse_optimizer(fmt, sheet)
    scaled_there, folded = fmt.scales_itself(sheet), bool(asked.folded)
    if scaled_there:
        fmt = replace(fmt, multipliers=True)
    if not fmt.multipliers and set(sheet.by_role("multiplier").values()) != {1}:
        refolded = with_rule_of(recipe, exponents, replace(there, folded=True))
        sheet, folded = sheet_of(refolded, roles), True
    if fmt.folds_attention:
        sheet = fold_attention(sheet)
    dropped = tuple(losses(fmt, sheet, unfolded))
    if dropped and not allow_lossy:
        raise NotExpressible(
            f"to {to} cannot hold: {'; '.join(dropped)}; write yaml or pytorch, or leave these out",
            setting="to",
            remedy="allow_lossy",
        )
    header = tuple(header_of(fmt, recipe, sheet, dropped, folded, scaled_there))
    return Emitted(fmt.write(replace(sheet, header=header)), sheet.recipe, dropped)


def format_of(name: str) -> Format:
    """The record of a format by its listed name."""
    found: Format = import_module(f"{__package__}.{name.replace('-', '_')}").FORMAT
    return found


def _as_written(
    exponents: Exponents, asked: Target, fmt: Format
) -> tuple[Target, tuple[Role, ...] | None]:
    """The target as it stands, if the format takes the names of the given model or of the proxies;
    otherwise the target by role, and the roles of a stock Llama.

    Raises:
        NotExpressible: a model of other names than the format is written for.
    """
    model = asked.model
    proxies = fmt.proxy_names and bool(exponents.base_plan or exponents.protocol is None)
    if (fmt.any_names and model is not None) or (model is None and proxies):
        return asked, None
    if model is not None and not model.is_llama:
        raise NotExpressible(
            f"to {fmt.name} is written for the names of its own Llama; give `width` in place of "
            "`model`, or write pytorch",
            setting="to",
        )
    return replace(asked, by_role=True), STOCK_ROLES
