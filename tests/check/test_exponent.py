"""Gate `exponent`: the fitted exponent against the rule's."""

from __future__ import annotations

import pytest

from mutransfer_cli.check.exponent import exponent_gate, what_decides
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.exponents import Axis, Group
from tests.fit.test_exponent import sweep

WIDTHS = (32, 64, 128, 256)


def group(expected: float | None, exponent: float = 0.0, widths: tuple[int, ...] = WIDTHS) -> Group:
    """The fit of a sweep, where a rule expects an exponent."""
    (fit,) = fit_axes({"": sweep(exponent, widths)}, ["lr"]).values()
    axis = fit.axes["lr"].model_copy(update={"expected_exponent": expected})
    return Group(axes={"lr": axis})


@pytest.mark.parametrize(("expected", "verdict"), [(0.0, "pass"), (-0.5, "fail")])
def test_the_interval_is_judged_about_the_rule(expected: float, verdict: str) -> None:
    gate = exponent_gate(group(expected))
    assert (gate.gate, gate.verdict) == ("exponent", verdict)
    (measure,) = gate.measures
    assert (measure.quantity, measure.expected) == ("exponent of lr", expected)
    assert (measure.tolerance, measure.unit) == (0.1, "")


def test_three_widths_leave_it_open_and_more_would_decide() -> None:
    (measure,) = exponent_gate(group(0.0, widths=(32, 64, 128)), tolerance=0.02).measures
    assert measure.verdict == "inconclusive"
    assert "the same runs at width 192 would decide it" in measure.sentence


def test_runs_decide_too_where_no_scatter_is_seen() -> None:
    found = group(0.0)
    axis = found.axes["lr"]
    assert axis.line is not None
    for scatter, more in ((0.0, True), (0.1, False)):
        line = axis.line.model_copy(update={"scatter": scatter})
        wide = {"low": -0.2, "value": 0.0, "high": 0.2, "level": 0.95}
        changed = Axis.model_validate(axis.model_dump() | {"line": line, "exponent": wide})
        (measure,) = exponent_gate(Group(axes={"lr": changed})).measures
        assert ("so would 4 times the runs" in measure.sentence) == more


@pytest.mark.parametrize(
    ("low", "high", "clause"),
    [
        (-0.12, 0.1, "the same runs at width 384 would decide it"),
        (-0.4, 0.6, "so near the edge of the tolerance four larger widths would not decide it"),
        (-2.0, 2.0, "four larger widths would not decide it; add seeds, and rates near"),
    ],
)
def test_what_would_decide_follows_from_the_room_that_is_left(
    low: float, high: float, clause: str
) -> None:
    axis = group(0.0).axes["lr"]
    assert axis.line is not None
    line = axis.line.model_copy(update={"scatter": 0.1})
    wide = {"low": low, "value": (low + high) / 2, "high": high, "level": 0.95}
    changed = Axis.model_validate(axis.model_dump() | {"line": line, "exponent": wide})
    assert what_decides(changed).startswith(clause)


def test_a_fit_without_an_exponent_is_open() -> None:
    gate = exponent_gate(group(0.0, widths=(32, 64)))
    assert gate.verdict == "inconclusive"
    assert "2 of 2 widths have a usable optimum, 3 are needed" in gate.measures[0].sentence


def test_without_a_rule_nothing_can_be_judged() -> None:
    with pytest.raises(InputError, match="with a protocol for their table"):
        exponent_gate(group(None))
