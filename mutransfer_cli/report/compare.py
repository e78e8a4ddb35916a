"""One page for several sweeps: their answers, bowls and lines side by side, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mutransfer_cli.check.answer import headline, questions, runs_per_width, verdict_on
from mutransfer_cli.check.measure import Verdict
from mutransfer_cli.report import axis, bowls, marks, svg
from mutransfer_cli.report.forecast import forecasts
from mutransfer_cli.report.page import flat, template
from mutransfer_cli.report.run import Run
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.words import rate, signed, words_of_status


def comparison(
    runs: Mapping[str, Run], width: int | None = None, refresh: int | None = None
) -> str:
    """One self-contained HTML page, as for a single sweep.

    Args:
        runs: two or more, by the names under which the page shows them.
        width: the target; None for the largest of the runs' own, as `forecasts` has them.
        refresh: seconds after which a browser loads the page again; None for never.

    Raises:
        InputError: matplotlib is not installed.
    """
    own = [forecasts(run, questions(run.document)).width for run in runs.values()]
    target = width or max(own)
    names = list(dict.fromkeys(name for run in runs.values() for name in run.document.axes))
    return template("compare.html.jinja").render(
        title=", ".join(runs),
        refresh=refresh,
        target=target,
        is_given=width is not None,
        answers=[_answer(name, run, target) for name, run in runs.items()],
        exponents=[row for name, run in runs.items() for row in _exponents(name, run, target)],
        figures={name: side_by_side(runs, name) for name in names},
        runs=list(runs),
        differences=differences({name: protocol_of(run) for name, run in runs.items()}),
        warnings={name: run.warnings for name, run in runs.items() if run.warnings},
    )


def told_apart(sources: Sequence[Path]) -> list[str]:
    """A name for each source: its own, with as many folders before it as tell all apart."""
    parts = [source.resolve().parts for source in sources]
    names: list[str] = []
    for own in parts:
        alike = [other for other in parts if other != own]
        count = 1
        while any(other[-count:] == own[-count:] for other in alike) and count < len(own):
            count += 1
        names.append("/".join(own[-count:]).lstrip("/"))
    return names


class Answer(NamedTuple):
    """The answer of one run: what to use, how far away that is, and whether it transfers."""

    name: str
    advice: Sequence[str]
    about: str
    verdicts: Mapping[str, Verdict | None]
    transfers: str


def _answer(name: str, run: Run, target: int) -> Answer:
    asked = questions(run.document)
    found = forecasts(run, asked, target)
    verdicts = {what: verdict_on(axis) for what, axis in asked.items() if axis.status != "ridge"}
    transfers = headline(asked, runs_per_width(run.document))
    return Answer(name, found.advice, found.about, verdicts, transfers)


def _exponents(name: str, run: Run, target: int) -> list[list[str]]:
    """Rows of the table of exponents."""
    asked, rows = questions(run.document), []
    for what, one in asked.items():
        found, expected = one.exponent, one.expected_exponent
        interval = best = between = ""
        if found is not None:
            interval = f"{signed(found.low)} to {signed(found.high)}"
            at = one.at(target)
            best = rate(2**at.value)
            between = f"{rate(2**at.low)} to {rate(2**at.high)}"
        value = words_of_status(one.status) if found is None else signed(found.value)
        rule = "" if expected is None else f"{expected:g}"
        verdict = verdict_on(one) or ""
        rows.append([name, what, value, interval, rule, verdict, best, between])
    return rows


def side_by_side(runs: Mapping[str, Run], name: AxisName) -> list[list[svg.Figure]]:
    """The bowls of all runs that have this axis on common axes, and their lines likewise."""
    having = {key: run for key, run in runs.items() if name in run.document.axes}
    fits = {key: run.document.axes[name] for key, run in having.items()}
    cells = {key: bowls.bowls_of(run, name) for key, run in having.items() if run.has_losses}
    usable = {key: fit for key, fit in fits.items() if fit.usable}
    drawn: list[list[svg.Figure]] = []
    if cells:
        view = marks.joined([bowls.view_of(at, fits[key].usable) for key, at in cells.items()])
        bowls_of_all = [
            _named(key, bowls.figure(having[key], name, fits[key], at, view), number)
            for number, (key, at) in enumerate(cells.items())
        ]
        drawn.append(bowls_of_all)
    if usable:
        view = marks.joined([axis.view_of_optima(fit) for fit in usable.values()])
        lines_of_all = [
            _named(key, axis.optima_figure(name, fit, view), number)
            for number, (key, fit) in enumerate(usable.items())
        ]
        drawn.append(lines_of_all)
    return drawn


def _named(run: str, figure: svg.Figure, number: int) -> svg.Figure:
    """The figure under the name of its run, with a key of its own."""
    return svg.Figure(
        f"{figure.key}-{number}",
        f"{run}: {figure.title[0].lower()}{figure.title[1:]}",
        figure.caption,
        figure.draw,
        figure.words,
        figure.width,
        figure.height,
    )


def protocol_of(run: Run) -> dict[str, Any]:
    """Settings of the run by dotted keys; none if no protocol was declared."""
    protocol = run.document.protocol
    return flat(protocol.model_dump(mode="json", by_alias=True) if protocol else None)


def differences(protocols: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Settings in which the protocols differ: the key, and the value of each; empty for none."""
    keys = dict.fromkeys(key for settings in protocols.values() for key in settings)
    rows = [
        [key, *("" if key not in one else str(one[key]) for one in protocols.values())]
        for key in keys
    ]
    return [row for row in rows if len(set(row[1:])) > 1]
