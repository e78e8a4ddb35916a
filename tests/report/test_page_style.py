"""Colours of the style sheet have enough contrast to their background, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mutransfer_cli.report import page
from mutransfer_cli.report.palette import LIGHT as REAL

CSS = (Path(page.__file__).parent / "templates" / "page.css").read_text()
LIGHT, DARK = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
TEXT, LINE = 4.5, 3.0  # minimum contrast of text and of lines: WCAG 2.2, 1.4.3 and 1.4.11


def colours(theme: str) -> dict[str, str]:
    """The variables of a theme, beside which the light one has those of the palette."""
    own = dict(re.findall(r"--([a-z]+\d*): (#[0-9a-f]{6});", theme))
    return own | REAL if theme == LIGHT else own


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_are_seen(theme: str) -> None:
    found = colours(theme)
    behind = (found["page"], found["card"])
    text = {"ink", "faint", "pass", "fail", "inconclusive", "c0"}
    lines = {name for name in found if re.fullmatch(r"[sc]\d+", name)}
    assert len(lines) == 12 + 6
    for names, least, grounds in ((text, TEXT, behind), (lines, LINE, behind[:1])):
        for name in names:
            assert min(contrast(found[name], ground) for ground in grounds) >= least, name


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["s", "h"])
def test_scales_are_ordered_by_lightness(theme: str, kind: str) -> None:
    """Scales must be readable without hues too."""
    found = colours(theme)
    scale = [luminance(found[name]) for name in found if re.fullmatch(rf"{kind}\d+", name)]
    assert len(scale) == (12 if kind == "s" else 7)
    assert scale in (sorted(scale), sorted(scale, reverse=True))


def test_the_dark_theme_has_every_colour_of_a_figure() -> None:
    assert set(REAL) <= set(colours(DARK))
