"""Compare the learning rates of an optimizer and its schedule with a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from mutransfer_cli.recipe.difference import Cell, Difference
from mutransfer_cli.recipe.replan import close
from mutransfer_cli.recipe.scheduler import Settings
from mutransfer_cli.recipe.types import Recipe

HINT = 1e-2  # tolerance within which a wrong rate is taken for a known mistake
FAR = 10_000  # scheduler steps after which a rate that is still 0 is taken to stay so
OWN_RATES = "use recipe.param_groups(model) and a schedule that multiplies each group's own lr"

Later = Callable[[Sequence[Settings], str], list[Difference]]


def rate(held: Sequence[Settings], cell: Cell) -> float:
    """The rate of a cell whose group has one."""
    found = held[cell.group].lr
    assert found is not None, "cells without a rate are reported before"
    return found


def rateless(cells: Sequence[Cell], held: Sequence[Settings]) -> Iterator[Difference]:
    """Cells whose group has no rate, as under Adafactor's relative step."""
    for cell in cells:
        if held[cell.group].lr is None:
            what = f"lr of {cell} is missing, so that the optimizer chooses its own"
            says = f"the recipe says {cell.wanted.lr:.6g}; {OWN_RATES}"
            yield Difference("lr", cell.names, f"{what}; {says}")


def peaks_of(cells: Sequence[Cell], held: Sequence[Settings], scheduled: bool) -> list[float]:
    """The rate of every cell that its schedule multiplies.

    If groups hold no peak and there is a schedule, rates that are all the same share of the
    recipe's, at most 1, are taken for its warm-up.
    """
    wanted = [cell.wanted.lr for cell in cells]
    if scheduled and all(held[cell.group].peak is None for cell in cells):
        shares = [rate(held, cell) / cell.wanted.lr for cell in cells]
        if shares and max(shares) - min(shares) <= 1e-6 and max(shares) <= 1:
            return wanted
    known = ((held[cell.group].peak, rate(held, cell)) for cell in cells)
    return [now if peak is None else peak for peak, now in known]


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
    rates = [rate(held, cell) for cell in cells]
    rounding = max(held[cell.group].rounding for cell in cells)
    shares = [now / peak if peak else 0.0 for now, peak in zip(rates, peaks, strict=True)]
    names = tuple(name for cell in cells for name in cell.names)
    if max(shares) - min(shares) > rounding:
        if all(close(now, rates[0], rounding) for now in rates):
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
    ahead: Iterator[list[Settings]],
    steps: int,
    known: Sequence[Difference],
    others: Later,
) -> list[Difference]:
    """Differences that appear only after scheduler steps, each where it first appears.

    Args:
        ahead: settings after each step, of more steps than `steps`: all are looked at until one
            rate is above 0.
        others: compares the other settings.
    """
    seen = {(difference.name, difference.parameters) for difference in known}
    bent = any(difference.name == "schedule" for difference in known)
    found: list[Difference] = []
    trains = any(rate(first, cell) for cell in cells)
    for step, later in enumerate(ahead, start=1):
        when = f"after {step} scheduler step{'s' if step > 1 else ''}"
        rates = None if bent else schedule_difference(cells, peaks, later, when)
        changed = [] if later == first else others(later, when + " ")
        for difference in ([rates] if rates else []) + changed:
            if (difference.name, difference.parameters) not in seen:
                seen.add((difference.name, difference.parameters))
                found.append(difference)
        bent = bent or rates is not None
        trains = trains or any(rate(later, cell) for cell in cells)
        if step >= steps and trains:
            return found
    if not trains:
        names = tuple(name for cell in cells for name in cell.names)
        what = f"every lr is 0 now and in the next {FAR} scheduler steps, so that nothing trains"
        found.append(Difference("schedule", names, f"{what}; {OWN_RATES}"))
    return found


def changes_a_rate(
    cells: Sequence[Cell], first: Sequence[Settings], ahead: Iterator[list[Settings]]
) -> bool:
    """Whether the scheduler changes a rate in its next steps."""
    return any(
        rate(later, cell) != rate(first, cell) for later in islice(ahead, FAR) for cell in cells
    )
