"""Help is quick and imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.cli.app import option_of, with_options
from mutransfer_cli.errors import InputError

LIMIT = 0.4  # seconds

HEAVY = {"torch", "scipy", "numpy", "pandas", "pydantic"}
COMMANDS = [["--help"], ["transfer", "--help"], ["fit-exponents", "--help"], ["schema", "--help"]]


@pytest.mark.parametrize("args", COMMANDS)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['mutransfer', *{args!r}]\n"
        "from mutransfer_cli.cli.app import main\n"
        "try:\n    main()\n"
        f"finally:\n    print({HEAVY!r} & set(sys.modules))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert "Usage: " in out
    assert out.splitlines()[-1] == "set()"


@pytest.mark.timed
@pytest.mark.parametrize("args", COMMANDS)
def test_help_is_quick(args: list[str]) -> None:
    """The best of five runs counts, to leave out the machine's noise."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mutransfer_cli", *args], check=True, capture_output=True
        )
        times.append(time.perf_counter() - started)
    assert min(times) < LIMIT


def test_the_version() -> None:
    from mutransfer_cli import __version__

    result = subprocess.run(
        [sys.executable, "-m", "mutransfer_cli", "--version"], capture_output=True, text=True
    )
    assert result.stdout == f"mutransfer {__version__}\n"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (InputError("no such file"), "no such file"),
        (InputError("width 64: is seen", setting="width"), "--width 64: is seen"),
        (InputError("columns: unknown name 'x'", setting="columns"), "--columns: unknown name 'x'"),
        (InputError("widths differ", setting="width"), "--width: widths differ"),
        (InputError("lr: is 0", setting="decay_convention"), "--decay-convention: lr: is 0"),
        (InputError("two sweeps", remedy="group"), "two sweeps (--group)"),
        (
            InputError("out is in use; give another folder", setting="spec", remedy="output"),
            "--spec: out is in use; give another folder (--output)",
        ),
    ],
)
def test_errors_show_the_options_of_the_arguments_they_name(error: InputError, shown: str) -> None:
    assert with_options(error) == shown


def test_arguments_have_the_names_of_options() -> None:
    assert option_of("width") == "--width"
    assert option_of("decay_convention") == "--decay-convention"


def test_a_command_ends_with_the_sentence_and_the_exit_code(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library names its argument `device`; the user reads the option."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = run("doctor", "--device", "cuda")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --device cuda: torch sees no CUDA device; use the CPU")
