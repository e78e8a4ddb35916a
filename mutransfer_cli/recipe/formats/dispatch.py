"""From exponents to the text of any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from mutransfer_cli.errors import InputError, NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe, is_folded, with_rule_of
from mutransfer_cli.recipe.formats import FORMATS, PLAIN
from mutransfer_cli.recipe.formats.capability import Format, losses, refuse_optimizer
from mutransfer_cli.recipe.formats.header import header_of
from mutransfer_cli.recipe.formats.sheet import Sheet, sheet_of
from mutransfer_cli.recipe.formats.stock import stock_llama, stock_sheet
from mutransfer_cli.recipe.inits import base_inits
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.model import HfProtocol
from mutransfer_cli.spec.own_factors import BY_WIDTH
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.strict import nearest


@dataclass(frozen=True)
class Emitted:
    """A recipe as text."""

    text: str
    recipe: Recipe
    """What was written, with its warnings."""
    file_name: str
    """A name for the file; a program's can be imported."""
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
        return Emitted(dump(recipe, to == "json"), recipe, f"recipe-{recipe.width}.{to}")
    fmt = format_of(to)
    there = _as_written(exponents, asked, fmt)
    unfolded = sheet = _sheet(exponents, recipe, asked, there, fmt)
    refuse_optimizer(fmt, sheet)
    folded = bool(asked.folded)
    factors = {*sheet.by_role("multiplier").values(), sheet.output_multiplier}
    scaled = not fmt.multipliers and factors != {1}
    if scaled or (not fmt.attention_scale and sheet.unusual_scale):
        there, folded = replace(there, folded=True), True
        sheet = _sheet(exponents, recipe, asked, there, fmt)
    dropped = tuple(losses(fmt, sheet, unfolded))
    if dropped and not allow_lossy:
        raise NotExpressible(
            f"to {to} cannot hold: {'; '.join(dropped)}; write yaml or pytorch, or leave these out",
            setting="to",
            remedy="allow_lossy",
        )
    header = tuple(header_of(fmt, recipe, sheet, dropped, folded))
    sheet = replace(sheet, header=header, own_factors=_own_factors(exponents, asked))
    return Emitted(fmt.write(sheet), sheet.recipe, _file_name(fmt, sheet.recipe), dropped)


def _file_name(fmt: Format, recipe: Recipe) -> str:
    suffix = fmt.global_suffix if recipe.scope == "global" else None
    name = f"recipe-{recipe.width}-{fmt.name}{suffix or fmt.suffix}"
    return name.replace("-", "_") if name.endswith(".py") else name


def _own_factors(exponents: Exponents, asked: Target) -> Mapping[str, Any]:
    """The fields of a Hugging Face config by which the models of the fit scaled themselves; none
    that depend on the width."""
    if asked.model is not None:
        return asked.model.own_factors
    swept = exponents.protocol.model if exponents.protocol else None
    found = swept.own_factors if isinstance(swept, HfProtocol) else {}
    return {field: value for field, value in found.items() if field not in BY_WIDTH}


def format_of(name: str) -> Format:
    """The record of a format by its listed name."""
    found: Format = import_module(f"{__package__}.{name.replace('-', '_')}").FORMAT
    return found


def _as_written(exponents: Exponents, asked: Target, fmt: Format) -> Target:
    """The target as it stands, if the format takes the names of the given model or of the proxies;
    otherwise that of a Llama.

    Raises:
        NotExpressible: a model of other names than the format is written for, or tied weights
            without its own names.
    """
    model, protocol = asked.model, exponents.protocol
    if protocol is None:
        return asked
    swept = [record.parameter() for record in exponents.base_plan]
    takes_names = fmt.any_names if model else fmt.any_names and fmt.proxy_names
    if not takes_names and any(p.is_tied_readout for p in (model.base_plan if model else swept)):
        remedy = "write transformers for that model (--model), or pytorch"
        raise NotExpressible(
            f"to {fmt.name}: embedding and readout are one tied weight, and it is written for a "
            f"Llama with two; {remedy}",
            setting="to",
        )
    if model is None:
        if fmt.proxy_names and exponents.base_plan:
            return asked
        base_width = protocol.parameterization.base_width
        model = stock_llama(base_width, asked.width)
    elif not fmt.any_names and not model.is_llama:
        raise NotExpressible(
            f"to {fmt.name} is written for the names of its own Llama; give `width` in place of "
            "`model`, or write pytorch",
            setting="to",
        )
    if fmt.fused_queries:
        model = replace(model, queries=frozenset())
    return asked if model is asked.model else replace(asked, model=model)


def _sheet(
    exponents: Exponents, recipe: Recipe, asked: Target, there: Target, fmt: Format
) -> Sheet:
    """The sheet of `there`, which is the asked target, perhaps folded or with a Llama's names."""
    if there is not asked:
        recipe = with_rule_of(recipe, exponents, there)
    model = there.model
    by_kind = model is not None and (asked.model is None or not fmt.any_names)
    knows_init = bool(exponents.base_plan or base_inits(exponents))
    if model is None or not by_kind:
        return sheet_of(recipe, knows_init)
    return stock_sheet(recipe, exponents, model, fmt.name, knows_init)
