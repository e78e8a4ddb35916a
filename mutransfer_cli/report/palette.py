"""The colours of figures, in one table: real ones, the page's variables and their placeholders.

Matplotlib takes only real colours. For the page it draws with placeholders, in whose place come the
variables of page.css, so that one drawing serves the light theme, the dark theme and print. Files
and notebooks get the colours of the light theme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STEPS = (
    *("#0d0887", "#2e0595", "#46039f", "#5e01a6", "#7401a8", "#8a09a5"),
    *("#9d189d", "#b02991", "#bf3984", "#cc4977", "#da5a6a", "#e56a5d"),
)
HUES = ("#0072b2", "#c05000", "#00785a", "#a8468f", "#6e6400", "#4a4a9c")
SHADES = ("#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90d743", "#fde725")

LIGHT = {
    # the first three are placeholders of figure.mplstyle: 000001, 000002 and 000003
    **{"rule": "#dfe3e8", "faint": "#636c76", "ink": "#1b1f24"},
    **{f"s{i}": colour for i, colour in enumerate(STEPS)},
    **{f"c{i}": colour for i, colour in enumerate(HUES)},
    **{f"h{i}": colour for i, colour in enumerate(SHADES)},
}
"""The light theme: real colours by variable of the style sheet."""

# black itself is no placeholder: matplotlib leaves it out where it fills
PLACEHOLDERS = {name: f"#0000{i:02x}" for i, name in enumerate(LIGHT, start=1)}


@dataclass(frozen=True)
class Palette:
    """Colours for matplotlib, by variable of the style sheet."""

    colours: Mapping[str, str]

    @property
    def ink(self) -> str:
        return self.colours["ink"]

    @property
    def faint(self) -> str:
        return self.colours["faint"]

    def step(self, index: int, count: int) -> str:
        """The colour of one of `count` ordered things, which differ in lightness too."""
        return self.colours[f"s{round(index * (len(STEPS) - 1) / max(count - 1, 1))}"]

    def hue(self, index: int) -> str:
        """The colour of one of a few unordered things."""
        return self.colours[f"c{index % len(HUES)}"]

    def shade(self, level: int) -> str:
        """The colour of a level of a surface, from the best (0) to the worst (6)."""
        return self.colours[f"h{level}"]


PAGE, PAPER = Palette(PLACEHOLDERS), Palette(LIGHT)
