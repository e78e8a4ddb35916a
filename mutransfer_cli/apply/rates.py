"""Learning rates of groups against those of a recipe: peaks, and what a schedule makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from mutransfer_cli.apply.cells import Cell, Difference, close
from mutransfer_cli.apply.schedule import Settings
from mutransfer_cli.files.recipe import Recipe

HINT = 1e-2  # within which a wrong rate is taken for a known mistake


def peaks_of(cells: Sequence[Cell], held: Sequence[Settings], scheduled: bool) -> list[float]:
    """The rate of every cell that its schedule multiplies.

    Where groups do not say it and there is a schedule, rates that are all the same share of the
    recipe's, 1 at most, are taken for its warm-up.
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
    wrong = [
        (cell, peak)
        for cell, peak in zip(cells, peaks, strict=True)
        if not close(peak, cell.wanted.lr)
    ]
    if not wrong:
        return None
    names = tuple(name for cell, _ in wrong for name in cell.names)
    what = "; ".join(
        f"lr of {cell} is {peak:.6g}, the recipe says {cell.wanted.lr:.6g}" for cell, peak in wrong
    )
    if all(close(peak, peaks[0]) for peak in peaks) and by_role(cells):
        return Difference("one_rate", names, f"one lr for all groups: {what}; {OWN_RATES}")
    if scaled_twice(recipe, cells, peaks):
        return Difference(
            "scaled_twice",
            names,
            f"rates are scaled with width twice, by the recipe and again: {what}; the recipe's are "
            "absolute, so switch muP off in the trainer or the model",
        )
    factors = [peak / cell.wanted.lr for cell, peak in zip(cells, peaks, strict=True)]
    if all(close(factor, factors[0]) for factor in factors):
        what = f"every lr is {factors[0]:.6g} times the recipe's: {what}"
    return Difference("lr", names, what)


OWN_RATES = "use recipe.param_groups(model) and a schedule that multiplies each group's own lr"


def by_role(cells: Sequence[Cell]) -> bool:
    """Whether the recipe has more rates than one here."""
    return any(not close(cell.wanted.lr, cells[0].wanted.lr) for cell in cells)


def scaled_twice(recipe: Recipe, cells: Sequence[Cell], peaks: Sequence[float]) -> bool:
    """Every wrong rate has its role's power of width once more, or all ratios are squares."""
    pairs = list(zip(cells, peaks, strict=True))
    wrong = [(cell, peak) for cell, peak in pairs if not close(peak, cell.wanted.lr)]
    factors = [width_factor(recipe, cell) for cell, _ in wrong]
    if all(
        close(peak / cell.wanted.lr, factor, HINT) and not close(factor, 1, HINT)
        for (cell, peak), factor in zip(wrong, factors, strict=True)
    ):
        return True
    squares = [peak / cell.wanted.lr**2 for cell, peak in pairs]
    return by_role(cells) and all(close(square, squares[0], HINT) for square in squares)


def width_factor(recipe: Recipe, cell: Cell) -> float:
    """What the rule's power of width made of the base rate."""
    tuned = next((q.value for role, q in recipe.lr_mult.items() if role == cell.wanted.role), 1.0)
    return cell.wanted.lr / (recipe.base_lr.value * tuned)


def schedule_difference(
    cells: Sequence[Cell], peaks: Sequence[float], held: Sequence[Settings], when: str
) -> Difference | None:
    """Whether the rates are one share of all peaks, and not above them."""
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
