from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.cells import cells_of
from mutransfer_cli.fit.exponent import fit_exponents, fit_groups
from mutransfer_cli.fit.exponents import Axis, Interval
from mutransfer_cli.fit.optimum import Optimum


def sweep(
    exponent: float, widths: tuple[int, ...] = (32, 64, 128), top: float = -2.0
) -> pd.DataFrame:
    """Bowls with a little noise, whose optimum is 2^-5 at width 32 and scales as width^exponent."""
    random = np.random.default_rng(0)
    rows = [
        {
            "width": width,
            "lr": 2.0**x,
            "loss": 2.5
            + 0.04 * (x + 5 - exponent * np.log2(width / 32)) ** 2
            + random.normal(0, 0.001),
        }
        for width in widths
        for x in np.arange(-9.0, top, 0.5)
    ]
    return pd.DataFrame(rows)


def exponent_of(fit: Axis) -> Interval:
    assert fit.exponent is not None
    return fit.exponent


def log2(at: Optimum) -> float:
    return at.octaves[1]


@pytest.mark.parametrize("exponent", [0.0, -1.0, -0.5])
def test_the_exponent_is_recovered(exponent: float) -> None:
    fit = fit_exponents(sweep(exponent, (32, 64, 128, 256)))
    assert fit.status == "ok"
    found = exponent_of(fit)
    assert found.value == pytest.approx(exponent, abs=0.05)
    assert found.low <= exponent <= found.high
    assert fit.sentence.startswith("the optimal lr scales as width^")


def test_three_widths_carry_a_warning() -> None:
    assert "cannot be learned" in fit_exponents(sweep(0.0)).warnings["scatter_unknown"]
    assert not fit_exponents(sweep(0.0, (32, 64, 128, 256))).warnings


def test_one_width_is_insufficient() -> None:
    fit = fit_exponents(sweep(0.0, (32,)))
    assert (fit.status, fit.line) == ("insufficient", None)
    assert fit.optimum[32].status in ("ok", "unresolved")
    assert "add at least 2 widths" in fit.sentence


def test_a_width_at_the_edge_is_named_and_not_used() -> None:
    fit = fit_exponents(sweep(0.5, (32, 64, 128, 4096), top=-3.0))
    assert fit.optimum[4096].status == "not_bracketed"
    assert fit.status == "ok"
    assert len(fit.usable) == 3
    refused = fit_exponents(sweep(0.5, (32, 64, 4096), top=-3.0))
    assert refused.status == "insufficient"
    assert (
        "width 4096: the optimum lies at the high end, add higher values of lr" in refused.sentence
    )


def test_a_diverged_trial_is_a_bound_not_a_point() -> None:
    table = sweep(0.0)
    table.loc[table["lr"] > 2**-3.25, "loss"] = np.nan
    fit = fit_exponents(table)
    assert fit.status == "ok"
    assert (cells_of([table], "lr", "loss").count == 12).all()


def test_a_seed_that_is_missing_from_some_cells_bends_nothing() -> None:
    """The second seed has another level and covers only the lower half of the grid."""
    table = sweep(0.0).assign(seed=0)
    second = table.assign(loss=table["loss"] + 0.2, seed=1)
    both = pd.concat([table, second[second["lr"] < 2**-5]])
    single, double = fit_exponents(table), fit_exponents(both)
    for width, at in single.optimum.items():
        assert log2(double.optimum[width]) == pytest.approx(log2(at), abs=0.02)


def test_losses_without_noise_are_fitted_too() -> None:
    table = sweep(0.0)
    x = np.log2(table["lr"])
    fit = fit_exponents(table.assign(loss=(x + 6) ** 2))
    assert exponent_of(fit).value == pytest.approx(0.0, abs=1e-6)


def test_replicates_are_averaged() -> None:
    """Two seeds that differ in level have the optimum of one."""
    table = sweep(0.0)
    both = pd.concat([table, table.assign(loss=table["loss"] + 0.2)])
    single, double = fit_exponents(table), fit_exponents(both)
    for width, at in single.optimum.items():
        assert log2(double.optimum[width]) == pytest.approx(log2(at), abs=0.01)


def test_nothing_to_fit_is_said() -> None:
    with pytest.raises(InsufficientEvidence, match="the input: no trial that ran"):
        fit_exponents(sweep(0.0).iloc[:0])


def test_groups_are_fitted_as_if_alone() -> None:
    """Two groups have the same number of widths, one has another."""
    groups = {"a": sweep(0.0), "b": sweep(-0.5), "c": sweep(-1.0, (32, 64, 128, 256))}
    together = fit_groups(groups)
    assert list(together) == ["a", "b", "c"]
    for name, frame in groups.items():
        alone = vars(exponent_of(fit_exponents(frame)))
        assert vars(exponent_of(together[name])) == pytest.approx(alone, rel=1e-6)


def test_a_wider_model_that_is_worse_is_named() -> None:
    table = sweep(0.0, (32, 64, 128, 256))
    assert "non_monotone_loss" not in fit_exponents(table).warnings
    table.loc[table["width"] == 128, "loss"] += 0.05
    fit = fit_exponents(table)
    assert fit.optimum[128].loss == pytest.approx(2.55, abs=0.01)
    assert fit.warnings["non_monotone_loss"].startswith("width 128 ends at 2.55")


def test_an_exponent_whose_sign_hangs_on_the_largest_width_is_named() -> None:
    """The optimum falls up to 128 and jumps at 1024; the noise of a steady law raises no alarm."""
    falling, far = sweep(-0.1, (32, 64, 128)), sweep(1.5, (64,)).assign(width=1024)
    fit = fit_exponents(pd.concat([falling, far]))
    assert fit.without_largest is not None
    assert fit.without_largest < 0 < exponent_of(fit).value
    assert "sign_without_largest" in fit.warnings
    assert "sign_without_largest" not in fit_exponents(sweep(0.0, (32, 64, 128, 256))).warnings


