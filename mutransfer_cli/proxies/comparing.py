"""A model's passes at two widths, compared: powers of width that its own code puts on activations.

The model is run at two widths with weights of period two along every axis that grows, divided by
the size of the axes that products sum over. Every activation then has the same size at both widths,
unless the model's own code multiplies it by a factor that depends on width. Where one deviates,
the factor belongs to the matrix that made it or reads it, and the activation is corrected, so that
each stretch of the model is compared on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from mutransfer_cli.proxies.batch import leaves
from mutransfer_cli.proxies.example import Example, call_of
from mutransfer_cli.proxies.observations import Correct, Maker, Place, Trace, of_table
from mutransfer_cli.proxies.operations import Axes
from mutransfer_cli.proxies.patterns import Patterns
from mutransfer_cli.proxies.reading import shapes_of
from mutransfer_cli.proxies.tracing import Watcher

CLOSE = 0.2  # exponents of width below it are rounding of sizes
NOISE = 1e-6  # of the largest activation: rounding of a sum that is zero
MOST = 2  # exponents beyond it are no factor that a model has
QUARTER = 0.06  # an exponent this near to a multiple of 1/4 is that multiple

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Deviation:
    """An activation whose size depends on width although that of the weights does not.

    Attributes:
        place: where it was seen, at the base width.
        exponent: power of width by which it differs.
        lines: multiplications by numbers that differ, as in `model.py:12 by 8 and by 11.3`.
    """

    place: Place
    exponent: float
    lines: tuple[str, ...]

    @property
    def owners(self) -> frozenset[Maker]:
        """The matrices on whose product the factor lies; empty if they cannot be told."""
        place = self.place
        if any(not name for name, _ in place.makers):
            return frozenset()
        if place.reader and not of_table(place.makers):
            return frozenset((name, "product") for name in place.reader)
        return place.makers if len(place.makers) == 1 else frozenset()

    @property
    def power(self) -> float | None:
        """The exponent as a multiple of 1/4; None if it is none."""
        nearest = round(4 * self.exponent) / 4
        is_power = abs(nearest - self.exponent) <= QUARTER and abs(nearest) <= MOST
        return nearest if is_power else None


class UnlikeWidths(Exception):
    """The passes of two widths hold different places."""


@dataclass(frozen=True)
class Comparison:
    """The passes of two widths, compared place by place.

    Attributes:
        factors: exponent of width on the product or the rows of a matrix, by matrix and use.
        attention: exponents of width in the size of q.k times its scale, with their lines.
        unresolved: deviations that belong to no single matrix, or are no power of the width.
        lines: the multiplications behind each factor.
        normalised: matrices whose size their own code sets, so that no multiplier acts on them.
    """

    factors: Mapping[Maker, float]
    attention: Mapping[float, str]
    unresolved: tuple[Deviation, ...]
    lines: Mapping[Maker, tuple[str, ...]]
    normalised: frozenset[str] = frozenset()

    @property
    def deviates(self) -> bool:
        """Whether anything depends on width that should not."""
        return bool(self.factors or self.attention or self.unresolved)


@dataclass(frozen=True)
class Watch:
    """A model at the base width and a wider one, both with values, and how they are called.

    Attributes:
        patterns: values with which both compute the same.
        trace: of the base model with its own values.
    """

    base: nn.Module
    wide: nn.Module
    example: Example
    patterns: Patterns
    trace: Trace

    @classmethod
    def of(cls, base: nn.Module, wide: nn.Module, example: Example) -> Watch:
        """Watch the base model once."""
        shapes, wide_shapes = shapes_of(base), shapes_of(wide)
        growing = {
            name: tuple(axis for axis, size in enumerate(shape) if size != wide_shapes[name][axis])
            for name, shape in shapes.items()
        }
        own = dict(base.named_parameters())
        trace = traced(base, own, growing, example)
        patterns = Patterns(growing, trace.uses, own, dict(base.named_buffers()))
        return cls(base, wide, example, patterns, trace)

    def compared(self, growth: float) -> Comparison:
        """Compare the two, of which one is `growth` times as wide, with values of period two.

        Raises:
            UnlikeWidths: they take different ways through their code.
        """
        buffers = growing_buffers(self.base, self.wide)
        at_base, at_wide = (self._values(model, buffers) for model in (self.base, self.wide))
        first = self._traced(self.base, at_base)
        comparing = Comparing(self, first, growth, self._normalised(first, at_base))
        other = self._traced(self.wide, at_wide, comparing.correct)
        return comparing.comparison(other)

    def _values(self, model: nn.Module, buffers: Mapping[str, Axes]) -> Values:
        """Values of period two for a model's parameters, and for its buffers that grow."""
        sizes = {name: tuple(buffer.shape) for name, buffer in model.named_buffers()}
        return self.patterns.values(shapes_of(model)) | self.patterns.buffers(buffers, sizes)

    def _traced(
        self,
        model: nn.Module,
        values: Values,
        correct: Correct = lambda index, place: 1.0,
    ) -> Trace:
        return traced(model, values, self.patterns.growing, self.example, correct)

    def _normalised(self, first: Trace, values: Values) -> frozenset[int]:
        """Places of weights that are the same for matrices twice as large."""
        if all(place.kind != "weight" for place in first.places):
            return frozenset()
        is_matrix = self.patterns.is_multiplied
        twice = {name: 2 * x if is_matrix(name) else x for name, x in values.items()}
        pairs = zip(first.places, self._traced(self.base, twice).places, strict=True)
        return frozenset(
            index
            for index, (one, two) in enumerate(pairs)
            if one.kind == "weight" and two.size < math.sqrt(2) * one.size
        )


