"""Real sweeps in a pseudo-terminal: what is drawn, and what Ctrl-C leaves."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.cli.terminal import Command
from tests.conftest import tiny_in
from tests.sweep.running import command, of_session, table

pytestmark = pytest.mark.processes

NAME = "a-spec-with-a-name-that-is-longer-than-the-names-of-most-other-specs"
PROGRESS = re.compile(r"^[━─]{5,40}  \d+%  ", re.MULTILINE)
SAVED = re.compile(r"^ +\d+ +6 +[1-5] ", re.MULTILINE)  # a row of the table


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny widths, with rates that diverge."""
    folder = tmp_path_factory.mktemp("spec")
    raw = tiny_in(folder)
    raw["train"] |= {"steps": 60, "batch": 8}
    raw["sweep"] = {"widths": [16, 24], "axes": {"lr": [2**-8, 2**-6, 1e30]}, "seeds": [0, 1]}
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(raw))
    return folder / f"{NAME}.yaml"


def begun(spec: Path, folder: Path, columns: int = 80, workers: int = 1) -> Command:
    return Command(command(spec, folder, "--workers", workers, "--device", "cpu"), columns)


@pytest.mark.timed
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_nothing_is_cut_or_wrapped(spec: Path, tmp_path: Path, columns: int) -> None:
    sweep = begun(spec, tmp_path / "o", columns)
    first = sweep.until(lambda text: NAME[:40] in text)
    live = sweep.until(lambda text: "starting workers ..." in text)
    assert first <= live < 3, "seconds"
    sweep.until(lambda text: "reading data and model ..." in text)
    lines = set[str]()
    while sweep.read():
        lines |= set(sweep.terminal.text)
    assert sweep.finish() == 0
    # the notes with the name and the folder may be longer than a line
    assert {line[:20] for line in sweep.terminal.wrapped} <= {
        NAME[:20],
        f"  {tmp_path}"[:20],
    }
    assert not [line for line in lines if "…" in line]
    shown = [line for line in lines if PROGRESS.match(line)]
    assert any("diverged" in line or "div" in line for line in shown)
    assert all(len(line) < columns for line in shown)
    header = next(line for line in sweep.terminal.text if line.startswith("width"))
    assert ("FLOP/s" in header) == (columns == 200)
    assert not sweep.terminal.unknown
    assert not PROGRESS.search("\n".join(sweep.terminal.text)), "the bar is gone"
    assert sweep.terminal.cursor


MOMENTS = {
    "starting": "starting workers",
    "reading": "reading data and model",
    "timing": "timing",
    "training": "%  about",
}


ONCE, TWICE = b"\x03", b"\x03\x03"
OFTEN = [(MOMENTS["training"], ONCE), (MOMENTS["starting"], TWICE)]
STOPS = [
    pytest.param(moment, keys, marks=[] if (moment, keys) in OFTEN else pytest.mark.slow)
    for moment in MOMENTS.values()
    for keys in (ONCE, TWICE)
]


def stopped_cleanly(sweep: Command, folder: Path) -> int:
    """Whether a stopped sweep has left its sentence only; returns the trials that it saved."""
    assert sweep.exit_code == 130
    saved = len(table(folder))
    # a key that is pressed after the end is shown by the terminal itself
    text = "\n".join(sweep.terminal.text).removesuffix("\n^C")
    told = re.search(
        r"^Stopped: (\d+) trials? saved in (.*)\. Run the same .* resume\.$", text, re.M
    )
    assert told, text
    assert (int(told[1]), told[2]) == (saved, str(folder))
    assert not PROGRESS.search(text)
    assert "^C" not in text
    assert "Traceback" not in text
    assert sweep.terminal.cursor
    assert text.strip().endswith("to resume.")
    return saved


@pytest.mark.parametrize(("moment", "keys"), STOPS)
def test_ctrl_c_leaves_a_sentence(spec: Path, tmp_path: Path, moment: str, keys: bytes) -> None:
    folder = tmp_path / "o"
    sweep = begun(spec, folder, columns=300, workers=2)
    sweep.until(lambda text: moment in text)
    for key in keys:
        sweep.types(bytes([key]))
        time.sleep(0.05)
    sweep.finish(30)
    stopped_cleanly(sweep, folder)
    until = time.monotonic() + 5
    while (left := of_session(sweep.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_what_was_saved_is_resumed(spec: Path, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "o"
    sweep = begun(spec, folder, columns=300)
    sweep.until(SAVED.search)
    os.kill(sweep.pid, number)
    sweep.finish(30)
    saved = stopped_cleanly(sweep, folder)
    assert 0 < saved < 12
    again = begun(spec, folder, columns=300)
    shares = list[int]()
    while again.read():
        shares += [int(found) for found in re.findall(r"(\d+)%  ", "\n".join(again.terminal.text))]
    assert again.finish() == 0
    assert len(table(folder)) == 12
    assert shares[0] > 0
    assert all(later >= earlier for earlier, later in itertools.pairwise(shares))
