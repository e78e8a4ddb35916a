"""Files for a paper and a spreadsheet: the figures of a page, and its tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer_cli.check.answer import questions, verdict_on
from mutransfer_cli.fit.exponents import Axis, Exponents
from mutransfer_cli.report.forecast import forecasts
from mutransfer_cli.report.run import Run
from mutransfer_cli.report.svg import Figure
from mutransfer_cli.spec.yaml_io import cannot_write

OPTIMUM = ("value", "low", "high", "status", "loss", "curvature", "tilt", "residual")


def export(run: Run, figures: Iterable[Figure], folder: Path, width: int | None) -> int:
    """Write each figure as SVG and PDF, as wide as a column of a paper, and each table as CSV.

    Files of the same names are replaced.

    Args:
        width: the target of the forecast; None as for `forecasts`.

    Returns:
        The number of files.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            for kind in ("svg", "pdf"):
                figure.save(folder / f"{file_name(figure.key)}.{kind}")
                written += 1
        for name, table in tables(run, width).items():
            table.to_csv(folder / f"{name}.csv", index=False)
            written += 1
    except OSError as error:
        raise cannot_write(folder, error) from error
    return written


def file_name(key: str) -> str:
    """The key with what a file's name cannot hold replaced: lr_mult.hidden stays as it is."""
    return re.sub(r"[^\w.-]+", "-", key)


def tables(run: Run, width: int | None) -> dict[str, pd.DataFrame]:
    """The numbers of a page by table, at full precision; tables without rows are left out."""
    asked = questions(run.document)
    found = {
        "optima": optima(run.document),
        "exponents": pd.DataFrame(_exponent(name, axis) for name, axis in asked.items()),
        "forecast": forecast(run, asked, width),
        "left_out": pd.DataFrame(
            {"axis": name} | one.model_dump()
            for name, axis in run.document.axes.items()
            for one in axis.left_out
        ),
        "trials": run.trials
        if run.records is None
        else pd.DataFrame(one.model_dump(mode="json") for one in run.records.trials),
    }
    if run.check is not None:
        found["checked"] = pd.DataFrame(
            {"gate": gate.gate} | one.model_dump()
            for gate in run.check.gates
            for one in gate.measures
        )
    return {name: table for name, table in found.items() if len(table)}


def optima(document: Exponents) -> pd.DataFrame:
    """The optima, one row per axis and width, with their 95% interval from `low` to `high`."""
    rows = [
        {"axis": name, "width": width, **{key: getattr(at, key) for key in OPTIMUM}}
        for name, axis in document.axes.items()
        for width, at in sorted(axis.optimum.items())
    ]
    frame = pd.DataFrame(rows, columns=["axis", "width", *OPTIMUM])
    return frame.astype({key: float for key in OPTIMUM if key != "status"})


def _exponent(name: str, axis: Axis) -> dict[str, Any]:
    found = axis.exponent
    value, low, high = (None,) * 3 if found is None else (found.value, found.low, found.high)
    return {
        "axis": name,
        "status": axis.status,
        "exponent": value,
        "low": low,
        "high": high,
        "expected": axis.expected_exponent,
        "verdict": verdict_on(axis),
    }


def forecast(run: Run, asked: Mapping[str, Axis], width: int | None) -> pd.DataFrame:
    """Forecast at the target width: the value, one run's own optimum, and the cost."""
    target = forecasts(run, asked, width).width
    rows = []
    for name, axis in asked.items():
        if axis.line is None:
            continue
        at = axis.at(target)
        value, low, high = (2.0**octaves for octaves in (at.value, at.low, at.high))
        excess = axis.excess_at(target)
        rows.append(
            {"axis": name, "width": target, "value": value, "low": low, "high": high}
            | {"excess": excess}
        )
    return pd.DataFrame(rows)
