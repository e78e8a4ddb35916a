from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field

from mutransfer_cli.spec.schema import descriptions, own_attributes, summary
from mutransfer_cli.strict import Strict


class Base(Strict):
    """What all have.

    Attributes:
        speed: in steps per second; of all
            trials, `2^x` a second.
    """

    speed: float


class Elsewhere:
    """
    Attributes:
        size, scale: without unit.
        speed: of another thing.
    """


class Thing(Base):
    """One thing.

    It is explained
    in two lines.

    Attributes:
        lr_mult.hidden: factor on
            the rate.
        from: the first: 1 or 2.

    Raises:
        ValueError: never.
    """

    EXPLAINED_BY: ClassVar[tuple[type, ...]] = (Elsewhere,)

    lr_mult_hidden: float = Field(alias="lr_mult.hidden")
    start: float = Field(alias="from")
    size: float


def test_entries_are_joined_to_a_line() -> None:
    assert own_attributes(Thing) == {
        "lr_mult.hidden": "factor on the rate.",
        "from": "the first: 1 or 2.",
    }


def test_names_may_share_an_entry() -> None:
    assert own_attributes(Elsewhere)["size"] == own_attributes(Elsewhere)["scale"]


def test_own_entries_come_before_those_of_bases_and_of_other_classes() -> None:
    assert descriptions(Thing) == {
        "speed": "in steps per second; of all trials, `2^x` a second.",
        "lr_mult.hidden": "factor on the rate.",
        "from": "the first: 1 or 2.",
        "size": "without unit.",
    }


def test_a_field_without_an_entry_is_named() -> None:
    class Other(Thing):
        weight: float

    with pytest.raises(LookupError, match=r"Other\.weight: has no entry"):
        descriptions(Other)


def test_the_summary_ends_where_sections_begin() -> None:
    assert summary(Thing) == "One thing.\nIt is explained in two lines."
    assert summary(Elsewhere) == ""
