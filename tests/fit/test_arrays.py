from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import nanmedian, t_quantile


def test_half_widths_are_those_of_student() -> None:
    assert t_quantile(1) == pytest.approx(12.706, abs=1e-3)
    assert t_quantile([4, np.inf]) == pytest.approx([2.776, 1.960], abs=1e-3)


def test_the_median_leaves_out_what_is_missing() -> None:
    values = np.array([[3.0, np.nan, 1.0, 8.0], [np.nan, 4.0, 2.0, np.nan], [np.nan] * 4])
    np.testing.assert_array_equal(nanmedian(values, axis=1), [3.0, 3.0, np.nan])
    np.testing.assert_array_equal(nanmedian(values[:2], axis=0), [3.0, 4.0, 1.5, 8.0])
