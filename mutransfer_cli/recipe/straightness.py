"""How much is known of whether the law is straight where too few widths were swept to test it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.forms import MIN_WIDTHS_OF_FORMS
from mutransfer_cli.fit.optimum import EXACT

ORDINALS = {4: "fourth", 5: "fifth"}
NORMAL = 1.96  # standard errors in the half-width of an optimum's interval
# Standard errors of a bend that five widths show (`Forms.bends`) in four of five sweeps; 4.30 are t
# at 95% with their two degrees of freedom. The test simulates it.
SHOWN = 5.8


def is_assumed(axis: Axis, width: int) -> bool:
    """Whether a forecast rests on a line that no form was held against.

    Between the smallest and the largest usable width nothing is extrapolated: False.
    """
    return axis.forms is None and not min(axis.usable) <= width <= max(axis.usable)


@dataclass(frozen=True)
class Reach:
    """A bend that further widths, up to five, would just show."""

    widths: tuple[int, ...]
    """The further widths."""
    octaves: float
    """Bends that move the optimum at the target by more than that from the present line would be
    seen in four of five sweeps, were there no scatter about the bend."""
    scattered: float
    """The same with the scatter that the line shows, of which the bend itself may be part."""


def reach_of(axis: Axis, width: int) -> Reach | None:
    """How far at a width a bend moves the optimum that further widths would just show.

    The further widths continue the spacing of the two largest, and are measured as well as the
    present ones are on average. None where there are five widths or more, or where the further ones
    would reach the target.
    """
    usable = axis.usable
    *_, before, largest = usable
    missing = range(1, MIN_WIDTHS_OF_FORMS - len(usable) + 1)
    further = tuple(round(largest * (largest / before) ** i) for i in missing)
    if not further or min(usable) <= width <= further[-1]:
        return None
    assert axis.line is not None, "callers refuse an axis without a line"
    errors = [(at.octaves[2] - at.octaves[0]) / 2 / NORMAL for at in usable.values()]
    measured = [error**2 + EXACT for error in errors]
    measured += [sum(measured) / len(measured)] * len(further)
    x = [math.log2(w / largest) for w in (*usable, *further)]
    target = math.log2(width / largest)
    octaves, scattered = (
        _shown([*zip(x, variances, strict=True)], len(usable), target)
        for variances in (measured, [v + axis.line.scatter**2 for v in measured])
    )
    return Reach(further, octaves, scattered)


def _shown(points: Sequence[tuple[float, float]], present: int, target: float) -> float:
    """Octaves between the line through the first points and a bend that all of them just show.

    A bend is as many standard errors as x^2, x = log2 width, leaves residuals about a line through
    all points; at the target it leaves x^2 less the line through x^2 at the present ones.

    Args:
        points: x and variance of optima.
    """
    information = sum(_above_line(points, x) ** 2 / variance for x, variance in points)
    return SHOWN * abs(_above_line(points[:present], target)) / math.sqrt(information)


def _above_line(points: Sequence[tuple[float, float]], x: float) -> float:
    """x^2 less the weighted line through the squares at points of (x, variance)."""
    total = sum(1 / v for _, v in points)
    mean = sum(p / v for p, v in points) / total
    level = sum(p**2 / v for p, v in points) / total
    slope = sum((p - mean) * p**2 / v for p, v in points)
    slope /= sum((p - mean) ** 2 / v for p, v in points)
    return x**2 - level - slope * (x - mean)


def straightness_warning(name: str, axis: Axis, width: int) -> str | None:
    """Say that a forecast assumes a straight line, and what further widths would tell."""
    if not is_assumed(axis, width):
        return None
    count = len(axis.usable)
    assumed = f"the forecast of {name} at width {width} assumes a straight line"
    if count >= MIN_WIDTHS_OF_FORMS:
        return f"{assumed}: no other form was fitted beside it"
    assumed += f", which {count} widths cannot test"
    reach = reach_of(axis, width)
    if reach is None:
        return f"{assumed}: sweep {MIN_WIDTHS_OF_FORMS} widths"
    named = " and ".join(
        f"a {ORDINALS[count + 1 + i]} width of {further}" for i, further in enumerate(reach.widths)
    )
    octaves, scattered = f"{reach.octaves:.2g} octaves", f"{reach.scattered:.2g} octaves"
    if scattered != octaves:
        octaves += f" ({scattered} if the optima scatter as they seem to)"
    return (
        f"{assumed}: {named} would show, in four of five sweeps, a bend that moves the optimum at "
        f"width {width} by more than {octaves}; a smaller one would often stay unseen"
    )
