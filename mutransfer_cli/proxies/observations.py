"""Observations of one forward pass: how parameters were used, and where factors would show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mutransfer_cli.proxies.operations import Axes

UseKind = Literal["product", "lookup", "added", "elementwise"]
PlaceKind = Literal["stream", "attention", "weight", "output"]
Maker = tuple[str, UseKind]
Makers = frozenset[Maker]
Span = tuple[int, int, int]  # stride and size of an axis of a tensor, and the parameter's axis
Names = frozenset[str]

NOTHING: frozenset[Any] = frozenset()


@dataclass(frozen=True)
class Use:
    """One way in which a parameter is used.

    Attributes:
        axes: its axes that a product sums over, or those that a lookup takes one index of.
        seen: its axes with more than one value in what was used, as those of one expert.
        inside: whether the other factor, or the index, is made by parameters.
    """

    kind: UseKind
    axes: Axes = ()
    seen: Axes = ()
    inside: bool = False


@dataclass(frozen=True)
class Place:
    """An activation, or a matrix made of parameters, where a factor of the own code shows.

    Attributes:
        size: root mean square of its finite values.
        makers: matrices whose products or rows it holds, since the last places.
        reader: the matrices that it is multiplied with next.
        line: the line of the model's code.
    """

    kind: PlaceKind
    size: float
    makers: Makers
    reader: Names
    line: str


@dataclass(frozen=True)
class Scaling:
    """A multiplication or division by a number, before the place of that index."""

    place: int
    value: float
    line: str


@dataclass(frozen=True)
class Flow:
    """The history of an activation.

    Attributes:
        made: whether parameters made it.
        open: matrices of growing fan-in whose output reaches it without another one.
        since: as `Place.makers`.
        is_score: whether it is a product of two activations, such as q.k.
    """

    made: bool = False
    open: Names = NOTHING
    since: Makers = NOTHING
    is_score: bool = False


@dataclass
class Trace:
    """Observations of one forward pass."""

    uses: dict[str, list[Use]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    scalings: list[Scaling] = field(default_factory=list)
    inner: set[str] = field(default_factory=set)
    """Matrices whose output another matrix of growing fan-in reads."""
    outer: Names = NOTHING
    """Matrices of growing fan-in whose output reaches the model's output without another one."""


Correct = Callable[[int, Place], float]


def joined(flows: Sequence[Flow]) -> Flow:
    return Flow(
        made=any(flow.made for flow in flows),
        open=NOTHING.union(*(flow.open for flow in flows)),
        since=NOTHING.union(*(flow.since for flow in flows)),
        is_score=any(flow.is_score for flow in flows),
    )


def of_table(makers: Makers) -> bool:
    """Whether an activation is the rows of one table."""
    return len(makers) == 1 and all(use == "lookup" for _, use in makers)
