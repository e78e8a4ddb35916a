"""The attention scale of a recipe, and the query matrices into which it can be moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.inits import QUERY
from mutransfer_cli.recipe.types import AttentionScaleValue
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from mutransfer_cli.spec.decoder import ModelProtocol, attention_factor
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol


def attention_scale(
    exponents: Exponents,
    protocol: Protocol | DeclaredProtocol,
    width: int,
    model: TargetModel | None,
    folds: bool,
) -> AttentionScaleValue | None:
    """The proxies' formula, for the target's head size if known, otherwise for theirs.

    Args:
        width: of the target.
        folds: whether it is to be moved into the query matrices, where these can be told.
    """
    formula, head_size = protocol.model.attention_scale, _head_size(protocol, width, model)
    if formula is None or head_size is None:
        return None
    found = AttentionScaleValue(
        formula=formula,
        head_size=head_size,
        value=attention_factor(formula, head_size),
        status="assumed",
    )
    is_own = math.isclose(found.value, own_attention(model, head_size), rel_tol=1e-9)
    is_folded = folds and not is_own and bool(queries(exponents, model))
    return found.model_copy(update={"folded": True}) if is_folded else found


def own_attention(model: TargetModel | None, head_size: int) -> float:
    """The factor on q.k that a target has by itself; 1/sqrt(d_head) where it is not known."""
    known = None if model is None else model.attention
    return attention_factor("1/sqrt(d_head)", head_size) if known is None else known


def with_queries(
    exponents: Exponents,
    base_plan: Sequence[BaseParameter],
    scale: AttentionScaleValue,
    model: TargetModel | None,
) -> tuple[BaseParameter, ...]:
    """The base plan with the attention scale, over the target's own, as factor of the queries."""
    names = queries(exponents, model)
    factor = scale.value / own_attention(model, scale.head_size)
    return tuple(replace(p, factor=factor) if p.name in names else p for p in base_plan)


def _head_size(
    protocol: Protocol | DeclaredProtocol, width: int, target: TargetModel | None
) -> int | None:
    model, known = protocol.model, target.facts.get("head_size") if target else None
    if known is not None:
        return known
    if isinstance(model, ModelProtocol) and model.heads and width % model.heads == 0:
        return model.head_size_at(width)
    return model.head_size


def queries(exponents: Exponents, model: TargetModel | None) -> frozenset[str]:
    """Names of the parameters that make queries and nothing else; without a target model those of
    the built-in proxies, unless their queries are normalised.
    """
    if model is not None:
        return model.queries
    protocol = exponents.protocol
    swept = protocol.model if protocol else None
    if not isinstance(swept, ModelProtocol) or swept.qk_norm:
        return frozenset()
    return frozenset(p.name for p in exponents.base_plan if QUERY.fullmatch(p.name))
