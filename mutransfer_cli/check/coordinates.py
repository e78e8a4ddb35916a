"""Gate `coordinates`: whether a few steps of training move every layer equally at all widths.

Stable features that move require slopes of 0 in width (Everett et al. 2024, arXiv 2407.05872): the
outputs of the embedding and of hidden layers have size 1, and so have their changes, the changes of
the logits, and both ways in which a hidden matrix changes its output (Haas et al. 2025, arXiv
2505.22491). Logits at init scale as the rule says. Attention scores scale so that trained ones,
whose queries align with keys, do not grow with the head size. The effect of changed features on the
logits through the readout of init is reported and not judged: it scales as n^(omega - 1/2) under
standard and as n^(omega - 1) under mup, with an omega from 1/2 to 1, and so do trained logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mutransfer_cli.check.measure import Gate, Measure, gate, measure, runs_to_decide, unmeasured
from mutransfer_cli.fit.arrays import t_quantile
from mutransfer_cli.words import digits, signed

# finite width alone tilts correct models of widths 64 to 512 by up to 0.2, faults do from 0.34 on
TOLERANCE = 0.25
OF_LOGITS = 1.2  # times that
FEWEST_WIDTHS, FEWEST_SEEDS = 4, 3
JUDGED = {
    "init": ("embedding", "hidden", "readout", "scores"),
    "activation": ("embedding", "hidden"),
    "change": ("embedding", "hidden", "readout"),
    "effective": ("embedding", "hidden", "readout"),
    "propagated": ("hidden",),
}
IN_WORDS = {
    "init": "activation at init of",
    "activation": "activation of",
    "change": "change of",
    "effective": "effective update of",
    "propagated": "propagated update of",
}
HARNESS = "negative control"


def width_slopes(values: pd.DataFrame) -> pd.Series[float]:
    """Slope of log(value) over log(width), for each name and seed.

    Args:
        values: one row per name, seed and width, with a value above 0.

    Raises:
        ValueError: a name with one width only.
    """
    logs = values.assign(width=np.log(values["width"]), value=np.log(values["value"]))
    found = {}
    for key, one in logs.groupby(["name", "seed"]):
        if one["width"].nunique() < 2:
            raise ValueError(f"{key[0]}: was measured at one width only; two are needed")
        found[key] = float(stats.linregress(one["width"], one["value"]).slope)
    index = pd.MultiIndex.from_tuples(found, names=["name", "seed"])
    return pd.Series(list(found.values()), index=index, dtype=float)


def t_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """Mean of two values or more, and the half-width of its interval at LEVEL, by Student's t."""
    drawn = np.asarray(values, dtype=float)
    half = t_quantile(len(drawn) - 1) * stats.sem(drawn)
    return float(drawn.mean()), float(half)


@dataclass(frozen=True)
class Slopes:
    """Slopes in width of one quantity at one place, which several blocks may have."""

    quantity: str
    place: str
    """Name, with `*` for the number of a block."""
    kind: str
    expected: float
    """The slope that the rule gives."""
    by_seed: tuple[float, ...] = ()
    """Mean over blocks, one per seed; empty where there is no slope."""
    why_not: str = ""
    """A clause where there is no slope."""
    dead: bool = False
    """Whether everything is exactly 0."""
    allowed: float = TOLERANCE
    """Tolerance for all but logits."""

    @property
    def name(self) -> str:
        return f"{IN_WORDS[self.quantity]} {self.place}, slope in width"

    @property
    def tolerance(self) -> float:
        return self.allowed * (OF_LOGITS if self.kind == "readout" else 1)

    @property
    def judged(self) -> bool:
        return self.kind in JUDGED[self.quantity]

    @cached_property
    def measure(self) -> Measure:
        if not self.by_seed:
            return unmeasured(self.name, self.why_not, self.expected, self.tolerance)
        mean, half = t_interval(self.by_seed)
        times = runs_to_decide(half, abs(abs(mean - self.expected) - self.tolerance))
        deciding = "it is too near the edge of the tolerance for more seeds to decide it"
        if times is not None:
            deciding = f"{times} times the seeds would decide it, were the value exact"
        interval = (mean - half, mean + half)
        return measure(self.name, mean, interval, self.expected, self.tolerance, deciding=deciding)

    @property
    def fails(self) -> bool:
        return self.measure.verdict == "fail"

    @property
    def sentence(self) -> str:
        if self.why_not:
            return self.why_not
        mean, half = t_interval(self.by_seed)
        return f"{signed(mean)} ± {digits(half, 2)}"


