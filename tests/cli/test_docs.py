"""`mutransfer docs` as its reader sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.markdown import Markdown

from mutransfer_cli.cli.app import app
from mutransfer_cli.cli.docs import COMMANDS, FOLDER, TOPICS, WIDEST, show, subject

Run = Callable[..., Any]


def test_without_a_topic_all_are_listed_with_a_line_each(run: Run) -> None:
    result = run("docs")
    assert result.exit_code == 0
    listed = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert [topic for topic, _ in listed] == list(TOPICS)
    assert dict(listed)["fit"] == "how the best learning rate and weight decay scale with width"
    assert all(line for _, line in listed)


def test_every_page_is_a_topic_and_every_topic_has_a_page() -> None:
    pages = {path.stem for path in FOLDER.iterdir()}
    assert pages == {*TOPICS} - {COMMANDS}
    assert {path.suffix for path in FOLDER.iterdir()} == {".md"}


@pytest.mark.parametrize("topic", sorted({*TOPICS} - {COMMANDS}))
def test_a_piped_page_is_its_markdown(topic: str, run: Run) -> None:
    result = run("docs", topic)
    assert result.exit_code == 0
    assert result.stdout == (FOLDER / f"{topic}.md").read_text()
    assert subject(result.stdout)


def test_an_unknown_topic_names_the_nearest(run: Run) -> None:
    result = run("docs", "transfr")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: transfr: no such topic; did you mean 'transfer'?")
    assert result.stdout == ""


def test_the_commands_are_those_there_are(run: Run) -> None:
    text = run("docs", "commands").stdout
    group: Any = typer.main.get_command(app)
    assert re.findall(r"^## mutransfer (\S+)$", text, re.MULTILINE) == group.list_commands(None)
    sections = dict(zip(group.list_commands(None), text.split("\n## ")[1:], strict=True))
    for name, section in sections.items():
        shown = re.findall(r"--[a-z][\w-]*", run(name, "--help").stdout)
        assert set(shown) - set(re.findall(r"--[a-z][\w-]*", section)) <= {"--help"}
        for parameter in group.get_command(None, name).params:
            assert parameter.help is None or parameter.help in section
    assert "Exit codes: 0 done" in text


@pytest.mark.parametrize("topic", TOPICS)
def test_nothing_is_cut_on_a_narrow_terminal(topic: str, run: Run) -> None:
    markdown = run("docs", topic).stdout
    out = StringIO()
    Console(file=out, width=80, force_terminal=True).print(Markdown(markdown))
    assert "…" not in out.getvalue()
    words = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).split()
    assert subject(markdown).split()[-1] in words


@pytest.mark.parametrize("topic", sorted({*TOPICS} - {COMMANDS}))
def test_no_line_of_code_is_wrapped_where_there_is_room(topic: str) -> None:
    text = (FOLDER / f"{topic}.md").read_text()
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language != "text":  # output of commands is shown verbatim
            assert max(map(len, code.splitlines())) <= WIDEST - 2, code


def test_on_a_terminal_the_page_is_laid_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show("# Title: a page\n\n| a | b |\n|---|---|\n| `c` | " + "word " * 60 + "|\n")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "# Title" not in shown
    assert "|---|" not in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 100


def test_neither_torch_nor_a_network_is_needed(tmp_path: Path) -> None:
    program = (
        "import sys, socket; sys.modules['torch'] = None; socket.socket = None\n"
        "from mutransfer_cli.cli.app import main\n"
        "sys.argv = ['mutransfer', 'docs', 'method']; main()"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert out.stdout.startswith("# Method: "), out.stderr


def test_markdown_is_laid_out_only_where_it_is_shown() -> None:
    program = "import sys, mutransfer_cli.cli.app; print('rich.markdown' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert out == "False\n"