def traced(
    model: nn.Module,
    values: Mapping[str, Tensor],
    growing: Mapping[str, Axes],
    example: Example,
    correct: Correct = lambda index, place: 1.0,
) -> Trace:
    """Run a model with given values on an example, to its loss, and watch it.

    Args:
        values: every parameter under one of its names, and buffers in place of the model's own.
    """
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    buffers |= {name: value for name, value in values.items() if name in buffers}
    values = {name: values[name].detach().clone().requires_grad_() for name in parameters}
    every = by_all_names(model, values) | buffers
    batch = example.noisy(model)
    inputs = [tensor for _, tensor in leaves(batch)]
    watcher = Watcher(values, growing, inputs, correct)
    with watcher:
        loss = call_of(model, example).loss(model, every, batch)
    return watcher.finish(loss)


def growing_buffers(base: nn.Module, wide: nn.Module) -> dict[str, Axes]:
    """Axes that grow with width of the buffers of numbers that have such axes."""
    others = dict(wide.named_buffers())
    found: dict[str, Axes] = {}
    for name, buffer in base.named_buffers():
        other = others.get(name)
        if other is not None and buffer.is_floating_point() and buffer.dim() == other.dim():
            pairs = zip(buffer.shape, other.shape, strict=True)
            axes = tuple(axis for axis, (one, two) in enumerate(pairs) if one != two)
            found |= {name: axes} if axes else {}
    return found


