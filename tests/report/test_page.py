"""The page of a sweep: what to do first, then its sections, without empty ones."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from mutransfer_cli.check.measure import gate, measure, unmeasured
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.words import rate_and_power
from tests.report.pages import Page
from tests.report.runs import RATES, WIDTHS, bowl

PageOf = Callable[..., Page]
Run = Callable[..., Any]
DECAYS = (0.25, 0.5, 1.0, 2.0, 4.0)
OPTIMA = "Optimal learning rate by width"
HOSTILE = '</script><script>alert(1)</script><img src="http://a.b/c.png">$x_1$&'


def product_only(width: int, lr: float, decay: float, seed: int) -> float:
    """A loss with a ridge: only lr * weight_decay matters."""
    return bowl(width, lr * decay, 1.0, seed)


def diverges(width: int, lr: float, decay: float, seed: int) -> float | None:
    return None if lr >= 2**-4 else bowl(width, lr, decay, seed)


def test_every_picture_has_a_text_alternative(page_of: PageOf) -> None:
    page = page_of(decays=DECAYS)
    of_widths = [
        title.format(width)
        for width in WIDTHS
        for title in (
            "Training at width {}",
            "Loss over learning rate and weight decay at width {}",
        )
    ]
    of_axes = [
        title.format(axis)
        for axis in ("learning rate", "weight decay")
        for title in (
            "Loss against {} by width",
            "Optimal {} against width",
            "Loss against width at the transferred {}",
        )
    ]
    measured = [
        "Alignment at the end",
        "Top singular values at the end",
        "Relative updates halfway",
        "Activations at init",
        "Activations at the end",
        "Change of activations from init to the end",
    ]
    expected = {"Exponents with their intervals", *of_widths, *of_axes, *measured}
    assert set(page.pictures) == expected
    assert page.unnamed == 0
    assert page.tags["figure"] == page.tags["svg"] == page.tags["figcaption"] == len(expected)
    assert len(set(page.ids)) == len(page.ids)


def test_nothing_is_loaded_and_nothing_runs(page_of: PageOf) -> None:
    page = page_of()
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.tags["script"] == 1, "the data"
    assert not {"link", "img", "iframe", "object"} & page.tags.keys()


def test_the_numbers_are_those_of_the_fit(page_of: PageOf, run: Run) -> None:
    page = page_of()
    fit = json.loads(run("fit-exponents", page.folder, "--json").stdout)
    assert page.data["exponents"] == fit
    exponent = fit["axes"]["lr"]["exponent"]
    low, high = exponent["low"], exponent["high"]
    first = page.text.split("Learning rate (lr)")[0]
    assert f"{exponent['value']:+.3f}95% interval {low:+.3f} to {high:+.3f}" in first
    _, *rows = page.tables[OPTIMA]
    for width, row in zip(WIDTHS, rows, strict=True):
        optimum = fit["axes"]["lr"]["optimum"][str(width)]
        assert row[:2] == [str(width), rate_and_power(optimum["value"])]
        assert row[3] == f"{optimum['loss']:#.4g}"
    assert high - low < 0.2
    assert page.data["verdicts"] == {"lr": "pass"}


def test_every_trial_is_there_twice(page_of: PageOf) -> None:
    page = page_of(loss=diverges)
    _, *rows = page.tables["56 trials"]
    assert len(rows) == len(page.data["trials"]) == len(WIDTHS) * len(RATES) * 2
    statuses = [row[4] for row in rows]
    assert statuses.count("diverged") == len(WIDTHS) * 2 * 2
    assert {row[7] for row in rows if row[4] == "diverged"} == {"7"}


@pytest.mark.parametrize(
    ("drift", "verdict", "headline"),
    [
        (0.0, "pass", "The learning rate transfers across width"),
        (-1.0, "fail", "The learning rate does not transfer across width"),
        (-0.1, "inconclusive", "Inconclusive: the data do not yet show whether the learning rate"),
    ],
)
def test_the_answer_comes_first(page_of: PageOf, drift: float, verdict: str, headline: str) -> None:
    page = page_of(
        loss=partial(bowl, drift=drift), rates=tuple(2.0**x for x in range(-11, 0)), measured=False
    )
    assert page.data["verdicts"] == {"lr": verdict}
    use = r"At width 1024 use lr 0\.\d+; between 0\.\d+ and 0\.\d+ with 95%\."
    first = rf"report: run{use}No target was given[^.]*\.{headline}[^.]*\.. {verdict}exponent"
    assert re.search(first, page.text)
    assert page.html.index("<h1>") < page.html.index("<svg")


@pytest.mark.parametrize(
    ("lr", "decay", "headline"),
    [
        (0.0, 0.0, "The learning rate transfers across width; the weight decay does too"),
        (0.0, -0.5, "The learning rate transfers across width; the weight decay does not"),
        (-0.5, 0.0, "The learning rate does not transfer across width; the weight decay does"),
    ],
)
def test_the_headline_speaks_of_every_axis(
    page_of: PageOf, lr: float, decay: float, headline: str
) -> None:
    def loss(width: int, rate: float, weight_decay: float, seed: int) -> float:
        return bowl(width, rate, weight_decay * (width / 32) ** -decay, seed, drift=lr)

    page = page_of(name=f"run{lr}{decay}", loss=loss, decays=DECAYS, measured=False)
    assert f"{headline}" in page.text


def test_diverged_trials_are_marked_and_counted(page_of: PageOf) -> None:
    page = page_of(loss=diverges)
    words = page.pictures["Training at width 16"]
    assert words.startswith("14 trials, 4 diverged (lr 0.0625, 0.125).")
    assert "x at the top: diverged" in page.text


def test_a_ridge_is_drawn_and_said(page_of: PageOf) -> None:
    page = page_of(loss=product_only, decays=DECAYS, measured=False)
    assert "Any swept lr will do, with the weight_decay that gives this product." in page.text
    assert "there is no best" not in page.text
    (angle,) = re.findall(r"the direction across it lies ([0-9.]+) ± ", page.text)
    assert float(angle) == pytest.approx(45, abs=1)
    assert page.data["exponents"]["axes"]["lr"]["status"] == "ridge"
    assert (
        "Learning rate and weight decay cannot be told apart; the product of the two" in page.text
    )
    assert page.data["verdicts"]["lr * weight_decay"] == "pass"
    assert page.text.count("lr and weight_decay lie on a ridge") == 1, "one block for both"
    assert re.search(r"exponent of lr \* weight_decay[+-]0\.00\d95", page.text)


FLAT = [measure(f"change of blocks.{n}, slope in width", 0.01, (0, 0.02), 0, 0.25) for n in (0, 1)]
STEEP = measure(
    "effective update of blocks.*.attention.out.weight, slope in width", 1.0, (0.9, 1.1), 0, 0.25
)
UNSEEN = unmeasured("activation of down, slope in width", "it is not finite", 0, 0.25, "")
SHARE = measure("excess loss of lr 0.01 at width 256", 0.01, (0.0, 0.02), 0, 0.015, "nats")
GATES = (
    gate("transfer", [SHARE], ["a finding with <b>marks</b>"]),
    gate("coordinates", [*FLAT, FLAT[0], STEEP, UNSEEN], evidence={"widths": "64, 128"}),
)


def test_what_was_checked_is_shown_with_its_failures(page_of: PageOf) -> None:
    page = page_of(gates=GATES)
    assert page.text.index("Checks: fail") < page.text.index("Learning rate (lr)")
    shown = page.text.split("Checks: fail")[1].split("Learning rate (lr)")[0]
    assert "found about runs/mine" in shown
    assert "a finding with <b>marks</b>" in shown
    assert STEEP.sentence in shown
    assert "3 of 5 quantities lie within their tolerance" in shown
    _, *rows = page.tables["All checked quantities"]
    assert rows[0] == [
        "transfer",
        "excess loss of lr 0.01 at width 256",
        "0.0100 nats",
        "0 to 0.0200 nats",
        "±0.0150 nats",
        "inconclusive",
    ]
    assert [row[2:] for row in rows[-2:]] == [
        ["1.00", "0.900 to 1.10", "±0.250", "fail"],
        ["", "", "±0.250", "inconclusive"],
    ]
    words = page.pictures["Slopes in width with their intervals"]
    assert STEEP.sentence in words
    assert "not finite" not in words
    assert page.data["check"]["verdict"] == "fail"


def test_many_checked_slopes_are_several_pictures(page_of: PageOf) -> None:
    many = [
        measure(f"change of layer{n}, slope in width", 0.0, (0, 0.02), 0, 0.25) for n in range(25)
    ]
    page = page_of(gates=(gate("coordinates", many),), measured=False)
    words = [page.pictures[f"Slopes in width with their intervals, {n} of 3"] for n in (1, 2, 3)]
    assert [text.count("slope in width is") for text in words] == [9, 9, 7]


def test_checked_slopes_are_shown_without_measurements_in_training(page_of: PageOf) -> None:
    page = page_of(gates=GATES[1:], measured=False)
    assert "Slopes in width with their intervals" in page.pictures
    assert "Coordinate check" in page.text
    assert "Diagnostics against width" not in page.text


def test_slopes_of_activations(page_of: PageOf) -> None:
    tables = page_of().tables
    (table,) = (rows for label, rows in tables.items() if label.startswith("Slopes of log RMS"))
    assert table[1:] == [["blocks.0", "+0.50 (+0.50 to +0.50)", "+0.25 (+0.25 to +0.25)"]]


ALWAYS = {"axis-lr", "provenance", "numbers"}


@pytest.mark.parametrize(
    ("options", "sections"),
    [
        ({}, {"forecast", "curves", "diagnostics", "coordinates"}),
        ({"measured": False}, {"forecast"}),
        ({"decays": DECAYS, "measured": False}, {"axis-weight_decay", "forecast", "joint"}),
        ({"widths": [32], "measured": False}, set()),
        ({"loss": lambda *_: None, "measured": False}, set()),
    ],
)
def test_empty_sections_are_left_out(
    page_of: PageOf, options: dict[str, Any], sections: set[str]
) -> None:
    page = page_of(**options)
    found = re.findall('<section id="([^"]*)"', page.html)
    assert {*found} - {"warnings"} == ALWAYS | sections
    assert ('id="warnings"' in page.html) == bool(page.data["warnings"])
    assert "Left out" not in page.text
    assert page.unnamed == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"widths": [32]}, "For width 256 there is no best learning rate yet."),
        ({"widths": [32, 64]}, "Too little evidence"),
        ({"rates": [2**-6]}, "No width has a usable optimum of lr"),
        ({"rates": [2**-2, 2**-1, 1.0, 2.0]}, "add lower values of lr"),
    ],
)
def test_what_a_sweep_lacks_is_said(
    page_of: PageOf, options: dict[str, Any], sentence: str
) -> None:
    assert sentence in page_of(**options).text


def astray(width: int, lr: float, decay: float, seed: int) -> float:
    return 9.0 if (width, lr, seed) == (64, 2**-5, 1) else bowl(width, lr, decay, seed)


def test_runs_that_were_not_fitted_are_listed(page_of: PageOf) -> None:
    assert "Runs that were not fitted" not in page_of().tables
    page = page_of(loss=astray, measured=False)
    _, *rows = page.tables["Runs that were not fitted"]
    (found,) = page.data["exponents"]["axes"]["lr"]["left_out"]
    assert [row[:4] + row[5:] for row in rows] == [
        ["64", "0.0312 (2^-5)", "1", "9.000", "off the bowl of all others"]
    ]
    assert rows[0][4] == f"{found['excess']:.3g}"


def test_the_forecast_is_for_eight_times_the_largest_width(page_of: PageOf) -> None:
    page = page_of()
    assert "Forecast for width 1024" in page.text
    assert "No target was given (--width): 1024 is 8 times the largest fitted width." in page.text
    _, (name, value, interval, cost) = page.tables["Best base values at width 1024"]
    assert (name, cost.split()[1]) == ("lr", "nats")
    assert value == rate_and_power(2 ** page_axis(page).at(1024).value)
    between = interval.replace("to", "and")
    assert f"At width 1024 use lr {value.split()[0]}; between {between} with 95%." in page.text


def page_axis(page: Page) -> Axis:
    return Axis.model_validate(page.data["exponents"]["axes"]["lr"])


def test_the_target_is_that_of_the_recipe_in_the_folder(
    page_of: PageOf, run: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(page_of(measured=False).folder, tmp_path / "sweep")
    fit = tmp_path / "exponents.yaml"
    assert run("fit-exponents", folder, "-o", fit).exit_code == 0
    for width in (256, 512):
        saved = folder / f"recipe-{width}.yaml"
        assert run("transfer", fit, "--width", width, "-o", saved).exit_code == 0
    text = run("report", folder).stdout
    assert "At width 512 use lr " in text
    assert "Width 512 is that of recipe-512.yaml, 4 times the largest fitted width." in text
    assert "At width 256 use lr " in run("report", folder, "--width", 256).stdout
    saved.write_text("schema: mutransfer.recipe/1\nwidth: big\n")
    failed = run("report", folder)
    assert failed.exit_code == 2
    assert "recipe-512.yaml" in failed.stderr


def test_text_of_files_is_only_text(page_of: PageOf) -> None:
    page = page_of(name="<b>&amp;", widths=[16, 32], module=HOSTILE, device=HOSTILE)
    assert page.tags["script"] == 1
    assert not {"img", "b"} & page.tags.keys()
    assert page.html.count(escape(HOSTILE)) >= 4, "tables and text alternatives"
    assert page.tables["Where the numbers come from"][-1][1] == HOSTILE
    assert "report: <b>&amp;" in page.text
    assert page.data["name"] == "<b>&amp;"


def test_a_page_is_the_same_every_time(page_of: PageOf, run: Run) -> None:
    page = page_of(widths=[32])
    assert run("report", page.folder).stdout == page.html
