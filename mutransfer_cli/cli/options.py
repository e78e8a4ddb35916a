"""Options that several commands share, so that each means one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to FILE instead of stdout.")
]
Variant = Annotated[
    str | None,
    typer.Option(help="Which of the spec's variants, such as cpu.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")]
