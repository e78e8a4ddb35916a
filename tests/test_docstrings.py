from __future__ import annotations

import pytest
from pydantic import Field

from mutransfer_cli.docstrings import description, field_descriptions
from mutransfer_cli.strict import Strict


class Base(Strict):
    """The base."""

    speed: float
    """Steps per second; of all
    trials, `2^x` a second."""


class Thing(Base):
    """One thing.

    It is explained
    in two lines.
    """

    lr_mult_hidden: float = Field(alias="lr_mult.hidden")
    """Factor on the rate."""
    start: float = Field(alias="from")
    """The first: 1 or 2."""


class Other(Thing):
    weight: float


def test_fields_are_described_by_the_docstrings_under_them_and_by_those_of_bases() -> None:
    assert field_descriptions(Thing) == {
        "speed": "Steps per second; of all trials, `2^x` a second.",
        "lr_mult.hidden": "Factor on the rate.",
        "from": "The first: 1 or 2.",
    }


def test_a_field_without_a_docstring_is_named() -> None:
    with pytest.raises(LookupError, match=r"Other\.weight: has no docstring"):
        field_descriptions(Other)


def test_a_class_is_described_by_its_own_docstring() -> None:
    assert description(Thing) == "One thing.\nIt is explained in two lines."
    assert description(Other) == ""
