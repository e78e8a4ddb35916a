from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import nanmedian, padded, t_quantile


def test_half_widths_are_those_of_student() -> None:
    assert t_quantile(1) == pytest.approx(12.706, abs=1e-3)
    assert t_quantile([4, np.inf]) == pytest.approx([2.776, 1.960], abs=1e-3)


def test_the_median_leaves_out_what_is_missing() -> None:
    values = np.array([[3.0, np.nan, 1.0, 8.0], [np.nan, 4.0, 2.0, np.nan], [np.nan] * 4])
    np.testing.assert_array_equal(nanmedian(values, axis=1), [3.0, 3.0, np.nan])
    np.testing.assert_array_equal(nanmedian(values[:2], axis=0), [3.0, 4.0, 1.5, 8.0])


def test_parts_are_filled_up_at_their_ends() -> None:
    """Two sweeps of two widths: the second size is that of the parts, the first is at least 3."""
    parts = [np.ones((2, 1)), np.ones((1, 2)), np.ones((2, 2)), np.ones((0, 1))]
    found = padded(parts, 2, -1.0, least=(3,))
    assert found.shape == (2, 2, 3, 2)
    assert found[0, 0].tolist() == [[1, -1], [1, -1], [-1, -1]]
    assert found[0, 1].tolist() == [[1, 1], [-1, -1], [-1, -1]]
    assert (found[1, 1] == -1).all()
    assert padded([np.zeros(0)], 1, 7.0).tolist() == [[[7.0]]]
