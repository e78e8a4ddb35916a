"""Derived learning-rate exponents against Table 1 of Everett et al. 2024 (arXiv 2407.05872)."""

from __future__ import annotations

from fractions import Fraction
from itertools import product as pairs

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import (
    ADAMW,
    ALIGNMENTS,
    FULL,
    MATRIX_ROLES,
    NONE,
    PARAMETERIZATIONS,
    Alignment,
    LayerAlignment,
    LrAdjustment,
    ParameterizationName,
    gradient_exponents,
)
from mutransfer_cli.rules.stability import derive_rates

# c of embedding, hidden, readout in lr ~ n^-c, under full and under no alignment. SGD and Adam are
# as printed in the paper; Adafactor follows from its constraints. Under SGD without alignment the
# readout of mup and mean_field alone could be faster by n^1/2 and slow the layers below by more.
TABLE_1 = """
    standard    sgd        -1/2  1/2  1     -1/2  0     1/2
    standard    adam        0    1    1      0    1/2   1/2
    standard    adafactor   0    1/2  1/2    0    0     0
    ntk         sgd        -1/2 -1/2  0     -1/2 -1    -1/2
    ntk         adam        0    1/2  1/2    0    0     0
    ntk         adafactor   0    1/2  1/2    0    0     0
    mup         sgd         0    0    0      0   -1/2   0
    mup         adam        1/2  1    1/2    1/2  1/2   0
    mup         adafactor   0    1/2  0      0    0     0
    mean_field  sgd        -1   -1   -1     -1   -3/2  -1
    mean_field  adam        0    1/2  0      0    0    -1/2
    mean_field  adafactor   0    1/2  0      0    0     0
"""
ROWS = [line.split() for line in TABLE_1.strip().splitlines()]

GRADIENT = """
    standard    1/2  1/2  0
    ntk         1/2  1    1/2
    mup         1/2  1    1/2
    mean_field  1    3/2  1
"""
HALF = Fraction(1, 2)


def fractions(words: list[str]) -> list[Fraction]:
    return [Fraction(word) for word in words]


def c(
    parameterization: ParameterizationName,
    optimizer: str,
    alignment: Alignment = FULL,
    adjustment: LrAdjustment = "original",
) -> list[Fraction]:
    return list(
        derive_rates(parameterization, OPTIMIZERS[optimizer], alignment, adjustment).c.values()
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:2]))
def test_table_1(row: list[str]) -> None:
    parameterization, optimizer, *entries = row
    for alignment, expected in ((FULL, entries[:3]), (NONE, entries[3:])):
        rates = derive_rates(parameterization, OPTIMIZERS[optimizer], alignment)
        assert list(rates.c) == list(MATRIX_ROLES)
        assert list(rates.c.values()) == fractions(expected)
        assert rates.features == 0


@pytest.mark.parametrize("row", [x.split() for x in GRADIENT.strip().splitlines()], ids=str)
def test_gradients_at_init(row: list[str]) -> None:
    layers = PARAMETERIZATIONS[row[0]]  # type: ignore[index]
    assert list(gradient_exponents(layers).values()) == fractions(row[1:])


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_activations_are_of_size_one_at_init(parameterization: ParameterizationName) -> None:
    sizes = {role: x.a + x.b for role, x in PARAMETERIZATIONS[parameterization].items()}
    assert sizes["embedding"] == 0
    assert sizes["hidden"] == HALF
    assert sizes["readout"] >= HALF


@pytest.mark.parametrize(
    ("parameterization", "alignment"), list(pairs(PARAMETERIZATIONS, ALIGNMENTS))
)
def test_optimizers_of_adams_family_are_adam(
    parameterization: ParameterizationName, alignment: str
) -> None:
    """Entries of the update (a sign, ratio or angle) have size 1 whatever the gradient."""
    chosen = ALIGNMENTS[alignment]  # type: ignore[index]
    adam = c(parameterization, "adam", chosen)
    for optimizer, facts in OPTIMIZERS.items():
        if facts.family == "adam":
            assert c(parameterization, optimizer, chosen) == adam


@pytest.mark.parametrize(
    ("parameterization", "original", "matched"),
    [
        ("standard", 0, HALF),
        ("mup", 0, HALF),
        ("ntk", -HALF, 0),
        ("mean_field", -HALF, 0),
    ],
)
def test_muon(
    parameterization: ParameterizationName, original: Fraction, matched: Fraction
) -> None:
    for alignment in (FULL, NONE):
        adam = c(parameterization, "adam", alignment)
        assert c(parameterization, "muon", alignment) == [adam[0], original, adam[2]]
        by_rms = c(parameterization, "muon", alignment, "match_rms_adamw")
        assert by_rms == [adam[0], matched, adam[2]]


def aligned(alpha: str = "1", omega: str = "1/2", u: str = "1") -> LayerAlignment:
    return LayerAlignment(Fraction(alpha), Fraction(omega), Fraction(u))


def test_an_aligned_readout_slows_the_features_where_it_is_large_at_init() -> None:
    """Tensor Programs assume omega = 1 for the readout.

    The features of standard and ntk then cannot move at all widths; mup and mean_field, whose
    readout is smaller by n^-1/2, keep their rates.
    """
    readout = Alignment(aligned(), aligned(omega="1"))
    for name, slowed in (("standard", HALF), ("ntk", HALF), ("mup", 0), ("mean_field", 0)):
        assert derive_rates(name, ADAMW, readout).features == slowed
    assert c("mup", "adam", readout) == c("mup", "adam")
    assert c("standard", "adam", readout) == [HALF, Fraction(3, 2), 1]


def test_measured_alignment() -> None:
    """Rates under measured alignment lie between those of no and of full alignment."""
    measured = Alignment(aligned("0.88", "0.5", "0.7"), aligned("0.9", "0.5", "0.9"))
    assert c("standard", "adam", measured) == fractions(["0", "22/25", "9/10"])
    assert derive_rates("standard", ADAMW, measured).features == 0


def test_of_equal_sums_the_earlier_layer_is_the_faster() -> None:
    """Here u exceeds alpha: a slower embedding could buy an equally faster hidden layer."""
    measured = Alignment(aligned("0.7", "0.5", "0.9"), aligned())
    assert c("standard", "adam", measured) == fractions(["0", "9/10", "1"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adafactor", "muon"])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_more_alignment_never_allows_a_faster_rate(
    parameterization: ParameterizationName, optimizer: str
) -> None:
    full, none = c(parameterization, optimizer, FULL), c(parameterization, optimizer, NONE)
    assert all(x >= y for x, y in zip(full, none, strict=True))


@pytest.mark.parametrize("alpha", ["-0.1", "1.1"])
def test_an_impossible_alignment_is_refused(alpha: str) -> None:
    with pytest.raises(InputError, match=rf"alignment alpha: found {alpha}, must be 0 to 1"):
        aligned(alpha)
