"""Compare an optimizer and its schedule with a recipe, and name the mistake that explains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.conditions import Stated, clip_differences, scale_difference
from mutransfer_cli.recipe.difference import Cell, Difference, DifferenceName
from mutransfer_cli.recipe.optimizer_class import (
    Grouped,
    Held,
    held_groups,
    layers,
    other_settings,
    package,
)
from mutransfer_cli.recipe.patterns import Targets, listed, settings_of
from mutransfer_cli.recipe.rates import (
    FAR,
    changes_a_rate,
    later_differences,
    peak_difference,
    peaks_of,
    rate,
    rateless,
    schedule_difference,
)
from mutransfer_cli.recipe.replan import close, shown
from mutransfer_cli.recipe.scheduler import (
    Reach,
    Settings,
    Stepped,
    reach_of,
    settings,
    settings_ahead,
)
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import PlannedParameter

AGAIN = "make the scheduler anew, after the optimizer has its groups, wrappers and loaded state"
SAME_UPDATE = "torch.optim.AdamW (fused, 8-bit, paged, DeepSpeed's and apex's are the same update)"


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
class Run:
    """An optimizer and its schedule, beside the recipe for them."""

    recipe: Recipe
    optimizer: Grouped
    held: tuple[Held, ...]
    scheduler: Stepped | None
    reach: Reach
    stated: Stated

    def update(self, cell: Cell) -> str | None:
        """Name of the update that a cell gets; None if nobody knows it."""
        return self.held[cell.group].update or self.stated.optimizer_class

    def is_other(self, cell: Cell) -> bool:
        """Whether the cell's update is known to be another than the recipe's."""
        wanted, found = cell.wanted.optimizer, self.update(cell)
        return wanted is not None and found is not None and _kind(found) != _kind(wanted)

    def settings(self) -> list[Settings]:
        """The settings of every group now."""
        return settings(self.held, self.reach.peaks)

    def ahead(self, steps: int) -> Iterator[list[Settings]]:
        """The settings after each scheduler step."""
        assert self.scheduler is not None
        return settings_ahead(self.held, self.optimizer, self.scheduler, self.reach, steps)


def verification(
    recipe: Recipe,
    targets: Targets,
    model: nn.Module,
    optimizer: Grouped,
    scheduler: Stepped | None,
    steps: int,
    stated: Stated,
) -> Verification:
    """Compare the parameters in `targets` only; other arguments as in `LoadedRecipe.verify`."""
    run = Run(
        recipe, optimizer, tuple(held_groups(optimizer)), scheduler, reach_of(scheduler), stated
    )
    known = frozenset(id(parameter) for parameter in model.parameters())
    cells, found = membership(targets, run.held, known)
    first = run.settings()
    found += [*optimizer_differences(run, cells), *rateless(cells, first)]
    paced = [cell for cell in cells if first[cell.group].lr is not None]
    peaks = peaks_of(paced, first, scheduled=scheduler is not None)
    rates = [peak_difference(recipe, paced, peaks), schedule_difference(paced, peaks, first, "now")]
    found += [difference for difference in rates if difference is not None]
    found += setting_differences(run, cells, first, "")
    if scheduler is not None and paced:
        found += schedule_ahead(run, paced, peaks, first, steps, found)
    muon = [cell for cell in cells if run.update(cell) == "muon"]
    by_deepspeed = any(package(layer) == "deepspeed" for layer in layers(optimizer))
    found += clip_differences(recipe, cells, muon, stated.max_norm, by_deepspeed)
    found += scale_difference(recipe, cells, stated.attention_scale)
    return Verification(tuple(found))


def membership(
    targets: Targets, held: Sequence[Held], known: frozenset[int]
) -> tuple[list[Cell], list[Difference]]:
    """Sort the targets by role, values and group of the optimizer.

    Args:
        known: ids of all parameters of the model.
    """
    places: dict[int, list[int]] = {}
    for index, each in enumerate(held):
        for parameter in each.group["params"]:
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


def _kind(update: str) -> str:
    """Adam is AdamW without weight decay, whose value and convention are compared by themselves."""
    return "adam" if update == "adamw" else update


def optimizer_differences(run: Run, cells: Sequence[Cell]) -> Iterator[Difference]:
    """Cells that another optimizer updates than the recipe's, or one that nobody knows."""
    alike: dict[tuple[str, str, str | None], list[Cell]] = {}
    for cell in cells:
        wanted, held, found = cell.wanted.optimizer, run.held[cell.group], run.update(cell)
        if wanted is None:
            continue
        if found is None or run.is_other(cell):
            alike.setdefault((wanted, held.class_name, found), []).append(cell)
            continue
        for what in other_settings(held, found, run.recipe.optimizer or {}):
            yield Difference("optimizer", cell.names, f"{cell}: {what}")
    for (wanted, class_name, found), of_class in alike.items():
        where = ", ".join(map(str, of_class))
        use = SAME_UPDATE if _kind(wanted) == "adam" else wanted
        if found is None:
            what = (
                f"{class_name} updates {where}, and is not known to be {wanted}: any other update "
                f"has another best lr, which moves otherwise with width; use {use}, or say "
                f"optimizer_class={wanted!r} if it is that update"
            )
        else:
            what = (
                f"{found} ({class_name}) updates {where}, the recipe is for {wanted}: the same lr "
                "makes steps of another size, and the best lr moves otherwise with width; use "
                f"{use}, or fit a recipe for {found}"
            )
        yield Difference("optimizer", tuple(n for cell in of_class for n in cell.names), what)


