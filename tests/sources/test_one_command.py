"""One command finds the exponent in what each library leaves on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mutransfer_cli.cli.app import app
from tests.sources.bowl import EXPONENT, runs
from tests.sources.figures import FIGURES
from tests.sources.made import BY_NAME, MADE


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("system", MADE)
def test_the_exponent_is_found(system: str, tmp_path: Path) -> None:
    source = MADE[system](tmp_path, list(runs()))
    output = tmp_path / "exponents.yaml"
    pattern = ["--path-pattern", "width{width}_lr{lr}"] if system in BY_NAME else []
    command = ["fit-exponents", str(source), "-o", str(output), *pattern]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = yaml.safe_load(output.read_text())["axes"]["lr"]["exponent"]
    FIGURES[system] = "{value:.3f} ({low:.3f} to {high:.3f})".format(**found)
    assert found["low"] <= EXPONENT <= found["high"]
