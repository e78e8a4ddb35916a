"""The whole page, the answer first."""

from __future__ import annotations

from mutransfer_cli.files.exponents import Axis
from mutransfer_cli.report.answer import answer
from mutransfer_cli.report.bowls import OPTIMA, bowls, key, optima_rows
from mutransfer_cli.report.checked import checks
from mutransfer_cli.report.curves import curves
from mutransfer_cli.report.html import as_sentence, escaped, section, table
from mutransfer_cli.report.joint import joint
from mutransfer_cli.report.measured import coordinates, diagnostics
from mutransfer_cli.report.numbers import numbers, provenance, warnings
from mutransfer_cli.report.run import Run, words_of
from mutransfer_cli.report.style import STYLE
from mutransfer_cli.report.widths import optima, transferred
from mutransfer_cli.rules.plan import AxisName

# nothing may be loaded, whatever a file's text says
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(run: Run) -> str:
    """One self-contained HTML document: no script that runs, nothing that is loaded.

    Raises:
        InputError: matplotlib is not installed.
    """
    parts = [
        answer(run),
        "<main>",
        checks(run.check) if run.check else "",
        *(_axis(run, name, axis) for name, axis in run.document.axes.items()),
        joint(run),
        curves(run),
        diagnostics(run),
        coordinates(run),
        provenance(run),
        warnings(run),
        numbers(run),
        "</main>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>mutransfer report: {escaped(run.name)}</title>\n"
        f"<style>{STYLE}</style></head>\n<body>\n{''.join(parts)}</body></html>\n"
    )


def _axis(run: Run, name: AxisName, axis: Axis) -> str:
    words = words_of(name)
    return section(
        f"axis-{key(name)}",
        words[0].upper() + words[1:] + (f" ({name})" if name == "lr" else ""),
        "No exponent; the reason stands at the top."
        if axis.exponent is None
        else as_sentence(axis.sentence),
        bowls(run, name, axis),
        optima(name, axis),
        transferred(run, name, axis),
        table(f"Optimal {words} by width", OPTIMA, optima_rows(axis)),
    )
