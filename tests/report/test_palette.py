"""Colours of figures: placeholders, variables and real colours."""

from __future__ import annotations

from mutransfer_cli.report.palette import LIGHT, PAGE, PAPER, PLACEHOLDERS, SHADES, STEPS


def test_placeholders_are_distinct_and_never_black() -> None:
    assert len(set(PLACEHOLDERS.values())) == len(LIGHT)
    assert "#000000" not in PLACEHOLDERS.values()


def test_the_first_placeholders_are_those_of_the_settings() -> None:
    assert [PLACEHOLDERS[name] for name in ("rule", "faint", "ink")] == [
        "#000001",
        "#000002",
        "#000003",
    ]


def test_a_scale_is_used_from_end_to_end() -> None:
    assert [PAPER.step(i, 3) for i in range(3)] == [STEPS[0], STEPS[6], STEPS[-1]]
    assert PAPER.step(0, 1) == STEPS[0]


def test_a_palette_has_every_colour_of_the_table() -> None:
    assert PAGE.colours.keys() == PAPER.colours.keys() == LIGHT.keys()
    assert [PAPER.shade(i) for i in range(len(SHADES))] == [*SHADES]
    assert PAGE.hue(7) == PAGE.hue(1) == PLACEHOLDERS["c1"]
