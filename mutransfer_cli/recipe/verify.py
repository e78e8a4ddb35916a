"""Compare an optimizer and its schedule with a recipe, and name the mistake that explains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.patterns import ALL, Targets, listed, named_count, settings_of
from mutransfer_cli.recipe.replan import close, shown
from mutransfer_cli.recipe.scheduler import Settings, Stepped, settings, settings_ahead
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import PlannedParameter

HINT = 1e-2  # tolerance within which a wrong rate is taken for a known mistake
OWN_RATES = "use recipe.param_groups(model) and a schedule that multiplies each group's own lr"

DifferenceName = Literal[
    "missing",
    "twice",
    "foreign",
    "one_rate",
    "scaled_twice",
    "lr",
    "schedule",
    "weight_decay",
    "decay_convention",
    "eps",
    "betas",
]


@dataclass(frozen=True)
class Difference:
    """One way in which an optimizer differs from the recipe."""

    name: DifferenceName
    """Kind of difference."""
    parameters: tuple[str, ...]
    """Names of the parameters concerned."""
    sentence: str
    """What differs, where, and what to do."""


@dataclass(frozen=True)
class Verification:
    """How an optimizer differs from a recipe; printed, it is one sentence a line."""

    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    def raise_for_differences(self) -> None:
        """Raise an error that lists all differences.

        Raises:
            InputError: there is a difference.
        """
        if not self.ok:
            raise InputError(f"the optimizer is not as the recipe says:\n  {self}")

    def __str__(self) -> str:
        sentences = (f"{d.name}: {d.sentence}" for d in self.differences)
        return "\n  ".join(sentences) or "the optimizer is as the recipe says"


@dataclass(frozen=True)
class Cell:
    """Parameters of a role with equal values that are in the same group of the optimizer."""

    wanted: PlannedParameter
    names: tuple[str, ...]
    group: int

    def __str__(self) -> str:
        return f"{self.wanted.role or ALL} ({named_count(self.names)})"


def verification(
    recipe: Recipe,
    targets: Targets,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Stepped | None,
    steps: int,
) -> Verification:
    """Compare the parameters in `targets` only; other arguments as in `LoadedRecipe.verify`."""
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


def membership(
    targets: Targets, optimizer: torch.optim.Optimizer, known: frozenset[int]
) -> tuple[list[Cell], list[Difference]]:
    """Sort the targets by role, values and group of the optimizer.

    Args:
        known: ids of all parameters of the model.
    """
    places: dict[int, list[int]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            places.setdefault(id(parameter), []).append(index)
    merged: dict[tuple[object, ...], tuple[PlannedParameter, list[str], int]] = {}
    missing, twice = [], []
    for claimed, target in targets:
        found = places.pop(id(claimed.tensor), [])
        if not found:
            missing.append(target.name)
            continue
        if len(found) > 1:
            twice.append(target.name)
        key = (target.role, *settings_of(target).values(), found[0])
        merged.setdefault(key, (target, [], found[0]))[1].append(target.name)
    foreign = sum(place not in known for place in places)
    cells = [Cell(target, tuple(names), group) for target, names, group in merged.values()]
    return cells, _membership_differences(missing, twice, foreign)


def _membership_differences(
    missing: Sequence[str], twice: Sequence[str], foreign: int
) -> list[Difference]:
    found = []
    if missing:
        sentence = (
            f"{listed(missing)}: not in the optimizer, so that nothing trains it; build the "
            "optimizer from recipe.param_groups(model) after the model is built and moved"
        )
        found.append(Difference("missing", tuple(missing), sentence))
    if twice:
        sentence = f"{listed(twice)}: more than once in the optimizer, and updated more than once"
        found.append(Difference("twice", tuple(twice), sentence))
    if foreign:
        sentence = (
            f"{foreign} tensors in the optimizer are not parameters of the model: it was built for "
            "another model, or holds copies of the weights; verify it with those"
        )
        found.append(Difference("foreign", (), sentence))
    return found


def peaks_of(cells: Sequence[Cell], held: Sequence[Settings], scheduled: bool) -> list[float]:
    """The rate of every cell that its schedule multiplies.

    If groups hold no peak and there is a schedule, rates that are all the same share of the
    recipe's, at most 1, are taken for its warm-up.
    """
    now = [held[cell.group] for cell in cells]
    wanted = [cell.wanted.lr for cell in cells]
    if scheduled and all(group.peak is None for group in now):
        shares = [group.lr / lr for group, lr in zip(now, wanted, strict=True)]
        if shares and max(shares) - min(shares) <= 1e-6 and max(shares) <= 1:
            return wanted
    return [group.lr if group.peak is None else group.peak for group in now]


def peak_difference(
    recipe: Recipe, cells: Sequence[Cell], peaks: Sequence[float]
) -> Difference | None:
    """How peak rates differ from the recipe's, with the mistake that makes such a difference."""
    pairs = list(zip(cells, peaks, strict=True))
    wrong = [(cell, peak) for cell, peak in pairs if not close(peak, cell.wanted.lr)]
    if not wrong:
        return None
    names = tuple(name for cell, _ in wrong for name in cell.names)
    what = "; ".join(
        f"lr of {cell} is {peak:.6g}, the recipe says {cell.wanted.lr:.6g}" for cell, peak in wrong
    )
    if all(close(peak, peaks[0]) for peak in peaks) and has_several_rates(cells):
        return Difference("one_rate", names, f"one lr for all groups: {what}; {OWN_RATES}")
    if scaled_twice(recipe, cells, peaks):
        return Difference(
            "scaled_twice",
            names,
            f"rates are scaled with width twice, by the recipe and again: {what}; the recipe's are "
            "absolute, so switch muP off in the trainer or the model",
        )
    factors = [peak / cell.wanted.lr for cell, peak in pairs]
    if all(close(factor, factors[0]) for factor in factors):
        what = f"every lr is {factors[0]:.6g} times the recipe's: {what}"
    return Difference("lr", names, what)


