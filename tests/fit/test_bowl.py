"""One width: the optimum, its interval, and when there is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mutransfer_cli.fit.bowl import Cells, fieller, fit_bowls, fit_parabola

Array = npt.NDArray[np.float64]
LEVEL = 0.95


def cells(x: Array, loss: Array, diverged: tuple[float, ...] = (), n: Array | None = None) -> Cells:
    return Cells(x, loss, np.ones_like(x) if n is None else n, np.array(diverged, dtype=float))


def parabola(x: Array, optimum: float, curvature: float = 0.04) -> Array:
    return 2.0 + curvature * (x - optimum) ** 2


@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("optimum", [-6.0, -5.3, -4.9])
def test_a_parabola_is_found_exactly(spacing: float, optimum: float) -> None:
    x = np.arange(-9.0, -2.0, spacing)
    found = fit_parabola(cells(x, parabola(x, optimum)))
    assert found is not None
    assert found.vertex == pytest.approx(optimum)
    assert found.coefficients[2] == pytest.approx(0.04)


def test_far_cells_do_not_move_the_optimum() -> None:
    """Broken runs far above the optimum are outside the window."""
    x = np.arange(-9.0, -1.0)
    loss = parabola(x, -6.0)
    loss[-2:] = 9.0
    found = fit_parabola(cells(x, loss))
    assert found is not None
    assert found.vertex == pytest.approx(-6.0, abs=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Three widths, noise pooled; 95 % of the Fieller intervals hold the optimum."""
    random = np.random.default_rng(0)
    x = np.arange(-8.0, -3.0, 0.5)
    truth = {32: -5.4, 64: -5.7, 128: -6.1}
    held = total = 0
    for _ in range(300):
        noisy = {
            width: cells(x, parabola(x, optimum) + random.normal(0, 0.005, x.size))
            for width, optimum in truth.items()
        }
        for width, bowl in fit_bowls(noisy, LEVEL)[0].items():
            if bowl.status == "ok":
                assert bowl.low is not None
                assert bowl.high is not None
                held += bowl.low <= truth[width] <= bowl.high
                total += 1
    assert total > 850
    assert 0.93 <= held / total <= 0.985


def status_of(at_width: Cells) -> tuple[str, str | None]:
    x = np.arange(-9.0, -2.0)
    noise = 0.001 * np.cos(40 * x)
    helper = cells(x, parabola(x, -6.0) + noise)
    bowl = fit_bowls({32: at_width, 64: helper, 128: helper}, LEVEL)[0][32]
    return bowl.status, bowl.side


def test_an_optimum_at_the_edge_is_not_bracketed() -> None:
    x = np.arange(-9.0, -2.0)
    assert status_of(cells(x, parabola(x, -2.5))) == ("not_bracketed", "high")
    assert status_of(cells(x, parabola(x, -10.0))) == ("not_bracketed", "low")


def test_a_diverged_cell_above_brackets() -> None:
    x = np.arange(-9.0, -3.0)
    loss = parabola(x, -4.2)
    assert status_of(cells(x, loss)) == ("not_bracketed", "high")
    assert status_of(cells(x, loss, diverged=(-3.0,))) == ("ok", None)
    assert status_of(cells(x, loss, diverged=(5.0,))) == ("not_bracketed", "high")


def test_four_cells_are_too_few() -> None:
    x = np.arange(-8.0, -4.0)
    assert status_of(cells(x, parabola(x, -6.0)))[0] == "too_few_points"
    nothing = np.array([])
    assert status_of(cells(nothing, nothing, diverged=(-3.0,)))[0] == "too_few_points"


def test_a_flat_or_noisy_width_is_unresolved() -> None:
    x = np.arange(-9.0, -2.0)
    hill = 2.0 + 0.001 * np.abs(x + 6)
    hill[3] = 1.9999
    assert status_of(cells(x, 2.0 - 0.01 * (x + 6) ** 2 * (np.abs(x + 6) < 3)))[0] != "ok"
    assert status_of(cells(x, hill))[0] == "unresolved"


def test_replicates_weigh_more() -> None:
    x = np.arange(-8.0, -3.0)
    loss = parabola(x, -6.0)
    loss[1] += 0.02
    light, heavy = np.ones(5), np.array([1.0, 9.0, 1.0, 1.0, 1.0])
    once, often = fit_parabola(cells(x, loss, n=light)), fit_parabola(cells(x, loss, n=heavy))
    assert once is not None
    assert often is not None
    assert often.vertex > once.vertex > -6.0


def test_fieller_is_the_delta_interval_when_the_curvature_is_sure() -> None:
    covariance = np.diag([1e-4, 1e-12])
    low, high = fieller(0.0, 0.05, covariance, quantile=2.0) or (0.0, 0.0)
    assert (low, high) == pytest.approx((-0.2, 0.2), rel=1e-3)


def test_fieller_has_no_bounded_interval_when_the_curvature_may_be_zero() -> None:
    assert fieller(0.0, 0.05, np.diag([1e-4, 1e-2]), quantile=2.0) is None
