from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.phi import shape

D = np.linspace(-3, 3, 13)


def closed(d: np.ndarray, tilt: float) -> np.ndarray:
    return np.asarray(2 * (np.exp(tilt * d) - 1 - tilt * d) / tilt**2)


@pytest.mark.parametrize("tilt", [-1.2, -0.3, 0.4, 1.5])
def test_the_series_is_the_closed_form_and_its_derivatives(tilt: float) -> None:
    value, by_distance, by_tilt = shape(D, np.full_like(D, tilt))
    step = 1e-5
    np.testing.assert_allclose(value, closed(D, tilt), rtol=1e-5, atol=1e-9)
    slope = (closed(D + step, tilt) - closed(D - step, tilt)) / (2 * step)
    np.testing.assert_allclose(by_distance, slope, rtol=1e-4, atol=1e-7)
    change = (closed(D, tilt + step) - closed(D, tilt - step)) / (2 * step)
    np.testing.assert_allclose(by_tilt, change, rtol=1e-3, atol=1e-6)


def test_without_tilt_it_is_the_parabola() -> None:
    value, by_distance, by_tilt = shape(D, np.zeros_like(D))
    np.testing.assert_allclose(value, D**2)
    np.testing.assert_allclose(by_distance, 2 * D)
    np.testing.assert_allclose(by_tilt, D**3 / 3)


def test_one_octave_too_high_costs_more_than_one_too_low() -> None:
    (low, high), _, _ = shape(np.array([-1.0, 1.0]), np.ones(2))
    assert high / low == pytest.approx(1.95, abs=0.01)
