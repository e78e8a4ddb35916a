"""Tables of trials before they become cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mutransfer_cli.fit.table import cell_means, profile


def test_the_best_of_another_axis_is_taken_at_each_value() -> None:
    random = np.random.default_rng(0)
    both = pd.DataFrame(
        [
            {"width": w, "lr": lr, "factor": factor, "loss": random.uniform()}
            for w in (32, 64)
            for lr in (0.1, 0.2, 0.3)
            for factor in (0.5, 1.0)
        ]
    )
    by_factor = profile(both, ["factor"], ["lr"], "loss")
    assert len(by_factor) == 2 * 2
    best = both.groupby(["width", "factor"])["loss"].min()
    assert by_factor.sort_values(["width", "factor"])["loss"].tolist() == best.tolist()


def test_a_combination_that_diverged_is_never_the_best() -> None:
    frame = pd.DataFrame(
        {
            "width": 32,
            "lr": 0.1,
            "factor": [1.0, 1.0, 2.0, 2.0],
            "seed": [0, 1, 0, 1],
            "loss": [3.0, 3.0, 1.0, np.nan],
        }
    )
    assert set(profile(frame, ["lr"], ["factor"], "loss")["factor"]) == {1.0}
    assert cell_means(frame, ["factor"], "loss")["loss"].tolist() == [3.0, np.inf]
