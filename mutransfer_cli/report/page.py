"""The whole page, from the templates beside it: the answer, its sections and every number."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mutransfer_cli import __version__
from mutransfer_cli.check.answer import headline, questions, runs_per_width, verdict_on
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.report import answer, axis, forecast, surface, training
from mutransfer_cli.report.palette import LIGHT
from mutransfer_cli.report.run import Run
from mutransfer_cli.report.svg import Figure
from mutransfer_cli.words import (
    as_sentence,
    digits,
    loss,
    rate,
    rate_and_power,
    signed,
    words_of,
    words_of_status,
)

REPORT_SCHEMA = "mutransfer.report/1"


def page(run: Run, width: int | None = None, refresh: int | None = None) -> str:
    """One self-contained HTML document, which runs no script and loads nothing.

    Args:
        width: the target; None for that of the folder's recipe, or else 8 times the largest width.
        refresh: seconds after which a browser loads the page again; None for never.

    Raises:
        InputError: matplotlib is not installed.
    """
    asked, protocol = questions(run.document), run.document.protocol
    return template("page.html.jinja").render(
        title=run.name,
        refresh=refresh,
        run=run,
        version=__version__,
        asked=asked,
        headline=headline(asked, runs_per_width(run.document)),
        reasons={name: answer.reasons(run, name, one) for name, one in asked.items()},
        refused=answer.refused(asked),
        **figures_of(run),
        base_values=training.base_values(run),
        slopes=training.activation_slopes(run),
        trials=[f"{count} {status}" for status, count in run.document.trials.items() if count],
        forecast=forecast.forecasts(run, asked, width),
        left_out={name: forecast.left_out(one) for name, one in run.document.axes.items()},
        protocol=flat(protocol.model_dump(mode="json", by_alias=True) if protocol else None),
        environment=run.records.header.environment if run.records else {},
        rows=[] if run.records else listed(run.rows(), run.document.metric),
        data=contents(run, asked),
    )


def template(name: str) -> Template:
    """A template of this package, with the page's filters and colours."""
    environment = Environment(
        loader=PackageLoader("mutransfer_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = (digits, loss, rate, rate_and_power, signed)
    filters = (*numbers, as_sentence, verdict_on, words_of, words_of_status)
    environment.filters |= {one.__name__: one for one in filters}
    environment.globals["light"] = LIGHT
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # and keys in their order
    return environment.get_template(name)


def figures_of(run: Run) -> dict[str, Any]:
    """The figures of the page by section; those of axes by axis."""
    return {
        "exponents": answer.exponents(questions(run.document)),
        "axes": {name: axis.figures(run, name, one) for name, one in run.document.axes.items()},
        "joint": surface.maps(run),
        "curves": training.curves(run),
        "diagnostics": training.diagnostics(run),
        "checked_slopes": training.checked_slopes(run.check),
        "coordinates": training.coordinates(run),
    }


def all_figures(run: Run) -> list[Figure]:
    """Every figure of the page, in its order."""
    sections = figures_of(run)
    by_axis = [one for several in sections.pop("axes").values() for one in several]
    return [*by_axis, *(one for several in sections.values() for one in several)]


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys, without those that are None."""
    if not isinstance(data, dict):
        return {} if data is None else {prefix: data}
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= flat(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def listed(rows: list[dict[str, Any]], metric: str) -> list[list[str]]:
    """A table's names of columns, and under them its values as the page writes them.

    Args:
        metric: the user's name for the column eval_loss.
    """

    def text(column: str, value: Any) -> str:
        if column in ("width", "seed"):
            return "" if value is None else str(value)
        return loss(value) if column.endswith("_loss") else rate(value)

    names = [metric if name == "eval_loss" else name for name in rows[0]]
    return [names, *([text(*cell) for cell in row.items()] for row in rows)]


def contents(run: Run, asked: dict[str, Axis]) -> dict[str, Any]:
    """The data embedded in the page."""
    return {
        "schema": REPORT_SCHEMA,
        "name": run.name,
        "tolerance": answer.TOLERANCE,
        "verdicts": {name: verdict_on(one) for name, one in asked.items()},
        "warnings": run.warnings,
        "check": run.check.model_dump(mode="json", by_alias=True) if run.check else None,
        "exponents": run.document.model_dump(mode="json", by_alias=True),
        "trials": [trial.model_dump(mode="json", by_alias=True) for trial in run.records.trials]
        if run.records
        else run.rows(),
    }