def coordinates_gate(
    values: pd.DataFrame,
    control: pd.DataFrame,
    setting: Mapping[str, str] | None = None,
    flat_embedding: bool = True,
    tolerance: float = TOLERANCE,
) -> Gate:
    """Judge the slopes in width of a model, provided that those of the control are as known.

    Args:
        values: columns quantity (`init`, `activation`, `change`, `effective`, `propagated`), name,
            kind (`embedding`, `hidden`, `readout`, `scores`), expected (slope), width, seed,
            value: an RMS at init or after a few steps, inf where it was not finite, NaN where there
            is none.
        control: the same for a model whose hidden matrices move with width.
        setting: further conditions of the verdict, such as lr and steps, by name.
        flat_embedding: whether the control's embedding has to be flat; false for sgd, whose updates
            shrink with their gradients.
        tolerance: for slopes of the model except logits; the control has its own.
    """
    if few := too_few(values):
        return gate("coordinates", [unmeasured("slopes in width", few, 0.0, tolerance)])
    found = list(slopes_of(values, tolerance))
    measures = [one.measure for one in found if one.judged and not one.dead]
    findings = [
        f"{one.place}: its {one.quantity} is exactly 0 at every width; nothing trains it"
        for one in found
        if one.dead and one.quantity in ("change", "effective")
    ]
    broken, controls = of_control(control, flat_embedding)
    reported = {one.name: one.sentence for one in found if not one.judged and not one.dead}
    # a matrix that starts at 0, or whose input is the data
    zeros = {
        one.name: "left out: it is exactly 0 at every width"
        for one in found
        if one.dead and one.quantity in ("init", "activation", "propagated")
    }
    evidence = {
        "widths": ", ".join(map(str, sorted(values["width"].unique()))),
        "seeds": ", ".join(map(str, sorted(values["seed"].unique()))),
        **(setting or {}),
        **controls,
        **reported,
        **zeros,
    }
    return gate("coordinates", [*measures, *broken], findings, evidence)


def too_few(values: pd.DataFrame) -> str:
    """A clause where there are too few widths or seeds, otherwise empty."""
    widths, seeds = values["width"].nunique(), values["seed"].nunique()
    needed = f"it takes {FEWEST_WIDTHS} widths and {FEWEST_SEEDS} seeds"
    few = widths < FEWEST_WIDTHS or seeds < FEWEST_SEEDS
    return f"{needed}, there are {widths} and {seeds}" if few else ""


def slopes_of(values: pd.DataFrame, tolerance: float = TOLERANCE) -> Iterator[Slopes]:
    """Slopes of every quantity and place, in the order of the rows; then blocks that fail alone."""
    places = values["name"].map(in_any_block)
    alone = []
    for (quantity, place), rows in values.groupby(["quantity", places], sort=False):
        yield slopes_at(str(quantity), str(place), rows, tolerance)
        if rows["name"].nunique() > 1:
            for name, own in rows.groupby("name", sort=False):
                alone.append(slopes_at(str(quantity), str(name), own, tolerance))
    yield from (one for one in alone if one.by_seed and one.judged and one.fails)


def slopes_at(quantity: str, place: str, rows: pd.DataFrame, tolerance: float) -> Slopes:
    value, kind, expected = rows["value"], str(rows["kind"].iloc[0]), rows["expected"].iloc[0]
    found = Slopes(quantity, place, kind, float(expected), allowed=tolerance)
    if (value == 0).all():
        return replace(found, why_not="it is exactly 0 at every width", dead=True)
    if np.isinf(value).any():
        width = int(rows.loc[np.isinf(value), "width"].min())
        return replace(found, why_not=f"it is not finite at width {width}; take a smaller lr")
    if value.isna().any() or rows["name"].value_counts().nunique() > 1:
        return replace(found, why_not="the tokens that reach it change in training")
    if (value == 0).any():
        width = int(rows.loc[value == 0, "width"].min())
        return replace(found, why_not=f"it is exactly 0 at width {width} and not at all others")
    return replace(found, by_seed=tuple(width_slopes(rows).groupby("seed").mean()))


def in_any_block(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def of_control(control: pd.DataFrame, flat_embedding: bool) -> tuple[list[Measure], dict[str, str]]:
    """Check that the gate fails a wrong rule and passes an embedding, which no rule moves.

    Returns:
        An inconclusive measure where it does not, so that nothing passes, and sentences about the
        controls.
    """
    found = list(slopes_of(control))
    hidden = [one for one in found if one.quantity == "effective" and one.kind == "hidden"]
    caught = [one for one in hidden if one.by_seed and one.fails]
    embedding = [one for one in found if one.quantity == "change" and one.kind == "embedding"]
    tilted = [one for one in embedding if flat_embedding and one.measure.verdict != "pass"]
    reported = {f"control: {one.name}": one.sentence for one in (*hidden, *embedding)}
    why = []
    if not caught:
        why.append("the control, whose rates scale with width in a wrong way, does not fail")
    if tilted:
        why.append(f"there the {tilted[0].name} is {tilted[0].sentence}, and has to be flat")
    if not why:
        return [], reported
    broken = f"the harness itself is broken: {'; '.join(why)}"
    return [unmeasured(HARNESS, broken, 0.0, TOLERANCE)], reported
