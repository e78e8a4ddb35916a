from __future__ import annotations

import pytest

from mutransfer_cli.meant import nearest, nearest_of, same_as


@pytest.mark.parametrize(
    ("word", "valid", "meant"),
    [
        ("MUP", ["standard", "mup"], "mup"),
        ("learningrate", ["lr", "weight_decay"], "lr"),
        ("wd", ["lr", "weight_decay"], "weight_decay"),
        ("qqq", ["lr", "weight_decay"], None),
    ],
)
def test_near_words(word: str, valid: list[str], meant: str | None) -> None:
    assert nearest_of(word, valid) == meant


def test_a_word_may_mean_several_keys() -> None:
    assert same_as("hidden-size", ["base_width", "widths", "depth"]) == ["widths", "base_width"]
    assert same_as("Base Width", ["widths", "base_width"]) == ["base_width"]
    assert same_as("dept", ["depth"]) == []


def test_the_valid_words_are_listed() -> None:
    assert nearest("dept", ["depth", "mlp"]) == "; did you mean 'depth'? (valid: depth, mlp)"
    assert nearest("qqq", ["depth", "mlp"]) == " (valid: depth, mlp)"
