"""Holds an optimizer against a recipe and says how it differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mutransfer_cli.apply.cells import Cell, Difference, close, membership
from mutransfer_cli.apply.rates import peak_difference, peaks_of, schedule_difference
from mutransfer_cli.apply.schedule import Settings, Stepped, settings, settings_ahead
from mutransfer_cli.apply.target import Targets
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.recipe import Recipe


@dataclass(frozen=True)
class Verification:
    """How an optimizer differs from a recipe; printed, it is one sentence a line."""

    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return not self.differences

    def raise_for_differences(self) -> None:
        """
        Raises:
            InputError: there is a difference.
        """
        if not self.ok:
            raise InputError(f"the optimizer is not as the recipe says:\n  {self}")

    def __str__(self) -> str:
        sentences = (f"{d.name}: {d.sentence}" for d in self.differences)
        return "\n  ".join(sentences) or "the optimizer is as the recipe says"


def verification(
    recipe: Recipe,
    targets: Targets,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Stepped | None,
    steps: int,
) -> Verification:
    """`LoadedRecipe.verify`, of the targets alone."""
    known = frozenset(id(parameter) for parameter in model.parameters())
    cells, found = membership(targets, optimizer, known)
    first = settings(optimizer)
    peaks = peaks_of(cells, first, scheduled=scheduler is not None)
    rates = [peak_difference(recipe, cells, peaks), schedule_difference(cells, peaks, first, "now")]
    found += [difference for difference in rates if difference is not None]
    found += setting_differences(cells, first, "")
    if scheduler is not None and cells:
        found += later_differences(cells, peaks, first, optimizer, scheduler, steps, found)
    return Verification(tuple(found))


def later_differences(
    cells: Sequence[Cell],
    peaks: Sequence[float],
    first: Sequence[Settings],
    optimizer: torch.optim.Optimizer,
    scheduler: Stepped,
    steps: int,
    known: Sequence[Difference],
) -> list[Difference]:
    """Those that are not there before the scheduler steps, each where it first appears."""
    seen = {(difference.name, difference.parameters) for difference in known}
    bent = any(difference.name == "schedule" for difference in known)
    found = []
    for step, later in enumerate(settings_ahead(optimizer, scheduler, steps), start=1):
        when = f"after {step} scheduler step{'s' if step > 1 else ''}"
        rates = None if bent else schedule_difference(cells, peaks, later, when)
        changed = [] if later == first else setting_differences(cells, later, when + " ")
        for difference in ([rates] if rates else []) + changed:
            if (difference.name, difference.parameters) not in seen:
                seen.add((difference.name, difference.parameters))
                found.append(difference)
        bent = bent or rates is not None
    return found


def setting_differences(
    cells: Sequence[Cell], held: Sequence[Settings], when: str
) -> list[Difference]:
    """In weight decay, eps and betas; `when` as it stands in a sentence."""
    return [
        difference
        for cell in cells
        for check in (decay_differences, eps_differences, betas_differences)
        for difference in check(cell, held[cell.group], when)
    ]


def decay_differences(cell: Cell, held: Settings, when: str) -> Iterator[Difference]:
    wanted, found, lr = cell.wanted.weight_decay, held.weight_decay, cell.wanted.lr
    if wanted is None:
        return
    if found is None or not close(found, wanted):
        what = f"{when}weight_decay of {cell} is {_shown(found)}, the recipe says {wanted:.6g}"
        if found and wanted and close(found, wanted * lr):
            yield Difference(
                "decay_convention",
                cell.names,
                f"{what} where weight decay is multiplied by lr, as torch does; {found:.6g} is the "
                "number of the independent convention, which is not",
            )
        elif found and wanted and close(found, wanted / lr):
            yield Difference(
                "decay_convention",
                cell.names,
                f"{what}; it was divided by lr though it is in torch's convention already",
            )
        else:
            yield Difference("weight_decay", cell.names, what)
    elif wanted and held.l2:
        yield Difference(
            "decay_convention",
            cell.names,
            f"{when}weight_decay of {cell} is added to the gradient by this optimizer, the "
            "recipe's is decoupled (w -= lr * weight_decay * w); use torch.optim.AdamW or its like",
        )


def eps_differences(cell: Cell, held: Settings, when: str) -> Iterator[Difference]:
    wanted, found = cell.wanted.eps, held.eps
    if wanted is not None and (found is None or not close(found, wanted)):
        what = f"{when}eps of {cell} is {_shown(found)}, the recipe says {wanted:.6g}"
        yield Difference("eps", cell.names, what)


def betas_differences(cell: Cell, held: Settings, when: str) -> Iterator[Difference]:
    wanted, found = cell.wanted.betas, held.betas
    if wanted is None:
        return
    # of a beta what matters is how far it is from 1
    if found is not None and all(close(1 - f, 1 - w) for f, w in zip(found, wanted, strict=False)):
        return
    shown = "not there" if found is None else list(found)
    what = f"{when}betas of {cell} are {shown}, the recipe says {list(wanted)}"
    yield Difference("betas", cell.names, what)


def _shown(value: float | None) -> str:
    return "not there" if value is None else f"{value:.6g}"
