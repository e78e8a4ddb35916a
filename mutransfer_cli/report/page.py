"""What the page rests on: provenance, warnings, and every number as a table and as JSON.

MERGED:
The whole page, the answer first."""

from __future__ import annotations

from typing import Any

from mutransfer_cli import __version__
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.report.answer import all_warnings, answer, questions
from mutransfer_cli.report.curves import curves
from mutransfer_cli.report.html import (
    STYLE,
    as_sentence,
    embedded,
    escaped,
    left_out,
    number,
    paragraph,
    power,
    section,
    table,
)
from mutransfer_cli.report.measured import checks, coordinates, diagnostics, measures
from mutransfer_cli.report.run import TOLERANCE, Run, verdict_on, words_of
from mutransfer_cli.report.surface import joint
from mutransfer_cli.report.widths import OPTIMA, bowls, key, optima, optima_rows, transferred
from mutransfer_cli.rules.plan import AxisName

REPORT_SCHEMA = "mutransfer.report/1"
TRIALS = (
    "width",
    "seed",
    "lr",
    "log2 lr",
    "weight_decay",
    "status",
    "train loss",
    "eval loss",
    "diverged at step",
    "trial",
)


def provenance(run: Run) -> str:
    """Where the numbers come from, down to the last setting of the protocol."""
    header, counts = run.records.header, run.document.trials
    known = {
        "records": run.name,
        "trials": ", ".join(f"{count} {status}" for status, count in counts.items() if count),
        "widths": ", ".join(map(str, run.widths)),
        "loss fitted": f"{run.document.metric} ({run.unit})",
        "protocol hash": header.protocol_hash,
        "page and fit made by": f"mutransfer {__version__}",
    }
    ran = {f"ran first with {name}": value for name, value in header.environment.items()}
    settings = flat(header.protocol.model_dump(mode="json"))
    return section(
        "provenance",
        "Provenance",
        "Trials of one protocol hash share all settings in the second table.",
        table("Where the numbers come from", ("what", "value"), (known | ran).items()),
        table("The protocol", ("setting", "value"), settings.items()),
    )


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys; those without a value are left out."""
    if not isinstance(data, dict):
        return {} if data is None else {prefix: data}
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= flat(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def warnings(run: Run) -> str:
    found = all_warnings(run)
    if not found:
        return left_out("warnings", "Warnings", "None.")
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in found)
    return f'<section id="warnings"><h2>Warnings</h2><ul>{items}</ul></section>\n'


def numbers(run: Run) -> str:
    """Every trial as a row; the fit and the trials as JSON."""
    rows = [
        (
            trial.width,
            trial.seed,
            number(trial.lr, 6),
            power(trial.lr),
            number(trial.weight_decay, 6),
            trial.status,
            number(trial.train_loss, 6),
            number(trial.eval_loss, 6),
            trial.diverged_at or "",
            trial.trial,
        )
        for trial in sorted(run.records.trials, key=lambda t: (t.width, t.lr, t.weight_decay))
    ]
    return (
        '<section id="numbers"><h2>The raw numbers</h2>'
        + paragraph(
            "All trials; the same with the fit in full, as fit-exponents --json writes it, is "
            "embedded in this page as JSON (element mutransfer-report)."
        )
        + (measures(run.check) if run.check else "")
        + table(f"{len(rows)} trials", TRIALS, rows)
        + "</section>\n"
        + embedded("mutransfer-report", contents(run))
    )


def contents(run: Run) -> dict[str, Any]:
    """What is embedded."""
    return {
        "schema": REPORT_SCHEMA,
        "name": run.name,
        "tolerance": TOLERANCE,
        "verdicts": {name: verdict_on(axis) for name, axis in questions(run).items()},
        "warnings": [*all_warnings(run)],
        "check": run.check.model_dump(mode="json", by_alias=True) if run.check else None,
        "exponents": run.document.model_dump(mode="json", by_alias=True),
        "trials": [trial.model_dump(mode="json", by_alias=True) for trial in run.records.trials],
    }


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
