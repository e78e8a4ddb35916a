from __future__ import annotations

import pytest
import torch

from mutransfer_cli.diagnose import sizes
from mutransfer_cli.diagnose.sizes import relative_update, rms, sample


def test_the_rms_of_each_trial() -> None:
    stack = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert rms(stack).tolist() == [2.5, 1.0]
    assert rms(torch.tensor([2.0, -3.0])).tolist() == [2.0, 3.0], "one number a trial"


def test_of_gradients_whose_squares_are_no_numbers_of_float32() -> None:
    assert rms(torch.full((1, 4), 1e-30)).item() == pytest.approx(1e-30)


def test_the_update_relative_to_what_was_there() -> None:
    before = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])
    after = torch.tensor([[[3.0, 4.5]], [[1.0, 0.0]]])
    found = relative_update(before, after)
    assert found[0].item() == pytest.approx(0.1)
    assert not found[1].isfinite(), "nothing was there"


def test_a_sample_is_the_output_itself_where_it_is_small() -> None:
    output = torch.arange(24.0).view(2, 3, 4)
    assert sample(output).tolist() == output.flatten().tolist()


@pytest.mark.parametrize("features", [6, 8, 15])
@pytest.mark.parametrize("most", [16, 32, 63])
def test_a_sample_of_a_large_output_holds_every_feature(
    monkeypatch: pytest.MonkeyPatch, most: int, features: int
) -> None:
    monkeypatch.setattr(sizes, "MOST_VALUES", most)
    found = sample(torch.arange(features).expand(16, features))
    assert features <= len(found) <= most
    assert set(found.tolist()) == set(range(features))
