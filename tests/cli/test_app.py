"""Help is quick and needs nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

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
    """The best of five: the machine's noise is not the program's."""
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
