"""Forecasts of one future run, and the words that go with them."""

from __future__ import annotations

import math

import pytest

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.recipe.forecast import by_forms, forecast, from_octaves
from tests.fit.test_exponents import BENT, OPTIMUM, axis

BOWL = {"curvature": 0.01, "tilt": 0.0}


def with_bowls(fit: Axis) -> Axis:
    bowls = {w: at.model_copy(update=BOWL) for w, at in fit.usable.items()}
    return fit.model_copy(update={"optimum": bowls})


def test_a_straight_law_has_the_interval_of_its_line() -> None:
    fit = with_bowls(axis(forms=BENT.model_copy(update={"bend": 0.0})))
    found, at = forecast("lr", fit, 256, None, "nats"), fit.at(256)
    assert (found.low, found.high) == pytest.approx((2**at.low, 2**at.high))
    assert math.sqrt(found.low * found.high) == pytest.approx(2**-7)
    assert found.expected_excess_loss == fit.excess_at(256)
    assert found.sentence == (
        "at width 256 use lr 0.00781; between 0.00479 and 0.0128 with 95%; that is 2x the largest "
        "fitted width, and using 0.00781 is expected to cost 0.0013 nats"
    )


def test_a_bent_law_counts_the_forms_and_says_so() -> None:
    found = forecast("lr", with_bowls(axis(forms=BENT)), 256, None, "nats")
    assert found.high == pytest.approx(2 ** (-5.25 + 0.6))
    assert found.forms == pytest.approx({"curved": 2**-5.25, "saturating": 2**-6.5})
    assert found.sentence.endswith(
        "is expected to cost up to 0.031 nats; as the optima bend away from the line, this counts "
        "the curved form (0.0263) and the saturating form (0.0110) too"
    )
    without_bowls = forecast("lr", axis(forms=BENT), 256, None, "nats")
    assert "largest fitted width; as the optima bend" in without_bowls.sentence
    assert without_bowls.expected_excess_loss is None


def test_few_widths_assume_that_the_law_is_straight() -> None:
    assert forecast("lr", axis(), 256, None, "nats").sentence.endswith(
        "; that the law is straight is assumed"
    )
    assert "straight" not in forecast("lr", axis(), 64, None, "nats").sentence
    assert by_forms(axis(), 256) == {}


def test_a_cost_beyond_all_compute_is_refused() -> None:
    fit = with_bowls(axis())
    found = forecast("lr", fit, 256, 0.01, "nats")
    assert found.compute_multiplier == pytest.approx(2 ** ((fit.excess_at(256) or 0) / 0.01))
    with pytest.raises(InputError, match="no compute buys back"):
        forecast("lr", fit, 256, 1e-9, "nats")


def test_values_beyond_all_numbers_are_refused() -> None:
    assert from_octaves(-3, "it") == 0.125
    with pytest.raises(InsufficientEvidence, match=r"it reaches 2\^300"):
        from_octaves(300, "it")
    steep = axis(forms=BENT.model_copy(update={"bend": 1.0}))
    with pytest.raises(InsufficientEvidence, match="sweep wider apart"):
        forecast("lr", steep, 2**30, None, "nats")
    assert OPTIMUM.curvature is None
