"""Widths as people write them, and usage errors as one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer

from mutransfer_cli.cli.usage import read_width, width_of


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("4096", 4096),
        ("12k", 12_000),
        ("12K", 12_000),
        ("1.5k", 1_500),
        ("1.001k", 1_001),
        ("2M", 2_000_000),
        ("1_024", 1_024),
        ("12,000", 12_000),
        ("2^12", 4096),
        ("4096.0", 4096),
        ("4e3", 4000),
        ("2^53", 2**53),
    ],
)
def test_widths_as_people_write_them(text: str, width: int) -> None:
    assert read_width(text) == width_of(text) == width


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wide",
        "12m",
        "12 000",
        "1,2",
        "4096.5",
        "0.0001k",
        "0",
        "-3",
        "inf",
        "nan",
        "1e400",
        "2^54",
    ],
)
def test_everything_else_is_no_width(text: str) -> None:
    assert read_width(text) is None
    with pytest.raises(typer.BadParameter, match="a whole number from 1 to 2\\^53, such as 4096"):
        width_of(text)


SUCH = "expected a whole number from 1 to 2^53, such as 4096, 12k or 2^12"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            "transfer --widht 4",
            "--widht: no such option; did you mean --width? `mutransfer transfer -h` lists them",
        ),
        ("doctor --xyz", "--xyz: no such option; `mutransfer doctor -h` lists them"),
        ("--xyz", "--xyz: no such option; `mutransfer -h` lists them"),
        (
            "transfer --width",
            "--width: its value is missing; `mutransfer COMMAND -h` shows what it takes",
        ),
        ("transfer --width wide", f"--width wide: {SUCH}"),
        ("report --width 0", f"--width 0: {SUCH}"),
        ("rules quickstart --width 1.5", f"--width 1.5: {SUCH}"),
        ("check x --held-out -1", f"--held-out -1: {SUCH}"),
        (
            "transfer a.yaml b.yaml",
            "b.yaml: one argument too many; `mutransfer transfer -h` shows what the command takes",
        ),
        (
            "sweep-proxy",
            "SPEC is missing (sweep spec: a YAML file, or the name of a shipped one); "
            "`mutransfer sweep-proxy -h` shows an overview",
        ),
        ("sweep-proxy x --device tpux", "--device tpux: expected auto, cpu or cuda"),
        (
            "rules --parameterization muP",
            "--parameterization muP: expected standard, ntk, mup or mean_field; did you mean mup?",
        ),
        ("sweep-proxy x --workers 0", "--workers 0: expected a whole number, 1 or more"),
        (
            "fit-exponents x --resamples many",
            "--resamples many: expected a whole number, 0 or more",
        ),
        ("sweep-proxy x --num-gpus one", "--num-gpus one: expected a number"),
    ],
)
def test_usage_errors_are_one_sentence(run: Callable[..., Any], typed: str, sentence: str) -> None:
    result = run(*typed.split())
    assert result.exit_code == 2
    assert result.stderr == f"Error: {sentence}\n"


def test_a_short_width_is_read(run: Callable[..., Any]) -> None:
    short, long = (
        run("rules", "quickstart", "--width", width, "--json").stdout for width in ("2k", "2000")
    )
    assert short == long
    assert '"width": 2000' in short