def schedule_ahead(
    run: Run,
    cells: Sequence[Cell],
    peaks: Sequence[float],
    first: Sequence[Settings],
    steps: int,
    known: Sequence[Difference],
) -> list[Difference]:
    """Differences that the scheduler makes in its next steps, or cells that it does not reach."""
    loose = undriven(run, cells, first)
    if loose is not None:
        return [loose]

    def others(later: Sequence[Settings], when: str) -> list[Difference]:
        return setting_differences(run, cells, later, when)

    trains = any(rate(first, cell) for cell in cells)
    ahead = run.ahead(steps if trains else max(steps, FAR))
    return later_differences(cells, peaks, first, ahead, steps, known, others)


def undriven(run: Run, cells: Sequence[Cell], first: Sequence[Settings]) -> Difference | None:
    """Cells whose rate the scheduler cannot change, as it does not hold their groups."""
    name = type(run.scheduler).__name__
    ids = [id(run.held[cell.group].group) for cell in cells]
    reached = run.reach.group_ids
    own = [cell for cell, group in zip(cells, ids, strict=True) if group in reached]
    if reached and not own:
        what = f"{name} changes no lr here: it holds another optimizer, or groups that this one "
        what += f"replaced (as load_state_dict and wrappers do), so that lr stays as it is; {AGAIN}"
        return _scheduler_difference(cells, what)
    if reached and len(own) < len(cells):
        rest = [cell for cell in cells if cell not in own]
        what = f"{name} does not hold the groups of {', '.join(map(str, rest))}, whose lr stays as "
        return _scheduler_difference(
            rest, what + f"it is while that of the others changes; {AGAIN}"
        )
    late = [cell for cell, group in zip(cells, ids, strict=True) if group in run.reach.late_ids]
    if late and _stay_behind(run, late, cells, first):
        what = f"{name} was made before the group of {', '.join(map(str, late))} was added: it "
        what += f"stops at its next step, or leaves the lr of that group as it is; {AGAIN}"
        return _scheduler_difference(late, what)
    is_certain = reached and not run.reach.groups
    if not is_certain and not changes_a_rate(cells, first, run.ahead(FAR)):
        what = f"{name} changed no lr in its first {FAR} steps and holds no group of this optimizer"
        return _scheduler_difference(cells, f"{what}; {AGAIN}")
    return None


def _scheduler_difference(cells: Sequence[Cell], sentence: str) -> Difference:
    return Difference("scheduler", tuple(n for cell in cells for n in cell.names), sentence)


def _stay_behind(
    run: Run, late: Sequence[Cell], cells: Sequence[Cell], first: Sequence[Settings]
) -> bool:
    """Whether the scheduler cannot be stepped, or moves all cells but the late ones."""
    try:
        (after,) = run.ahead(1)
    except InputError:
        return True
    moved = [cell for cell in cells if rate(after, cell) != rate(first, cell)]
    return bool(moved) and not any(cell in moved for cell in late)


def setting_differences(
    run: Run, cells: Sequence[Cell], held: Sequence[Settings], when: str
) -> list[Difference]:
    """Differences in weight decay, eps and betas.

    Args:
        when: the time of the comparison, as it begins a sentence.
    """
    found: list[Difference] = []
    for cell in cells:
        is_other = run.is_other(cell)
        found += decay_differences(cell, held[cell.group], when, is_other)
        # another optimizer has others, which is said already
        found += [] if is_other else momentum_differences(cell, held[cell.group], when)
    return found


def decay_differences(
    cell: Cell, held: Settings, when: str, is_other: bool
) -> Iterator[Difference]:
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
    elif wanted and held.adds_decay_to_gradient and not is_other:
        yield Difference(
            "decay_convention",
            cell.names,
            f"{when}weight_decay of {cell} is added to the gradient by this optimizer, the "
            "recipe's is decoupled (w -= lr * weight_decay * w); use one that decouples it, as "
            "torch.optim.AdamW does",
        )


def momentum_differences(cell: Cell, held: Settings, when: str) -> Iterator[Difference]:
    """An eps or betas of other values, or missing, and momentum that a schedule changes."""
    eps, betas = cell.wanted.eps, cell.wanted.betas
    if eps is not None and (not isinstance(held.eps, float) or not close(held.eps, eps)):
        found = list(held.eps) if isinstance(held.eps, tuple) else shown(held.eps)
        what = f"{when}eps of {cell} is {found}, the recipe says {eps:.6g}"
        yield Difference("eps", cell.names, what)
    if held.cycled is not None:
        low, high = held.cycled
        what = f"the schedule moves momentum (beta1) of {cell} between {low:g} and {high:g}, in "
        what += "the recipe's runs it was constant; give the scheduler cycle_momentum=False"
        yield Difference("betas", cell.names, what)
    elif betas is not None:
        # the effect of a beta depends on its distance from 1
        pairs = list(zip(held.betas or (), betas, strict=False))
        same = held.betas is not None and len(held.betas) == len(betas)
        if not same or not all(close(1 - found, 1 - wanted) for found, wanted in pairs):
            shown_betas = list(held.betas) if held.betas else "missing"
            what = f"{when}betas of {cell} are {shown_betas}, the recipe says {list(betas)}"
            yield Difference("betas", cell.names, what)
