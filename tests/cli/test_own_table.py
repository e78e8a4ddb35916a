"""Commands that read tables have the options of `fit-exponents` for them, from one definition."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from mutransfer_cli.cli.app import app
from mutransfer_cli.cli.own_table import SHARED, fit_own, with_table_options
from mutransfer_cli.fit.options import TableOptions

SEVERAL = [name for name in SHARED if str(TableOptions.__annotations__[name]).startswith("tuple")]
NO_OPTIONS: Any = dict.fromkeys(SHARED) | dict.fromkeys(SEVERAL, ())


def write_table(
    path: Path, widths: tuple[int, ...] = (64, 128, 256, 512), drift: float = 0.0, **more: str
) -> Path:
    """Write a table of runs whose best rate is 2^-6 at width 64 and moves as width^drift.

    Args:
        more: the value of a further column in every row.
    """
    with path.open("a" if path.exists() else "w") as file:
        table = csv.writer(file)
        if not file.tell():
            table.writerow(["width", "lr", "loss", "seed", *more])
        for width in widths:
            for octave in range(-10, -1):
                for seed in (0, 1):
                    x = octave + 6 - drift * math.log2(width / 64)
                    noise = 1e-3 * math.sin(7 * octave + 3 * seed + width)
                    loss = 3 + 8 / width + 0.03 * x * x + noise
                    table.writerow([width, 2.0**octave, loss, seed, *more.values()])
    return path


@pytest.mark.parametrize("name", ["check", "report"])
def test_the_options_are_those_of_fit_exponents(name: str) -> None:
    commands: Any = get_command(app)
    theirs, own = (
        {option.name: option for option in commands.get_command(None, command).params}
        for command in ("fit-exponents", name)
    )
    for option in SHARED:
        assert own[option].opts == theirs[option].opts
        assert own[option].help == theirs[option].help
        assert own[option].default == theirs[option].default


def test_a_command_gets_them_as_one_value() -> None:
    found: list[Any] = []
    alone = typer.Typer()

    @alone.command()
    @with_table_options
    def command(
        name: str, *, table: TableOptions, count: Annotated[int, typer.Option()] = 1
    ) -> None:
        """Do nothing."""
        found.extend([name, table, count])

    arguments = ["a", "--count", "2", "--columns", "width=dim", "--optima"]
    assert CliRunner().invoke(alone, arguments).exit_code == 0
    name, table, count = found
    assert (name, count) == ("a", 2)
    assert (table.columns, table.optima, table.protocol) == ("width=dim", True, None)
    assert table.given == ["columns", "optima"]


def test_one_group_of_a_table_is_chosen(run: Callable[..., Any], tmp_path: Path) -> None:
    path = write_table(tmp_path / "runs.csv", schedule="cosine")
    write_table(path, (64, 128, 256), -0.5, schedule="wsd")
    options = ("report", path, "--by", "schedule", "-o", tmp_path / "page.html")
    assert run(*options, "--group", "wsd").exit_code == 0
    assert "54 runs" in (tmp_path / "page.html").read_text()
    result = run(*options)
    assert result.exit_code == 2
    assert "the exponents hold groups (cosine, wsd); choose one (--group)" in result.stderr
    result = run("report", path, "--group", "wsd")
    assert result.exit_code == 2
    assert "--group: is for tables that are fitted with --by; leave it out" in result.stderr


def test_a_table_is_fitted_as_fit_exponents_does(tmp_path: Path) -> None:
    path = write_table(tmp_path / "runs.csv", drift=-1.0)
    document, rows = fit_own(path, TableOptions(**NO_OPTIONS), None)
    exponent = document.axes["lr"].exponent
    assert exponent is not None
    assert exponent.value == pytest.approx(-1, abs=0.02)
    assert len(rows) == 4 * 9 * 2
    assert {"width", "lr", "seed", "eval_loss"} <= set(rows)
