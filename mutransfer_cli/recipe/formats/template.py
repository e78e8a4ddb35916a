"""Emitted files from Jinja templates: the environment, its filters, and what a template sees."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mutransfer_cli.recipe.formats import sheet as text
from mutransfer_cli.recipe.formats.sheet import Sheet, Values


def render(template: str, sheet: Sheet, **more: Any) -> str:
    """Fill in a template with a sheet.

    Every template sees `sheet` and, of it, `values` by role, `rest` (the values of all parameters
    not named), `everything` (whether one set of values is for all parameters), `holds_for` (may be
    none) and `scale` (an attention scale that the target does not have by itself, may be none).

    Args:
        template: the name of its file in `templates/`.
        more: what this template alone needs.

    Raises:
        jinja2.UndefinedError: the template uses a name that it is not given.
    """
    return TEMPLATES.get_template(template).render(
        sheet=sheet,
        values=sheet.values,
        rest=sheet.rest,
        everything="all" in sheet.values,
        holds_for=sheet.holds_for,
        scale=sheet.unusual_scale,
        **more,
    )


def _comments(sentences: Iterable[str]) -> str:
    return text.comments(sentences).removesuffix("\n")


def _keywords(values: Values, more: Mapping[str, str] | None = None) -> str:
    """The keywords of a parameter group as a Python dictionary; `more` holds Python source."""
    added = "".join(f', "{key}": {source}' for key, source in (more or {}).items())
    return f"{{{text.python_values(values)}{added}}}"


def _wd_mult(values: Values, base: Values) -> float:
    """Weight decay over that of `base`; 0 where neither has any, or it is not known."""
    return (values.weight_decay or 0.0) / base.weight_decay if base.weight_decay else 0.0


# The output is Python, YAML or shell, so that escaping for HTML would change it. Instead every
# string from a recipe passes through a filter: repr or json in code, comments in a comment.
TEMPLATES = Environment(
    loader=PackageLoader("mutransfer_cli.recipe.formats"),
    autoescape=False,  # noqa: S701
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.globals["ratio"] = text.ratio
TEMPLATES.filters |= {
    "comments": _comments,
    "decay_note": text.decay_note,
    "json": json.dumps,
    "keywords": _keywords,
    "number": text.number,
    "repr": repr,
    "shell": shlex.quote,
    "wd_mult": _wd_mult,
}
