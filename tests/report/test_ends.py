"""Names at the ends of lines."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from mutransfer_cli.report.ends import apart, name_ends


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.8, 0.5, 0.2], [0.8, 0.5, 0.2]),
        ([0.99, 0.99], [0.85, 0.95]),
        ([0.0, 0.01, 0.02], [0.05, 0.15, 0.25]),
        ([0.5, 0.5, 0.5, 0.9], [0.4, 0.5, 0.6, 0.9]),
    ],
)
def test_names_move_as_little_as_needed(heights: list[float], placed: list[float]) -> None:
    assert apart(np.array(heights), 0.1) == pytest.approx(placed)


@pytest.mark.parametrize("seed", range(5))
def test_names_never_touch_and_keep_their_order(seed: int) -> None:
    heights = np.random.default_rng(seed).beta(0.5, 0.5, 9)
    placed = apart(heights, 0.11)
    assert (np.argsort(placed) == np.argsort(heights)).all()
    assert np.diff(np.sort(placed)).min() > 0.11 - 1e-9
    assert placed.min() >= 0.055 - 1e-9
    assert placed.max() <= 0.945 + 1e-9


def named(lines: list[list[float]], either_side: bool = False) -> list[Text]:
    axes = Canvas().subplots()
    drawn = [axes.plot([0, 1, 2], line)[0] for line in lines]
    axes.set(xlim=(0, 2), ylim=(0, 1))
    names = [f"line {i}" for i in range(len(lines))]
    name_ends(axes, drawn, names, "title", either_side)
    return [*axes.texts]


def test_names_stand_at_the_right_in_the_order_of_the_ends() -> None:
    low, high, title = named([[0.9, 0.1, 0.3], [0.1, 0.5, 0.6]])
    assert (low.get_text(), high.get_text(), title.get_text()) == ("line 0", "line 1", "title")
    assert low.get_position()[1] < high.get_position()[1]
    assert 0.5 < low.get_position()[0] < 1


def test_names_stand_where_the_ends_are_apart() -> None:
    first, _, _ = named([[0.9, 0.1, 0.5], [0.1, 0.5, 0.5]], either_side=True)
    assert first.get_position()[0] < 0.5
    assert first.get_position()[1] == pytest.approx(0.9)


def test_a_line_that_leaves_the_view_is_named_where_it_leaves() -> None:
    name, _ = named([[0.2, 0.5, 0.9]])
    assert name.get_position()[1] == pytest.approx(0.9)
    name, _ = named([[0.2, 0.8, 7.0]])
    assert 0.9 < name.get_position()[1] < 1
    name, _ = named([[3.0, 4.0, 7.0]])
    assert 0.9 < name.get_position()[1] < 1


def test_too_many_lines_are_named_evenly() -> None:
    texts = named([[0.1, 0.1, i / 99] for i in range(99)])
    assert 10 < len(texts) < 50
    assert [texts[0].get_text(), texts[-2].get_text()] == ["line 0", "line 98"]


def test_nothing_is_named_without_lines() -> None:
    assert named([]) == []


def test_names_stand_beside_what_is_drawn_and_not_at_the_edge_of_a_wider_view() -> None:
    axes = Canvas().subplots()
    (line,) = axes.plot([0, 1], [0.2, 0.5])
    axes.plot([2], [0.9], "x")
    axes.set(xlim=(0, 8), ylim=(0, 1))
    name_ends(axes, [line], ["line"])
    (name,) = axes.texts
    low, high = axes.get_xlim()
    assert 2 < low + name.get_position()[0] * (high - low) < 3
