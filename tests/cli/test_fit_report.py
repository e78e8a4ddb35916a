"""The fit as it is printed: bowls as bars, optima, and the numbers behind the exponent."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.cli.fit_report import print_fit, print_groups
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.exponent import without_law
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
    lines = lines[lines.index("eval loss above the best of its width (nats), by lr") :]
    assert lines[1].split()[:3] == ["width", "0.00195", "0.00391"]
    assert lines[2].split() == [f"2^{x}" for x in range(-9, -2)]
    cells = "0.480 █  0.270 █  0.120 ▄  0.030 ▁    best  0.030 ▁  0.120 ▄"
    assert lines[3].split()[1:] == cells.split()
    row = lines[5].split()
    assert (row[0], row[-1]) == ("64", "x")
    assert "best" in row


def test_a_fine_grid_continues_in_further_tables(shown: Callable[..., list[str]]) -> None:
    """27 rates do not fit into 110 characters."""
    random = np.random.default_rng(0)
    fine = pd.DataFrame(
        [
            {
                "width": w,
                "lr": 2.0**x,
                "eval_loss": 3 + 0.03 * (x + 6) ** 2 + random.normal(0, 1e-4),
            }
            for w in BEST
            for x in np.arange(-9.25, -2.5, 0.25)
        ]
    )
    lines = shown(fine)
    parts = [line.split() for line in lines if line.strip().startswith("2^")]
    assert [len(part) for part in parts] == [9, 9, 9]
    assert [word for part in parts for word in part] == [
        f"2^{x:g}" for x in np.arange(-9.25, -2.5, 0.25)
    ]
    assert "…" not in "".join(lines)


def test_the_optima_follow_with_their_intervals(shown: Callable[..., list[str]]) -> None:
    lines = shown(table())
    at = lines.index("optimal lr by width")
    assert lines[at + 1].split() == ["width", "best", "lr", "95%", "interval", "loss"]
    for line, (width, best) in zip(lines[at + 2 :], BEST.items(), strict=False):
        first, optimum, octaves, low, _, high, loss = line.split()
        assert (first, loss) == (str(width), "3.000")
        assert float(octaves.strip("()").removeprefix("2^")) == pytest.approx(best, abs=0.1)
        assert math.log2(float(optimum)) == pytest.approx(best, abs=0.1)
        assert float(low) <= float(optimum) <= float(high)


def test_an_optimum_that_is_not_used_says_why(shown: Callable[..., list[str]]) -> None:
    trials = table()
    lines = shown(trials[(trials["width"] != 16) | (trials["lr"] <= 2**-6)])
    row = lines[lines.index("optimal lr by width") + 2]
    assert row.split() == ["16", "-", "beyond", "the", "highest"]


def test_without_an_exponent_the_sentence_says_what_to_add(
    shown: Callable[..., list[str]],
) -> None:
    lines = shown(table().query("width > 32"))
    assert lines[0] == "Too little evidence to say whether the learning rate transfers."
    assert "2 of 2 widths have a usable optimum, 3 are needed: add at least 1 width." in lines


def test_a_terminal_shows_the_same_tables(shown: Callable[..., list[str]]) -> None:
    plain, terminal = shown(table()), "\n".join(shown(table(), Terminal()))
    for cell in plain[2].split() + plain[-2].split():
        assert cell in terminal


def test_the_exponent_comes_with_what_is_behind_it(shown: Callable[..., list[str]]) -> None:
    text = " ".join(shown(table()))
    assert "exponent of lr: -0." in text
    for part in (
        "The best learning rate scales as width^-0.",
        "no protocol says what the rule expects",
        "from width 16 to 128 the best lr changes by a factor of 0.",
        "scatter of the optima about the line ±0.",
        "noise of the losses ±0.",
        "without the largest width, -0.",
        "from the middle of each bowl alone",
    ):
        assert part in text


def test_groups_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    both: Any = pd.concat([table().assign(kind="a"), table().query("width < 64").assign(kind="b")])
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    print_groups(fitted(both, "kind"), "kind")
    first, *second = stream.getvalue().splitlines()
    assert first.startswith("kind a: exponent of lr: -0.")
    assert second[0].startswith("kind b: no exponent of lr: 2 of 2 widths")


def printed(monkeypatch: pytest.MonkeyPatch, document: Exponents) -> str:
    """All that is printed about groups, on one line."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    print_groups(document, "kind")
    return " ".join(stream.getvalue().split())


def warned(**warnings: dict[str, str]) -> Exponents:
    """Groups with equal fits and such warnings."""
    (one,) = fit_axes({"": table()}, ["lr"], loss="eval_loss").values()
    axis = one.axes["lr"].model_copy(update={"warnings": {}})
    groups = {
        name: one.model_copy(update={"axes": {"lr": axis.warned(sentences)}})
        for name, sentences in warnings.items()
    }
    return exponents_of("eval_loss", {"ok": 1}, groups, None, "kind")


def test_a_warning_about_groups_is_printed_once_with_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deep = {"size_moves_with_width": "depth changes together with width"}
    groups = {f"g{i}": deep for i in range(8)}
    shown = printed(monkeypatch, warned(**groups, other={"near_edge": "extend the grid"}))
    assert "warning: kind g0, g1, g2, g3, g4 and 3 more: depth changes together" in shown
    assert "warning: kind other: extend the grid" in shown
    assert shown.count("warning") == 2


def test_warnings_of_one_kind_that_differ_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {f"g{i}": {"near_edge": f"at width {i}"} for i in range(400)}
    shown = printed(monkeypatch, warned(**groups, last={"near_edge": "at width 7"}))
    assert "warning: kind g7, last: at width 7 warning: kind g0: at width 0 " in shown
    assert "warning: 397 more groups are alike, each with a sentence of its own in the" in shown
    assert shown.count("warning") == 4


def test_a_warning_of_several_axes_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ridge has no exponent, but its warnings count as well."""
    (one,) = fit_axes({"": table()}, ["lr"], loss="eval_loss").values()
    axis = one.axes["lr"].warned({"equal_replicates": "rows were pasted twice"})
    ridge = without_law("ridge", "a ridge", axis.warnings | {"mine": "only here"}, axis.optimum)
    pair = one.model_copy(update={"axes": {"lr": axis, "weight_decay": ridge}})
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    document = exponents_of("eval_loss", {"ok": 1}, {"": pair}, None)
    print_fit(document, table().drop(columns="eval_loss"))
    assert stream.getvalue().count("warning: rows were pasted twice") == 1
    assert "warning: only here" in stream.getvalue()


def test_rates_that_differ_by_rounding_are_one_column(run: Callable[..., Any]) -> None:
    exact = table().assign(seed=0)
    mixed = exact.assign(seed=1, lr=exact["lr"].map(lambda lr: float(f"{lr:.2e}")))
    rows = pd.concat([exact, mixed.assign(eval_loss=mixed["eval_loss"] + 1e-3)])
    result = run("fit-exponents", stdin=rows.to_csv(index=False))
    (head,) = (line.split() for line in result.stderr.splitlines() if line.strip()[:2] == "2^")
    assert head == [f"2^{x}" for x in range(-9, -2)]
