"""Draws .github/bowls.svg, the picture of the README: bowls and optima of two sweeps.

mutransfer sweep-proxy quickstart-standard && mutransfer sweep-proxy quickstart
mutransfer fit-exponents runs/quickstart-standard -o runs/quickstart-standard/exponents.yaml
mutransfer fit-exponents runs/quickstart -o runs/quickstart/exponents.yaml
python -m benchmarks.readme_picture runs/quickstart-standard runs/quickstart
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")  # before pyplot: no display is needed

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[1] / ".github" / "bowls.svg"
NAMES = {"standard": "One global learning rate", "mup": "muP"}
# text stays text, ids are the same in every run, and there is no date
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mutransfer",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def main(folders: list[Path]) -> None:
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(folders), 2, figsize=(8, 2.9 * len(folders)), layout="constrained", squeeze=False
        )
        for folder, (left, right) in zip(folders, panels, strict=True):
            exponents = yaml.safe_load((folder / "exponents.yaml").read_text())
            draw_bowls(left, mean_losses(folder / "trials.jsonl"), exponents)
            draw_line(right, exponents["axes"]["lr"])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, title="width", loc="outside right center", frameon=False)
        figure.savefig(PICTURE, metadata={"Date": None})
    # a sans-serif fallback for readers without matplotlib's font
    lines = PICTURE.read_text().replace("'DejaVu Sans'\"", 'sans-serif"').splitlines()
    PICTURE.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def mean_losses(records: Path) -> pd.DataFrame:
    """Mean eval loss over seeds: one row per learning rate, one column per width."""
    trials = pd.read_json(records, lines=True)
    trials = trials[trials["kind"] == "trial"].astype({"width": int})
    return trials.pivot_table(values="eval_loss", index="lr", columns="width")


def draw_bowls(panel: Axes, losses: pd.DataFrame, exponents: dict[str, Any]) -> None:
    optima = exponents["axes"]["lr"]["optimum"]
    for width, colour in colours(optima).items():
        panel.plot(losses.index, losses[width], "-", color=colour, linewidth=1, label=f"{width}")
        found = optima[width]
        if found["status"] == "ok":
            panel.plot(
                [found["low"], found["high"]], [found["loss"]] * 2, color=colour, linewidth=3
            )
            panel.plot(found["value"], found["loss"], "o", color=colour, markersize=5)
    panel.set_xscale("log", base=2)
    panel.set(xlabel="learning rate", ylabel="eval loss (nats)")
    panel.set_xlim(2**-9.7, 2**-3)
    panel.set_ylim(2.35, 2.95)
    panel.set_title(NAMES[exponents["protocol"]["parameterization"]["name"]], loc="left")


def draw_line(panel: Axes, axis: dict[str, Any]) -> None:
    optima = {width: found for width, found in axis["optimum"].items() if found["status"] == "ok"}
    for width, colour in colours(optima).items():
        found = optima[width]
        panel.plot([width] * 2, [found["low"], found["high"]], color=colour, linewidth=3)
        panel.plot(width, found["value"], "o", color=colour, markersize=5)
    widths = np.geomspace(min(optima), 8 * max(optima), 50)
    line, future, slope = axis["line"], axis["prediction"], axis["exponent"]
    values = line["value"] * (widths / line["width"]) ** slope["value"]
    octaves = np.log2(widths / future["width"])
    half = np.hypot(future["half_width"], future["per_octave"] * octaves)
    panel.plot(widths, values, color="0.3", linewidth=1)
    panel.fill_between(widths, values * 2**-half, values * 2**half, color="0.5", alpha=0.2, lw=0)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.set_ylim(2**-13, 2**-3)
    panel.set(xlabel="width", ylabel="best learning rate")
    panel.set_title(
        f"width^{slope['value']:+.2f}, 95% interval {slope['low']:+.2f} to {slope['high']:+.2f}",
        loc="left",
    )


def colours(widths: dict[int, Any]) -> dict[int, Any]:
    shades = plt.colormaps["viridis"](np.linspace(0, 0.85, len(widths)))
    return dict(zip(widths, shades, strict=True))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