def has_several_rates(cells: Sequence[Cell]) -> bool:
    """Whether the recipe has more than one rate here."""
    return any(not close(cell.wanted.lr, cells[0].wanted.lr) for cell in cells)


def scaled_twice(recipe: Recipe, cells: Sequence[Cell], peaks: Sequence[float]) -> bool:
    """Whether every wrong rate has its role's power of width twice, or all ratios are squares."""
    pairs = [(cell.wanted.lr, peak, cell) for cell, peak in zip(cells, peaks, strict=True)]
    factors = [
        (peak / lr, width_factor(recipe, cell)) for lr, peak, cell in pairs if not close(peak, lr)
    ]
    if all(close(found, f, HINT) and not close(f, 1, HINT) for found, f in factors):
        return True
    squares = [peak / lr**2 for lr, peak, _ in pairs]
    return has_several_rates(cells) and all(close(s, squares[0], HINT) for s in squares)


def width_factor(recipe: Recipe, cell: Cell) -> float:
    """The rule's power of width: the rate over the base rate and the role's tuned factor."""
    tuned = next((q.value for role, q in recipe.lr_mult.items() if role == cell.wanted.role), 1.0)
    return cell.wanted.lr / (recipe.base_lr.value * tuned)


def schedule_difference(
    cells: Sequence[Cell], peaks: Sequence[float], held: Sequence[Settings], when: str
) -> Difference | None:
    """Where the rates are not the same share of all peaks, or are above them."""
    if not cells:
        return None
    rates = [held[cell.group].lr for cell in cells]
    rounding = max(held[cell.group].rounding for cell in cells)
    shares = [rate / peak if peak else 0.0 for rate, peak in zip(rates, peaks, strict=True)]
    names = tuple(name for cell in cells for name in cell.names)
    if max(shares) - min(shares) > rounding:
        if all(close(rate, rates[0], rounding) for rate in rates):
            what = f"{when} lr is {rates[0]:.6g} for all groups: the trainer sets one; {OWN_RATES}"
            return Difference("one_rate", names, what)
        low, high = (cells[shares.index(end)] for end in (min(shares), max(shares)))
        return Difference(
            "schedule",
            names,
            f"{when} {low} is at {min(shares):.6g} of its peak lr and {high} at {max(shares):.6g}: "
            "the ratios between groups bend, as under an absolute floor (min_lr, eta_min); give "
            "the floor as a share of each group's peak",
        )
    if max(shares) > 1 + rounding:
        what = f"{when} lr is {max(shares):.6g} times the peak of its group"
        return Difference("schedule", names, f"{what}; the recipe's lr is the highest of the run")
    return None


def later_differences(
    cells: Sequence[Cell],
    peaks: Sequence[float],
    first: Sequence[Settings],
    optimizer: torch.optim.Optimizer,
    scheduler: Stepped,
    steps: int,
    known: Sequence[Difference],
) -> list[Difference]:
    """Differences that appear only after scheduler steps, each where it first appears."""
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
    """Differences in weight decay, eps and betas.

    Args:
        when: the time of the comparison, as it begins a sentence.
    """
    return [
        difference
        for cell in cells
        for check in (decay_differences, adam_differences)
        for difference in check(cell, held[cell.group], when)
    ]


def decay_differences(cell: Cell, held: Settings, when: str) -> Iterator[Difference]:
    """A weight decay of another value, in the other convention, or added to the gradient."""
    wanted, found, lr = cell.wanted.weight_decay, held.weight_decay, cell.wanted.lr
    if wanted is None:
        return
    if found is None or not close(found, wanted):
        what = f"{when}weight_decay of {cell} is {shown(found)}, the recipe says {wanted:.6g}"
        name: DifferenceName = "decay_convention"
        if found and wanted and close(found, wanted * lr):
            what += (
                f" where weight decay is multiplied by lr, as torch does; {found:.6g} is the "
                "number of the independent convention, which is not"
            )
        elif found and wanted and close(found, wanted / lr):
            what += "; it was divided by lr though it is in torch's convention already"
        else:
            name = "weight_decay"
        yield Difference(name, cell.names, what)
    elif wanted and held.l2:
        yield Difference(
            "decay_convention",
            cell.names,
            f"{when}weight_decay of {cell} is added to the gradient by this optimizer, the "
            "recipe's is decoupled (w -= lr * weight_decay * w); use torch.optim.AdamW or similar",
        )


def adam_differences(cell: Cell, held: Settings, when: str) -> Iterator[Difference]:
    """An eps or betas of other values, or missing."""
    eps, betas = cell.wanted.eps, cell.wanted.betas
    if eps is not None and (held.eps is None or not close(held.eps, eps)):
        what = f"{when}eps of {cell} is {shown(held.eps)}, the recipe says {eps:.6g}"
        yield Difference("eps", cell.names, what)
    # the effect of a beta depends on its distance from 1
    distances = zip(held.betas or (), betas or (), strict=False)
    if betas is not None and not (held.betas and all(close(1 - f, 1 - w) for f, w in distances)):
        found = list(held.betas) if held.betas else "missing"
        what = f"{when}betas of {cell} are {found}, the recipe says {list(betas)}"
        yield Difference("betas", cell.names, what)
