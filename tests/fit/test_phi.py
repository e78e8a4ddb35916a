"""The shape of a bowl against its closed form, and the window about its optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.phi import NARROW, WIDE, reach, shape, window

D = np.linspace(-3, 3, 13)


def closed(d: np.ndarray, tilt: float) -> np.ndarray:
    return np.asarray(2 * (np.exp(tilt * d) - 1 - tilt * d) / tilt**2)


def flat(x_C: np.ndarray, seeds: int = 1) -> Cells:
    """Cells of one width without any bowl."""
    x = np.array(x_C, dtype=np.float64)[None, None]
    return Cells.of(x, np.zeros((*x.shape, seeds)), x.max(-1), np.array([[6.0]]))


@pytest.mark.parametrize("tilt", [-1.2, -0.3, 0.01, 0.4, 1.5])
def test_it_is_the_closed_form_and_its_derivatives(tilt: float) -> None:
    value, by_distance, by_tilt = shape(D, np.full_like(D, tilt))
    step = 1e-5
    np.testing.assert_allclose(value, closed(D, tilt), rtol=1e-5, atol=1e-9)
    slope = (closed(D + step, tilt) - closed(D - step, tilt)) / (2 * step)
    np.testing.assert_allclose(by_distance, slope, rtol=1e-4, atol=1e-6)
    change = (closed(D, tilt + step) - closed(D, tilt - step)) / (2 * step)
    np.testing.assert_allclose(by_tilt, change, rtol=1e-3, atol=1e-4)


def test_without_tilt_it_is_the_parabola() -> None:
    value, by_distance, by_tilt = shape(D, np.zeros_like(D))
    np.testing.assert_allclose(value, D**2)
    np.testing.assert_allclose(by_distance, 2 * D)
    np.testing.assert_allclose(by_tilt, D**3 / 3)


def test_one_octave_too_high_costs_more_than_one_too_low() -> None:
    (low, high), _, _ = shape(np.array([-1.0, 1.0]), np.ones(2))
    assert high / low == pytest.approx(1.95, abs=0.01)


def test_the_window_falls_to_nothing_over_a_cell() -> None:
    """The half-width is 1.5 octaves about -6.1 in cells of 0.5, and 2 cells of an octave."""
    x = np.array([-8.0, -7.5, -7.0, -6.5, -6.0, -5.5, -5.0, -4.5, -4.0])
    weight = window(flat(x), np.array([[-6.1]]), NARROW)[0, 0]
    assert weight == pytest.approx([0, 0.7, 1, 1, 1, 1, 1, 0.3, 0])
    octaves = np.arange(-10.0, -2.0)
    coarse = window(flat(octaves), np.array([[-6.0]]), NARROW)[0, 0]
    assert coarse == pytest.approx([0, 0, 0.5, 1, 1, 1, 0.5, 0])


def test_cells_weigh_by_their_seeds() -> None:
    uneven = replace(flat(np.arange(4.0)), n=np.array([[[1.0, 3.0, 1.0, 3.0]]]))
    weight = window(uneven, np.array([[1.5]]), WIDE)[0, 0]
    assert weight == pytest.approx([0.5, 1.5, 0.5, 1.5])


def test_the_window_grows_with_the_spacing_of_a_coarse_grid() -> None:
    """Three cells and half of one, from 0.75 octave on; 2.5 octaves and half a cell below that."""
    spacings = (0.5, 1.0, 1.5, 2.0)
    found = [float(reach(flat(spacing * np.arange(5.0)))[0, 0]) for spacing in spacings]
    assert found == pytest.approx([2.75, 3.5, 5.25, 7.0])
