"""Statements about a run that no optimizer holds: attention scale and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS, OptimizerName
from mutransfer_cli.recipe.difference import Cell, Difference
from mutransfer_cli.recipe.replan import close
from mutransfer_cli.recipe.types import AttentionScaleValue, Recipe
from mutransfer_cli.strict import nearest

InModel = Literal["in_model"]


@dataclass(frozen=True)
class Stated:
    """Statements of the caller of `verify` about a run."""

    optimizer_class: OptimizerName | None = None
    """The update of an optimizer whose class nobody knows."""
    attention_scale: InModel | None = None
    """Whether the model's code applies the recipe's attention scale."""
    max_norm: float | None = None
    """Norm at which gradients are clipped; infinite where nothing clips, None where not said."""

    def __post_init__(self) -> None:
        if self.optimizer_class not in (None, *OPTIMIZERS):
            raise InputError(
                f"optimizer_class {self.optimizer_class!r}: no optimizer of that name"
                f"{nearest(str(self.optimizer_class), OPTIMIZERS)}"
            )
        if self.max_norm is not None and not self.max_norm > 0:
            raise InputError(
                f"max_norm {self.max_norm:g}: must be above 0, as gradients clipped there are 0; "
                "give math.inf where nothing clips"
            )


def scale_objection(scale: AttentionScaleValue | None, stated: InModel | None) -> str | None:
    """Why a run cannot have the recipe's attention scale, as far as it is stated; None if it can.

    Raises:
        InputError: the statement has another value.
    """
    if stated not in (None, "in_model"):
        raise InputError(f"attention_scale {stated!r}: must be 'in_model' or left out")
    if scale is None or scale.formula == "1/sqrt(d_head)":
        return None
    usual = scale.head_size**-0.5
    if scale.folded and stated:
        return (
            f"the attention scale {scale.formula} is in the query matrices already, so that the "
            f"model keeps 1/sqrt(d_head), {usual:.6g}; in the model's code as well it would act "
            "twice: take it out there, and leave attention_scale out here"
        )
    if not scale.in_forward_pass or stated:
        return None
    return (
        f"the attention scale is {scale.formula}, {scale.value:.6g} at d_head {scale.head_size}, "
        "which the model's code must put on q.k; with the usual 1/sqrt(d_head), "
        f"{usual:.6g}, attention logits are {usual / scale.value:.3g} times those of the fit, "
        "whose rates and init then do not hold; make the recipe with folded multipliers for a "
        "model whose queries have a matrix of their own, which takes the scale, or apply it in the "
        "model's code and say attention_scale='in_model' (on a Hugging Face module, a value such "
        "as .scaling is lost by save_pretrained and from_pretrained)"
    )


def scale_difference(
    recipe: Recipe, cells: Sequence[Cell], stated: InModel | None
) -> list[Difference]:
    """An attention scale that nobody says the model has."""
    objection = scale_objection(recipe.attention_scale, stated)
    names = tuple(name for cell in cells if cell.wanted.role == "hidden" for name in cell.names)
    return [] if objection is None else [Difference("attention_scale", names, objection)]


def clip_differences(
    recipe: Recipe,
    cells: Sequence[Cell],
    orthogonalised: Sequence[Cell],
    max_norm: float | None,
    by_deepspeed: bool,
) -> Iterator[Difference]:
    """Clipping at another norm than in the recipe's runs, and clipping of Muon's updates.

    Args:
        orthogonalised: the cells that Muon updates.
        by_deepspeed: whether DeepSpeed steps the optimizer.
    """
    if max_norm is None:
        return
    muon = ", ".join(map(str, orthogonalised))
    if muon and by_deepspeed and math.isfinite(max_norm):
        yield Difference(
            "clip",
            tuple(name for cell in orthogonalised for name in cell.names),
            f"under max_norm {max_norm:g} DeepSpeed's ZeRO clips {muon} after Muon has "
            "orthogonalised them, which divides each step by its own norm, whatever lr says; "
            "give DeepSpeed gradient_clipping 0",
        )
        return
    if recipe.holds_for is None:
        return
    wanted = recipe.holds_for.clip
    if close(max_norm, math.inf if wanted is None else wanted):
        return
    found = f"gradients are clipped at norm {max_norm:g}"
    if math.isinf(max_norm):
        found = "nothing clips gradients"
    fitted = "were not clipped" if wanted is None else f"were clipped at {wanted:g}"
    remedy = "take the clipping out" if wanted is None else f"clip at max_norm={wanted:g}"
    what = f"{found}, those of the recipe's runs {fitted}, so that steps with a large gradient"
    what += f" are of another size than in the fit; {remedy}"
    if muon:
        what += f"; steps of {muon} do not shrink with it, as Muon orthogonalises them"
    names = tuple(n for cell in cells if cell not in orthogonalised for n in cell.names)
    if names:
        yield Difference("clip", names, what)
