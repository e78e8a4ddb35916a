"""Results on a terminal: shown, saved beside their source, with the next command to type."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from mutransfer_cli.cli.saving import place_of_fit, print_next, save
from tests.cli.terminal import Command
from tests.cli.test_fit_report import table

FIT = [sys.executable, "-m", "mutransfer_cli", "fit-exponents"]
TRANSFER = [sys.executable, "-m", "mutransfer_cli", "transfer"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_the_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert save("text", None, tmp_path / "beside") is None
    assert save("more", Path("-"), tmp_path / "beside") is None
    assert capsys.readouterr().out == "textmore"
    assert save("text", tmp_path / "asked", tmp_path / "beside") == tmp_path / "asked"
    assert [path.name for path in tmp_path.iterdir()] == ["asked"]


def test_a_terminal_gets_a_file_beside_the_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert save("old", None, beside) == save("text", None, beside) == beside
    assert beside.read_text() == "text"
    assert save("text", None, None) is None
    assert save("text", None, tmp_path / "no" / "folder") is None
    said = capsys.readouterr().err
    assert said.count(f"saved: {beside}") == 2
    assert f"not saved: {tmp_path / 'no' / 'folder'}: cannot be written" in said


def test_the_place_of_a_fit(tmp_path: Path) -> None:
    run, own, csv = tmp_path / "run", tmp_path / "own", tmp_path / "runs.csv"
    run.mkdir()
    own.mkdir()
    for path in (run / "trials.jsonl", csv):
        path.touch()
    assert place_of_fit([run]) == place_of_fit([run / "trials.jsonl"]) == run / "exponents.yaml"
    assert place_of_fit([own]) == tmp_path / "own.exponents.yaml"
    assert place_of_fit([csv]) == tmp_path / "runs.exponents.yaml"
    assert place_of_fit([None]) is place_of_fit([run, csv]) is None
    assert place_of_fit([Path("/dev/null")]) is None


def test_a_long_command_continues_on_further_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("transfer", "a folder/exponents.yaml", "--group", "b c", "--width", "4096")
    print_next("next", *words)
    whole = "mutransfer transfer 'a folder/exponents.yaml' --group 'b c' --width 4096"
    assert capsys.readouterr().err == f"next:\n  {whole}\n"
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "50")
    print_next("next", *words)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 50
    assert [line.strip().removesuffix(" \\") for line in lines[1:]] == [
        "mutransfer transfer 'a folder/exponents.yaml'",
        "--group 'b c' --width 4096",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_fit_and_transfer_fit_into_a_terminal(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table().rename(columns={"eval_loss": "loss"}).to_csv("runs.csv", index=False)
    fit = Command([*FIT, "runs.csv"], columns, rows=200)
    assert fit.finish() == 0
    shown = fit.terminal.text
    assert fit.terminal.wrapped == []
    assert shown[0].startswith("The best learning rate scales as width^-0.")
    assert "saved: runs.exponents.yaml" in shown
    assert "schema:" not in "\n".join(shown)
    assert shown[-1] == "  mutransfer transfer runs.exponents.yaml --width 4096"

    recipe = Command([*TRANSFER, "runs.exponents.yaml", "--width", "4096"], columns, rows=200)
    assert recipe.finish() == 0
    assert recipe.terminal.wrapped == []
    assert recipe.terminal.text[0].startswith("At width 4096 use lr 0.0")
    assert "saved: recipe-4096.yaml" in recipe.terminal.text
    assert {path.name for path in tmp_path.iterdir()} == {
        *("runs.csv", "runs.exponents.yaml", "recipe-4096.yaml")
    }


@pytest.mark.slow
def test_quiet_leaves_the_result_where_it_is_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal it is shown without notes and the next command; with -o it is in the file."""
    monkeypatch.chdir(tmp_path)
    table().rename(columns={"eval_loss": "loss"}).to_csv("runs.csv", index=False)
    for words, saved in (
        ([*FIT, "runs.csv"], "runs.exponents.yaml"),
        ([*TRANSFER, "runs.exponents.yaml", "--width", "4096"], "recipe-4096.yaml"),
    ):
        shown = []
        for more in ([], ["-q"], ["-q", "-o", "file"]):
            command = Command([*words, *more], 100, rows=200)
            assert command.finish() == 0
            shown.append("\n".join(command.terminal.text))
        loud, quiet, filed = shown
        assert quiet
        assert loud.startswith(f"{quiet}\n\nsaved: {saved}\nnext")
        assert not filed or filed.startswith("warning: ")
        assert Path("file").read_text() == Path(saved).read_text()
