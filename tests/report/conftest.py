"""The folder of a sweep, read as a run and rendered as a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from mutransfer_cli.cli.app import app
from mutransfer_cli.report.run import Run, read_run
from tests.report.pages import Page
from tests.report.runs import write_run


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Page]:
    """Return the page of a run that `write_run` makes, cached by options."""
    made: dict[str, Page] = {}

    def page(name: str = "run", **options: Any) -> Page:
        key = f"{name} {sorted(options.items())}"
        if key not in made:
            folder = write_run(tmp_path_factory.mktemp("sweep") / name, **options)
            result = CliRunner().invoke(app, ["report", str(folder)])
            assert result.exit_code == 0, result.stderr
            made[key] = Page(result.stdout, folder)
        return made[key]

    return page


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return the run that `write_run` makes as a page reads it, cached by options."""
    made: dict[str, Run] = {}

    def read(**options: Any) -> Run:
        key = f"{sorted(options.items())}"
        if key not in made:
            made[key] = read_run(write_run(tmp_path_factory.mktemp("sweep") / "run", **options))
        return made[key]

    return read
