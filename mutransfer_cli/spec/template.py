"""Files for users to begin with: YAML with comments, from Jinja templates."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mutransfer_cli.spec.yaml_io import flow
from mutransfer_cli.words import power


def render(template: str, **values: Any) -> str:
    """Fill in the template of this name in `spec/templates/`.

    Raises:
        jinja2.UndefinedError: it uses a value that it is not given.
    """
    return TEMPLATES.get_template(template).render(**values)


def _after(comment: str) -> str:
    """A comment behind a value, or nothing."""
    return f"   # {comment}" if comment else ""


# YAML would be changed by escaping for HTML
TEMPLATES = Environment(
    loader=PackageLoader("mutransfer_cli.spec"),
    autoescape=False,  # noqa: S701
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {"after": _after, "flow": flow, "power": power}
