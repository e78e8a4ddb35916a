from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mutransfer_cli.diagnose import sizes
from mutransfer_cli.diagnose.sizes import top_by_name, top_singular_values

WITHIN = 0.01


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(matrices: Tensor) -> Tensor:
    tops: Tensor = torch.linalg.svdvals(matrices.double())[..., 0]
    return tops


# Gaussian matrices have no gap between the largest singular value and the next
GAUSSIAN = [(60, 256, 256), (60, 64, 64), (8, 512, 128), (8, 128, 512), (8, 8, 8), (3, 1, 6)]


@pytest.mark.parametrize("shape", GAUSSIAN)
def test_within_a_hundredth_where_the_spectrum_has_no_gap(shape: tuple[int, ...]) -> None:
    matrices = draw(*shape)
    relative = top_singular_values(matrices).double() / exact(matrices)
    assert float(relative.min()) > 1 - WITHIN
    assert float(relative.max()) < 1 + 1e-5, "never above"


def test_so_it_would_not_be_with_half_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "STEPS", sizes.STEPS // 2)
    matrices = draw(60, 256, 256)
    assert float((top_singular_values(matrices) / exact(matrices)).min()) < 1 - WITHIN


def test_exact_where_training_has_made_one_direction_stand_out() -> None:
    matrices = draw(8, 256, 256) + draw(8, 256, 1) * draw(8, 1, 256, seed=1)
    torch.testing.assert_close(
        top_singular_values(matrices).double(), exact(matrices), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_of_low_rank(rank: int) -> None:
    matrices = draw(4, 64, rank) @ draw(4, rank, 48, seed=1)
    torch.testing.assert_close(
        top_singular_values(matrices).double(), exact(matrices), rtol=1e-5, atol=0
    )


def test_its_square_need_not_be_a_number_of_float32() -> None:
    matrices = 1e-30 * draw(4, 32, 32)
    torch.testing.assert_close(
        top_singular_values(matrices).double(), exact(matrices), rtol=WITHIN, atol=0
    )


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_diverged_matrix_has_none_and_its_neighbours_theirs(wrong: float) -> None:
    matrices = draw(3, 16, 16)
    alone = top_singular_values(matrices)
    matrices[1, 2, 3] = wrong
    found = top_singular_values(matrices)
    assert found.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found[::2], alone[::2])


def test_by_name_whatever_the_shapes_and_how_many_are_taken_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two trials: matrices of one shape, its transpose and another, and three stacked experts."""
    stacks = {
        "up": draw(2, 32, 8),
        "down": draw(2, 8, 32, seed=1),
        "other": draw(2, 5, 7, seed=2),
        "experts": draw(2, 3, 32, 8, seed=3),
    }
    for most in (1, 600, 1 << 20):
        monkeypatch.setattr(sizes, "MOST_VALUES", most)
        found = top_by_name(stacks)
        assert list(found) == list(stacks)
        for name, stack in stacks.items():
            expected = exact(stack).reshape(2, -1).amax(1)
            torch.testing.assert_close(found[name].double(), expected, rtol=WITHIN, atol=0)