def test_a_further_axis_is_fitted_at_the_best_of_the_others() -> None:
    """Each factor adds a penalty that does not depend on lr: the fit is that of the best factor."""
    frames = []
    for factor in (0.5, 1.0, 2.0):
        frame = sweep(0.0, (32, 64, 128, 256))
        penalty = 0.05 * (np.log2(factor) - 0.5) ** 2
        frames.append(frame.assign(factor=factor, loss=frame["loss"] + penalty))
    both = pd.concat(frames, ignore_index=True)
    fit = fit_exponents(both, "lr", ["factor"])
    alone = fit_exponents(frames[1], "lr")
    assert exponent_of(fit).value == pytest.approx(exponent_of(alone).value, abs=1e-9)


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_the_unit_of_the_losses_does_not_matter(unit: float) -> None:
    """Another unit scales the losses and leaves optima and intervals unchanged."""
    table = sweep(-0.5, (32, 64, 128, 256))
    plain, scaled = fit_exponents(table), fit_exponents(table.assign(loss=unit * table["loss"]))
    assert vars(exponent_of(scaled)) == pytest.approx(vars(exponent_of(plain)), rel=1e-6)
    for width, at in plain.optimum.items():
        found = scaled.optimum[width]
        assert found.status == at.status
        assert found.loss == pytest.approx(unit * (at.loss or 0), rel=1e-6)
        assert found.curvature == pytest.approx(unit * (at.curvature or 0), rel=1e-6)


def seeded(
    random: np.random.Generator, move: float, seeds: tuple[int, ...] = (3, 3, 3, 3)
) -> pd.DataFrame:
    """A sweep; each of a width's seeds shifts the optimum, 2^-6, with sd `move` octaves."""
    rows = []
    for width, count in zip((32, 64, 128, 256), seeds, strict=True):
        for seed, shift in enumerate(random.normal(0, move, count)):
            for x in np.arange(-9.0, -2.5, 0.5):
                loss = 2 + 0.02 * (x + 6 - shift) ** 2 + random.normal(0, 0.002)
                rows.append({"width": width, "seed": seed, "lr": 2.0**x, "loss": loss})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("move", "missing", "seeds"),
    [
        (0.0, 0.3, (3, 3, 3, 3)),
        (0.2, 0.1, (3, 3, 3, 3)),
        (0.2, 0.3, (3, 3, 3, 3)),
        (0.0, 0.0, (16, 1, 1, 1)),
        (0.0, 0.0, (8, 2, 2, 2)),
    ],
)
def test_the_interval_of_an_optimum_holds_with_seeds_of_any_number(
    move: float, missing: float, seeds: tuple[int, ...]
) -> None:
    """Some runs are missing, and some widths have many seeds beside others with few."""
    random, held = np.random.default_rng(0), []
    for _ in range(60):
        table = seeded(random, move, seeds)
        fit = fit_exponents(table[random.random(len(table)) >= missing])
        held += [at.octaves[0] <= -6 <= at.octaves[2] for at in fit.usable.values()]
    assert np.mean(held) >= 0.91, "a coverage of 95% less three binomial errors"


def test_a_group_with_more_seeds_changes_no_other() -> None:
    """A group of three seeds does not make its third seed a missing one in a group of two."""
    three = seeded(np.random.default_rng(1), 0.2)
    two = three[three["seed"] < 2]
    alone = fit_exponents(two).measurement_interval
    together = fit_groups({"two": two, "three": three})["two"].measurement_interval
    assert alone is not None
    assert together is not None
    assert vars(together) == pytest.approx(vars(alone))


def test_losses_that_are_all_equal_are_flat() -> None:
    fit = fit_exponents(sweep(0.0).assign(loss=3.0))
    assert {at.status for at in fit.optimum.values()} == {"flat"}


def test_a_loss_that_is_finite_in_name_only_is_a_diverged_run() -> None:
    table = sweep(0.0)
    high = table["lr"] > 2**-3.25
    huge = fit_exponents(table.assign(loss=table["loss"].mask(high, 1e300)))
    assert huge == fit_exponents(table.assign(loss=table["loss"].mask(high)))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda t: t.drop(columns="loss"), "no column 'loss'; there are width, lr"),
        (lambda t: t.assign(lr=0.0), "lr: expected positive, finite numbers"),
        (lambda t: t.assign(lr=t["lr"].where(t["lr"] < 0.1)), "lr: expected positive, finite"),
        (lambda t: t.assign(weight_decay=t["lr"]), "weight_decay varies: name it in `others`"),
    ],
)
def test_input_that_is_no_evidence_is_refused(
    harm: Callable[[pd.DataFrame], pd.DataFrame], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        fit_exponents(harm(sweep(0.0)))
    with pytest.raises(InputError, match="scatter_below 0: expected"):
        fit_exponents(sweep(0.0), scatter_below=0)


def test_the_unit_of_the_losses_changes_no_warning() -> None:
    """The noise scales with the losses: a width worse by 0.05 nats is named in any unit."""
    table = sweep(0.0, (32, 64, 128, 256))
    worse = table.assign(loss=table["loss"].mask(table["width"] == 128, table["loss"] + 0.05))
    for unit in (1e-9, 1e6):
        assert (
            "non_monotone_loss" in fit_exponents(worse.assign(loss=unit * worse["loss"])).warnings
        )
        assert not fit_exponents(table.assign(loss=unit * table["loss"])).warnings
