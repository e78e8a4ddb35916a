from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit.axes import axes_of, fit_axes, held_decay
from mutransfer_cli.fit.exponents import Group

AXES = ("lr", "weight_decay", "lr_mult.hidden")


def sweep(exponent: float = 0.0, decays: tuple[float, ...] = ()) -> pd.DataFrame:
    """A sweep with best lr 2^-6 and, given `decays`, best weight decay 2^-3 at every width."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {"width": w, "lr": 2.0**x, "weight_decay": decay}
            for w in (32, 64, 128, 256)
            for x in np.arange(-9.0, -2.0)
            for decay in decays or (0.1,)
        ]
    )
    x = np.log2(table["lr"]) + 6 - exponent * np.log2(table["width"] / 32)
    y = np.log2(table["weight_decay"].clip(lower=2**-9)) + 3 if decays else 0
    return table.assign(loss=2 + 0.04 * (x**2 + y**2) + random.normal(0, 0.001, len(table)))


def exponent(fit: Group) -> float:
    """Return the fitted exponent of lr."""
    found = fit.axes["lr"].exponent
    assert found is not None
    return found.value


DECAYS = (0.0, 2**-5, 2**-4, 2**-3, 2**-2, 2**-1)


def test_weight_decay_is_an_axis_from_three_positive_values_on() -> None:
    assert axes_of(sweep(decays=DECAYS), AXES) == ["lr", "weight_decay"]
    assert axes_of(sweep(decays=(0.0, 0.1, 0.2)), AXES) == ["lr"]
    assert axes_of(sweep(), AXES) == ["lr"]


def test_a_weight_decay_that_varies_by_rounding_is_held() -> None:
    for decays, held in (([0.1, 0.1001], 0.1001), ([0.1, 0.11], None), ([0.0, 0.1], None)):
        assert held_decay(pd.DataFrame({"weight_decay": decays})) == held
    assert held_decay(pd.DataFrame({"lr": [0.1]})) is None


def test_too_few_weight_decays_count_as_one_of_the_others() -> None:
    """The fit takes the better of two at every rate, so it equals the fit of that one alone."""
    two = sweep(decays=(2**-3, 2**-1))
    better = two[two["weight_decay"] == 2**-3]
    (fit,), (alone,) = (fit_axes({"": t}, ["lr"]).values() for t in (two, better))
    assert exponent(fit) == pytest.approx(exponent(alone))


def test_a_group_has_the_axes_that_it_swept_itself() -> None:
    groups = {"with": sweep(decays=DECAYS), "without": sweep().assign(weight_decay=0.0)}
    found = fit_axes(groups, AXES, "lr_coupled")
    assert found["with"].axes.keys() == {"lr", "weight_decay"}
    (alone,) = fit_axes({"": groups["without"]}, AXES).values()
    assert found["without"].axes.keys() == alone.axes.keys() == {"lr"}
    assert exponent(found["without"]) == pytest.approx(exponent(alone))


def test_a_size_that_moves_with_width_is_named() -> None:
    table = sweep().assign(depth="4", steps="100")
    deeper = table.assign(depth=table["depth"].where(table["width"] < 128, "8"))
    for frame, warned in ((table, False), (deeper, True)):
        (fit,) = fit_axes({"": frame}, ["lr"], sizes=("depth", "steps")).values()
        assert ("size_moves_with_width" in fit.axes["lr"].warnings) == warned
    assert fit.axes["lr"].warnings["size_moves_with_width"].startswith("depth changes together")
    both = deeper.assign(steps=deeper["depth"])
    (fit,) = fit_axes({"": both}, ["lr"], sizes=("depth", "steps")).values()
    assert fit.axes["lr"].warnings["size_moves_with_width"].startswith("depth and steps change ")


def test_a_training_loss_with_another_optimum_is_named_in_the_joint_fit_too() -> None:
    table = sweep(decays=DECAYS[1:])
    x, y = np.log2(table["lr"]) + 5, np.log2(table["weight_decay"]) + 3
    other = 2 + 0.04 * (x**2 + y**2) + np.random.default_rng(1).normal(0, 0.001, len(table))
    (fit,) = fit_axes(
        {"": table.assign(train_loss=other)}, ["lr", "weight_decay"], "lr_coupled"
    ).values()
    assert "at width 32, 64, 128, 256" in fit.axes["lr"].warnings["train_eval_differ"]
    assert "train_eval_differ" not in fit.axes["weight_decay"].warnings
