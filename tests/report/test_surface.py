"""Maps of the loss over learning rate and weight decay."""

from __future__ import annotations

import re
from collections.abc import Callable

from mutransfer_cli.report.palette import SHADES
from mutransfer_cli.report.run import Run
from mutransfer_cli.report.surface import maps
from tests.report.runs import WIDTHS, bowl

RunOf = Callable[..., Run]
DECAYS = (0.25, 0.5, 1.0, 2.0, 4.0)


def test_no_map_where_only_one_of_both_varies(run_of: RunOf) -> None:
    assert maps(run_of()) == []


def test_a_map_has_a_coloured_square_for_each_cell_that_ended(run_of: RunOf) -> None:
    def loss(width: int, lr: float, decay: float, seed: int) -> float | None:
        return None if lr == 2**-3 and decay == 4.0 else bowl(width, lr, decay, seed)

    found = maps(run_of(loss=loss, decays=DECAYS))
    assert found is not None
    assert [one.title for one in found] == [
        f"Loss over learning rate and weight decay at width {width}" for width in WIDTHS
    ]
    first = found[0]
    assert first.words.startswith(
        "Lowest cell: lr 0.0156 (2^-6), weight_decay 1.00 (2^0), loss 2.499. Fitted "
    )
    assert first.words.endswith("1 of 35 cells diverged.")
    squares = re.findall(r'<path[^>]*style="fill: (var[^"]*)"', first.inline())
    assert len(squares) == 34
    assert set(squares) < {f"var(--h{level})" for level in range(len(SHADES))}
    shown = re.findall(r"<title>([^<]*)</title>", first.inline())
    assert len(shown) == 35
    assert "lr 0.125 (2^-3), weight_decay 4.00 (2^2): diverged" in shown
