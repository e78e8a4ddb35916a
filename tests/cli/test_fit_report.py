"""The fit as it is printed: bowls as bars, optima, and the numbers behind the exponent."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.cli.fit_report import print_fit, print_groups
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.fit.from_records import exponents_of

BEST = {16: -5, 32: -5, 64: -6, 128: -6}  # log2 of the best rate


class Terminal(io.StringIO):
    """Captures what a terminal would show."""

    def isatty(self) -> bool:
        return True


def table(curvature: float = 0.03) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {"width": w, "lr": 2.0**x, "eval_loss": 3 + curvature * (x - at) ** 2}
        for w, at in BEST.items()
        for x in range(-9, -2)
    ]
    found = pd.DataFrame(rows)
    found["eval_loss"] += random.normal(0, 1e-4, len(found))
    found.loc[(found["width"] == 64) & (found["lr"] == 2**-3), "eval_loss"] = np.nan
    return found


def fitted(trials: pd.DataFrame, by: str | None = None) -> Exponents:
    groups = {str(name): rows for name, rows in trials.groupby(by)} if by else {"": trials}
    fits = fit_axes(groups, ["lr"], loss="eval_loss")
    return exponents_of("eval_loss", {"ok": len(trials)}, fits, None, by)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    def show(trials: pd.DataFrame, stream: io.StringIO | None = None) -> list[str]:
        stream = stream or io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        print_fit(fitted(trials), trials)
        return stream.getvalue().splitlines()

    return show


def test_bars_show_how_far_a_loss_is_above_the_best_of_its_width(
    shown: Callable[..., list[str]],
) -> None:
    """0.25 nats fill a bar; the best is named and a diverged cell crossed out."""
    lines = shown(table())
    assert lines[0].strip() == "eval loss above the best of its width (nats)"
    assert lines[1].split() == ["width", *(f"2^{x}" for x in range(-9, -2))]
    cells = "0.480 █  0.270 █  0.120 ▄  0.030 ▁    best  0.030 ▁  0.120 ▄"
    assert lines[2].split()[1:] == cells.split()
    row = lines[4].split()
    assert (row[0], row[-1]) == ("64", "x")
    assert "best" in row


def test_the_optima_follow_with_their_intervals(shown: Callable[..., list[str]]) -> None:
    lines = shown(table())
    at = next(i for i, line in enumerate(lines) if line.strip() == "optimal lr by width")
    assert lines[at + 1].split()[:3] == ["width", "optimum", "95"]
    for line, (width, best) in zip(lines[at + 2 :], BEST.items(), strict=False):
        first, optimum, *_, status = line.split()
        assert (first, status) == (str(width), "ok")
        assert float(optimum.removeprefix("2^")) == pytest.approx(best, abs=0.1)


def test_a_terminal_shows_the_same_tables(shown: Callable[..., list[str]]) -> None:
    plain, terminal = shown(table()), "\n".join(shown(table(), Terminal()))
    for cell in plain[2].split() + plain[-2].split():
        assert cell in terminal


def test_the_exponent_comes_with_what_is_behind_it(shown: Callable[..., list[str]]) -> None:
    text = " ".join(shown(table()))
    assert "exponent of lr: -0." in text
    for part in (
        "scatter between widths +-",
        "measurement +-",
        "; parabolas -",
        "largest left out",
    ):
        assert part in text


def test_groups_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    both: Any = pd.concat([table().assign(kind="a"), table().query("width < 64").assign(kind="b")])
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    print_groups(fitted(both, "kind"), "kind")
    first, *second = stream.getvalue().splitlines()
    assert first.startswith("kind a: exponent of lr: -0.")
    assert second[0].startswith("kind b: exponent of lr: insufficient. 2 of 2 widths")
