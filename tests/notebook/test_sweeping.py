from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mutransfer_cli as mt
from mutransfer_cli.errors import InputError, SweepIncomplete, SweepInterrupted
from mutransfer_cli.notebook.sweeping import Lines, sweep
from mutransfer_cli.spec.kinds import TRIALS

ROOT = Path(__file__).parent.parent.parent
CALL = "import mutransfer_cli as mt\nprint(mt.sweep({spec!r}, 'here', workers=2))\n"


def test_a_dict_is_trained_and_its_run_returned(
    tiny_mlp: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sweep(tiny_mlp, tmp_path / "x")
    assert repr(run) == "Run x: 21 trials at widths 16, 24, 32"
    err = capsys.readouterr().err
    assert "width 32: 7 of 7 trials, best lr " in err
    before = (tmp_path / "x" / TRIALS).read_bytes()
    again = sweep(tiny_mlp, tmp_path / "x")
    assert again.records == run.records
    assert (tmp_path / "x" / TRIALS).read_bytes() == before


def test_a_file_gives_the_records_of_the_command(
    tiny_mlp: dict[str, Any],
    write_spec: Callable[[Any], Path],
    tmp_path: Path,
    run: Callable[..., Any],
) -> None:
    path = write_spec(tiny_mlp)
    found = sweep(path, tmp_path / "here").trials.set_index("trial")
    run("sweep-proxy", path, "-o", tmp_path / "there")
    theirs = mt.read_run(tmp_path / "there").trials.set_index("trial")
    assert found["eval_loss"].to_dict() == theirs["eval_loss"].to_dict()


@pytest.mark.processes
@pytest.mark.parametrize("how", ["script", "stdin"])
def test_no_guard_is_needed_around_the_call(
    tiny_mlp: dict[str, Any], tmp_path: Path, how: str
) -> None:
    program = CALL.format(spec=tiny_mlp)
    (tmp_path / "script.py").write_text(program)
    started = [sys.executable, "script.py" if how == "script" else "-"]
    stdin = program if how == "stdin" else ""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        started, input=stdin, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "Run here: 21 trials at widths 16, 24, 32\n", done.stderr
    assert "cannot be started" not in done.stderr


def test_the_room_of_sweeps_is_the_function_too() -> None:
    program = (
        "import inspect, mutransfer_cli as mt\n"
        "import mutransfer_cli.sweep.spawn as room\n"  # takes the function's place in the package
        "assert room.start\n"
        "print(*inspect.signature(mt.sweep).parameters)\n"
        "mt.sweep(3, 'x')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "spec folder variant device workers\n", done.stderr
    assert "InputError: expected a sweep spec: a dict" in done.stderr


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (3, "expected a sweep spec: a dict, .* found 3"),
        ({"a": 1}, "spec: expected `schema: mutransfer.sweep/1`, found none"),
        ("quickstrat", "quickstrat: no such spec"),
    ],
)
def test_specs_that_are_none_are_refused(spec: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        sweep(spec, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 0}, "workers 0: expected a positive whole number"),
        ({"device": "tpu"}, "device 'tpu': expected auto, cpu or cuda"),
        ({"variant": "cpu"}, "variant cpu: unknown in spec; the spec has none"),
        ({"folder": None}, "expected the folder to write, found None"),
    ],
)
def test_bad_arguments_are_refused(
    tiny_mlp: dict[str, Any], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        sweep(tiny_mlp, **{"folder": tmp_path / "x"} | options)


def test_a_model_of_the_notebook_itself_is_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["model"] = {"factory": "__main__:build"}
    with pytest.raises(InputError, match=r"put the function into a file of its own, such as"):
        sweep(tiny, tmp_path / "x")


def test_a_stopped_sweep_keeps_its_trials(
    tiny_mlp: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Lines, records: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "recorded", stop)
    with pytest.raises(SweepInterrupted, match=r"^stopped: 7 trials are saved in .*; run the same"):
        sweep(tiny_mlp, tmp_path / "x")
    monkeypatch.undo()
    monkeypatch.setattr("mutransfer_cli.sweep.spawn.environments", lambda kind, count: [])
    assert len(sweep(tiny_mlp, tmp_path / "x").trials) == 21


def test_failed_trials_are_said(
    tiny_mlp: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no more heat")

    monkeypatch.setattr("mutransfer_cli.train.loop.Trainer.run", fail, raising=True)
    with pytest.raises(SweepIncomplete, match=r"21 trials failed, the first with: .*no more heat"):
        sweep(tiny_mlp, tmp_path / "x")
    assert mt.read_run(tmp_path / "x").trials["status"].eq("failed").all()
