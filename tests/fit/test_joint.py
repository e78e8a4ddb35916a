"""Learning rate and weight decay fitted together: two exponents, or a ridge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.joint_coverage import World, covered, simulate
from mutransfer_cli.fit.joint import Joint, fit_planes
from mutransfer_cli.fit.law import Laws
from mutransfer_cli.fit.planes import Planes

SWEEPS = 150
SLACK = 3 * np.sqrt(0.05 * 0.95 / SWEEPS)  # binomial error of a coverage near 95%


def fitted(world: World, sweeps: int = SWEEPS, seed: int = 0) -> Joint:
    return fit_planes(simulate(world, sweeps, np.random.default_rng(seed)))


def arrays(joint: Joint) -> dict[str, npt.NDArray[np.generic]]:
    """All arrays of the fit; those of its laws have dotted names."""
    flat: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in vars(joint).items():
        inner = vars(value).items() if isinstance(value, Laws) else [("", value)]
        flat |= {f"{name}.{key}": array for key, array in inner}
    return flat


def assert_same(one: Joint, other: Joint, of_one: slice = slice(None)) -> None:
    again = arrays(other)
    for name, found in arrays(one).items():
        if found.dtype.kind == "f":
            np.testing.assert_allclose(
                found[of_one].astype(float), again[name].astype(float), 1e-6, 1e-8, err_msg=name
            )
        else:
            np.testing.assert_array_equal(found[of_one], again[name], err_msg=name)


@pytest.mark.parametrize(("lr", "wd"), [(0.0, 0.0), (-1.0, 0.5), (-0.5, 1.0)])
def test_without_noise_exponents_and_optima_are_exact(lr: float, wd: float) -> None:
    planes = simulate(World(lr, wd, noise=0.0), 5, np.random.default_rng(0))
    joint = fit_planes(planes)
    assert (joint.status == "ok").all()
    np.testing.assert_allclose(joint.lr.exponent, lr, atol=1e-4)
    np.testing.assert_allclose(joint.wd.exponent, wd, atol=1e-4)
    np.testing.assert_allclose(joint.product.exponent, lr + wd, atol=1e-4)
    np.testing.assert_allclose(joint.angle, 45, atol=1e-3)
    steps = np.diff(joint.vertices, axis=1)
    np.testing.assert_allclose(steps, np.broadcast_to([lr, wd], steps.shape), atol=1e-3)


@pytest.mark.parametrize(("wd", "ratio"), [(0.0, 0.17), (0.5, 0.5), (0.5, 0.17), (1.0, 0.17)])
def test_intervals_hold_in_noise(wd: float, ratio: float) -> None:
    joint = fitted(World(-1.0, wd, ratio=ratio))
    for laws, truth in [(joint.lr, -1.0), (joint.wd, wd), (joint.product, wd - 1.0)]:
        assert covered(laws, truth, laws.half_width) >= 0.95 - SLACK
        assert covered(laws, truth, laws.law_half_width) >= 0.95 - SLACK
        assert covered(laws, truth, laws.measurement_half_width) >= 0.95 - SLACK
        assert np.nanmedian(laws.exponent) == pytest.approx(truth, abs=0.02)
        assert np.nanmedian(laws.half_width) < 0.15
    sure, less = joint.product.measurement_half_width, joint.lr.measurement_half_width
    assert ratio > 0.2 or np.nanmedian(sure) < 0.8 * np.nanmedian(less)


def test_intervals_hold_with_scatter_between_widths() -> None:
    joint = fitted(World(-1.0, 0.5, ratio=0.17, tau=0.1))
    assert covered(joint.lr, -1.0, joint.lr.half_width) >= 0.95 - SLACK
    assert covered(joint.wd, 0.5, joint.wd.half_width) >= 0.95 - SLACK
    no_scatter = covered(joint.product, -0.5, joint.product.measurement_half_width)
    assert no_scatter < 0.8, "the law's interval is what holds, not the measurement's"


def test_a_steeper_side_does_not_bias_optima_that_move_through_the_grid() -> None:
    exact = fitted(World(0.0, 1.0, cubic=0.15, noise=0.0), 5)
    np.testing.assert_allclose(exact.wd.exponent, 1.0, atol=1e-3)
    joint = fitted(World(0.0, 1.0, cubic=0.15))
    assert covered(joint.wd, 1.0, joint.wd.half_width) >= 0.95 - SLACK
    assert np.median(joint.wd.exponent) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("wd", [0.0, 1.0])
def test_a_ridge_is_called_one_and_given_no_separate_exponents(wd: float) -> None:
    joint = fitted(World(-1.0, wd, ratio=0.0))
    ridge = joint.status == "ridge"
    assert ridge.mean() >= 0.99
    for laws in (joint.lr, joint.wd, joint.product):
        assert np.isnan(laws.exponent[ridge]).all()
        assert np.isnan(laws.half_width[ridge]).all()
    assert np.isnan(joint.vertices[ridge]).all()
    assert covered(joint.across, wd - 1.0, joint.across.half_width) >= 0.95 - SLACK
    assert np.nanmedian(joint.across.half_width) < 0.1


def test_the_angle_of_a_ridge_tells_whether_only_the_product_matters() -> None:
    product = fitted(World(ratio=0.0))
    assert np.mean(product.product_only) >= 0.95 - SLACK
    assert np.mean(np.abs(product.angle - 45) <= 1.96 * product.angle_error) >= 0.95 - SLACK
    other = fitted(World(-1.0, 0.5, ratio=0.0, angle=60.0), 50)
    assert not other.product_only.any()
    assert np.median(other.angle) == pytest.approx(60, abs=0.2)
    truth = World(-1.0, 0.5, angle=60.0).across
    assert covered(other.across, truth, other.across.half_width) >= 0.95 - SLACK


def test_a_ridge_is_followed_by_a_grid_that_moves_along_it() -> None:
    joint = fitted(World(-4.5, 4.0, ratio=0.0, follow=(-4.0, 4.0)))
    for half_width in (joint.across.law_half_width, joint.across.measurement_half_width):
        assert covered(joint.across, -0.5, half_width) >= 0.95 - SLACK


def test_a_bowl_is_not_called_a_ridge() -> None:
    false = np.mean(fitted(World(-1.0, 0.5, ratio=0.17), 300).status == "ridge")
    assert false <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 300)


def test_diverged_cells_are_left_out() -> None:
    planes = simulate(World(-1.0, 0.5, ratio=0.17), 20, np.random.default_rng(1))
    diverged = planes.x + planes.y >= 4
    without = replace(planes, weight=np.where(diverged, 0.0, planes.weight))
    nan = replace(without, loss=np.where(diverged, np.nan, planes.loss))
    huge = replace(without, loss=np.where(diverged, 1e6, planes.loss))
    assert_same(fit_planes(nan), fit_planes(huge))
    joint = fit_planes(nan)
    assert (joint.status == "ok").all()
    assert covered(joint.wd, 0.5, joint.wd.half_width) >= 0.8
    assert np.median(joint.noise) == pytest.approx(0.0025, rel=0.05)


def test_cells_with_more_seeds_weigh_more() -> None:
    planes = simulate(World(ratio=0.5, noise=0.0), 5, np.random.default_rng(1))
    wrong = np.zeros_like(planes.loss)
    wrong[:, :, ::5] = np.random.default_rng(2).normal(0, 0.01, wrong[:, :, ::5].shape)
    light = replace(planes, loss=planes.loss + wrong, weight=np.where(wrong != 0, 1.0, 1000.0))
    even = replace(light, weight=np.ones_like(planes.weight))
    errors = [np.abs(fit_planes(p).wd.exponent).max() for p in (light, even)]
    assert errors[0] < 0.05 * errors[1]


def test_an_optimum_beyond_the_grid_leaves_its_width_out() -> None:
    planes = simulate(World(0.0, 0.0, ratio=0.5), 20, np.random.default_rng(3))
    moved = np.array([5.0, 0.0, 0.0, 0.0])[:, None]
    joint = fit_planes(replace(planes, x=planes.x + moved, y=planes.y + moved))
    assert (joint.used.all(1)).all(), "grids that move with their optima lose nothing"
    cut = np.where((planes.x + planes.y < -3) | (np.arange(4)[:, None] > 0), planes.weight, 0.0)
    joint = fit_planes(replace(planes, weight=cut))
    assert (~joint.used[:, 0]).all()
    assert joint.used[:, 1:].all()
    assert (joint.status == "ok").all()
    assert np.isfinite(joint.lr.exponent).all()


def test_two_widths_or_no_curvature_are_insufficient() -> None:
    planes = simulate(World(), 20, np.random.default_rng(4))
    two = replace(planes, weight=planes.weight * np.array([1.0, 0.0, 1.0, 0.0])[:, None])
    level = np.random.default_rng(5).normal(3, 0.0025, planes.loss.shape)
    for poor in (two, replace(planes, loss=level)):
        joint = fit_planes(poor)
        assert np.mean(joint.status == "insufficient") >= 0.9
        assert np.isnan(joint.lr.exponent).all()
    assert np.isnan(joint.vertices).mean() > 0.9, "no curvature, no optima"
    found = fit_planes(two).vertices
    assert np.isfinite(found[:, [0, 2]]).all()
    assert np.isnan(found[:, [1, 3]]).all()


def test_sweeps_of_a_stack_do_not_influence_each_other() -> None:
    random = np.random.default_rng(6)
    kinds = [World(-1.0, 0.5, ratio=0.17), World(ratio=0.0), World(tau=0.1), World(noise=1.0)]
    parts = [simulate(world, 3, random) for world in kinds]
    stack = Planes(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in vars(parts[0])})
    joint = fit_planes(stack)
    assert set(joint.status) == {"ok", "ridge", "insufficient"}
    for g in range(len(stack.x)):
        alone = Planes(**{name: values[[g]] for name, values in vars(stack).items()})
        assert_same(joint, fit_planes(alone), slice(g, g + 1))


@pytest.mark.parametrize("ratio", [0.17, 0.0])
def test_the_order_of_widths_does_not_matter(ratio: float) -> None:
    planes = simulate(World(-1.0, 0.5, ratio=ratio), 20, np.random.default_rng(7))
    order = np.array([2, 0, 3, 1])
    mixed = Planes(**{name: values[:, order] for name, values in vars(planes).items()})
    joint, other = fit_planes(planes), fit_planes(mixed)
    restored = np.argsort(order)
    by_width = "used width_status side vertices covariance loss own_curvature near_edge"
    for name in [*by_width.split(), "across_optimum", "across_variance"]:
        other = replace(other, **{name: getattr(other, name)[:, restored]})
    assert_same(joint, other)


def test_exchanging_the_axes_exchanges_the_exponents() -> None:
    planes = simulate(World(-1.0, 0.5, ratio=0.17), 20, np.random.default_rng(8))
    joint = fit_planes(planes)
    turned = fit_planes(replace(planes, x=planes.y, y=planes.x))
    # the window is longer in y, so the two fits differ by a fraction of their errors
    np.testing.assert_allclose(joint.lr.exponent, turned.wd.exponent, atol=0.05)
    np.testing.assert_allclose(joint.angle, 90 - turned.angle, atol=1)