def by_all_names(model: nn.Module, values: Mapping[str, Tensor]) -> Values:
    """Values of tied parameters under each of their names."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    named = model.named_parameters(remove_duplicate=False)
    return {name: values[first[id(parameter)]] for name, parameter in named}


class Comparing:
    """Compares the places of a wider model with those of the base width while it runs.

    Args:
        first: trace of the base model with values of period two.
        growth: width of the wider model over that of the base model.
        normalised: places of weights whose size their own code sets, whatever the matrix.
    """

    def __init__(
        self, watch: Watch, first: Trace, growth: float, normalised: frozenset[int]
    ) -> None:
        self.watch, self.first, self.growth, self.normalised = watch, first, growth, normalised
        self.noise = NOISE * max((place.size for place in first.places), default=0.0)
        self.shapes, self.wide_shapes = shapes_of(watch.base), shapes_of(watch.wide)
        self.found: list[tuple[int, float]] = []

    def correct(self, index: int, place: Place) -> float:
        """The factor that gives an activation or a weight the size that it should have."""
        like = self.first.places[index] if index < len(self.first.places) else None
        if like is None or identity(like) != identity(place):
            raise UnlikeWidths
        if min(like.size, place.size) <= self.noise or not math.isfinite(place.size):
            return 1.0
        expected = self._expected(place)
        if place.kind == "weight":  # only one whose size its code sets is not as its matrix
            wanted = like.size * self.growth**expected
            return wanted / place.size if index in self.normalised else 1.0
        exponent = math.log(place.size / like.size, self.growth) - expected
        if abs(exponent) > CLOSE:
            self.found.append((index, exponent))
        return like.size / place.size if expected or abs(exponent) > CLOSE else 1.0

    def _expected(self, place: Place) -> float:
        """The exponent of width of a weight divided by sizes, or of the product of a tied one."""
        patterns = self.watch.patterns
        if place.kind != "weight":
            return float(any(use == "product" and patterns.is_tied(n) for n, use in place.makers))
        return min(
            math.log(
                patterns.divisor(name, self.shapes[name])
                / patterns.divisor(name, self.wide_shapes[name]),
                self.growth,
            )
            for name in place.reader
        )

    def comparison(self, other: Trace) -> Comparison:
        """The result, given the trace of the wider model.

        Raises:
            UnlikeWidths: it has fewer places.
        """
        if len(other.places) != len(self.first.places):
            raise UnlikeWidths
        lines, deviations = scalings(self.first, other), []
        for index, exponent in self.found:
            before = tuple(line for place, line in lines if place <= index)
            lines = [(place, line) for place, line in lines if place > index]
            deviations.append(Deviation(self.first.places[index], exponent, before))
        places = (self.first.places[index] for index in self.normalised)
        names = frozenset(name for place in places for name in place.reader)
        return replace(resolved(deviations), normalised=names)


def identity(place: Place) -> tuple[str, frozenset[Maker], frozenset[str]]:
    return place.kind, place.makers, place.reader


def confirmed(code: Comparison, other: Comparison) -> Comparison:
    """The part of a comparison that one with a third width shows too, which rounding does not."""
    owners = {maker for maker, power in code.factors.items() if other.factors.get(maker) == power}
    seen = [(deviation.place, deviation.exponent) for deviation in other.unresolved]
    unresolved = tuple(
        deviation
        for deviation in code.unresolved
        if any(
            identity(deviation.place) == identity(place)
            and abs(deviation.exponent - exponent) <= QUARTER
            for place, exponent in seen
        )
    )
    return Comparison(
        {maker: power for maker, power in code.factors.items() if maker in owners},
        {power: line for power, line in code.attention.items() if power in other.attention},
        unresolved,
        code.lines,
        code.normalised,
    )


def resolved(deviations: Sequence[Deviation]) -> Comparison:
    """Attribute deviations to matrices; one that has two factors stays unresolved."""
    factors: dict[Maker, float] = {}
    lines: dict[Maker, tuple[str, ...]] = {}
    attention: dict[float, str] = {}
    unresolved = []
    for deviation in deviations:
        power = deviation.power
        if deviation.place.kind == "attention":
            attention[deviation.exponent if power is None else power] = deviation.place.line
        elif power is None or not deviation.owners:
            unresolved.append(deviation)
        else:
            for owner in deviation.owners:
                if factors.setdefault(owner, power) != power:
                    unresolved.append(deviation)
                lines.setdefault(owner, deviation.lines)
    return Comparison(factors, attention, tuple(unresolved), lines)


def scalings(base: Trace, wide: Trace) -> list[tuple[int, str]]:
    """Multiplications by different numbers at the two widths, before the place of their index."""
    return [
        (one.place, f"{one.line} by {one.value:.4g} and by {other.value:.4g}")
        for one, other in zip(base.scalings, wide.scalings, strict=False)
        if not math.isclose(one.value, other.value, rel_tol=1e-6)
    ]
