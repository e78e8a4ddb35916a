"""Help is quick and imports nothing heavy."""

from __future__ import annotations

import re
import resource
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli import __version__
from mutransfer_cli.cli.app import CHAIN, EXAMPLES, option_of, with_options
from mutransfer_cli.cli.commands import SUMMARIES
from mutransfer_cli.errors import InputError

LIMIT = 0.3  # seconds
RUNS = 7

HEAVY = {"torch", "scipy", "numpy", "pandas", "pydantic"}
COMMANDS = [["--help"], *([name, "--help"] for name in SUMMARIES)]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
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
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_help_is_quick(args: list[str]) -> None:
    """The median of several runs, in processor time, which other work does not lengthen.

    A command that shows its help waits for nothing, so that on an idle machine this is the time.
    """
    times = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "mutransfer_cli", *args], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(times) < LIMIT


@pytest.mark.parametrize("name", ["", *SUMMARIES])
def test_every_command_knows_h(name: str, run: Callable[..., Any]) -> None:
    command = [name] if name else []
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "Usage: " in short.stdout


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version(option: str, run: Callable[..., Any]) -> None:
    assert run(option).stdout == f"mutransfer {__version__}\n"


def test_alone_it_shows_the_chain_four_lines_and_the_commands(run: Callable[..., Any]) -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"  {CHAIN}" in lines
    shown = [line.strip() for line in lines if line.startswith("  mutransfer ")]
    assert shown == list(EXAMPLES)
    assert [
        line.split()[0] for line in lines[lines.index("Commands:") + 1 :][: len(SUMMARIES)]
    ] == [*SUMMARIES]


def test_the_four_lines_name_what_the_ones_before_them_write() -> None:
    """They are run one after another in tests/cli/test_init.py."""
    words = [shlex.split(line) for line in EXAMPLES]
    assert [line[1] for line in words] == ["init", "sweep-proxy", "fit-exponents", "transfer"]
    assert words[1][2] == words[0][-1] == "spec.yaml"
    assert words[2][2] == "runs/spec"
    assert words[3][2] == words[2][-1] == "exponents.yaml"


def test_quiet_leaves_out_notes_and_keeps_warnings_and_results(
    write_records: Callable[..., Path], made: Callable[..., Any], run: Callable[..., Any]
) -> None:
    path = write_records(made())
    torn = path.read_bytes() + b'{"kind": "trial"'
    usual = run("fit-exponents", stdin=torn)
    warnings = [line for line in usual.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings
    assert len(warnings) < len(usual.stderr.splitlines())
    for args in (["-q", "fit-exponents"], ["fit-exponents", "--quiet"]):
        quiet = run(*args, stdin=torn)
        assert quiet.stdout == usual.stdout
        assert [line for line in quiet.stderr.splitlines() if line] == warnings[:1]
    assert run("fit-exponents", stdin=torn).stderr == usual.stderr, "the next command talks again"


def test_verbose_says_time_and_versions(run: Callable[..., Any]) -> None:
    for args in (["-v", "rules"], ["rules", "--verbose"]):
        result = run(*args, "--parameterization", "mup", "--optimizer", "adamw")
        assert re.fullmatch(
            rf"[\d.]+ s; mutransfer {__version__}, Python \S+, torch \S+, .*CPU cores\n",
            result.stderr,
        )
    assert run("rules", "--parameterization", "mup", "--optimizer", "adamw").stderr == ""


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
