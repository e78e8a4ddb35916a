"""`sweep-proxy` measures trials while they train and warns where the measurements ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.spec.measurements import read_diagnostics
from mutransfer_cli.spec.sources import read_records

Run = Callable[..., Any]
WriteSpec = Callable[[Any], Path]


@pytest.fixture
def raw(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["sweep"] = {"widths": [16, 32], "axes": {"lr": [2**-8, 2**-7, 1e30]}}
    return tiny


def trials_of(folder: Path) -> dict[str, str]:
    """Status by trial."""
    records = read_records(folder / "trials.jsonl")
    assert records is not None
    return {record.trial: record.status for record in records.trials}


def test_beside_the_records_and_nowhere_else(
    raw: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    raw["diagnostics"] = {"every": 5}
    result = run("sweep-proxy", write_spec(raw), "-o", tmp_path / "run")
    assert result.exit_code == 0
    assert "warning" not in result.stderr, "none with the default eps"
    kinds = [json.loads(line)["kind"] for line in result.stdout.splitlines()]
    assert set(kinds) == {"sweep", "trial", "throughput"}
    statuses = trials_of(tmp_path / "run")
    found = read_diagnostics(tmp_path / "run" / "diagnostics.jsonl", list(statuses))
    for trial, status in statuses.items():
        steps = [record.step for record in found if record.trial == trial]
        assert steps == ([0, 5, 10] if status == "ok" else [0])
    last = next(record for record in found if record.step == 10)
    assert set(last.gradient_rms) == set(last.relative_update) == set(last.top_singular_value)
    assert set(last.alignment) == set(last.gradient_rms) - {"embedding.weight"}
    blocks = ["embedding", "blocks.0", "readout"]
    assert list(last.activation_rms) == list(last.activation_change_rms) == blocks


def test_off_there_is_no_file_and_the_losses_are_the_same(
    raw: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    """The protocol is the same too, so one folder takes both."""
    assert run("sweep-proxy", write_spec(raw), "-o", tmp_path / "on").exit_code == 0
    raw["diagnostics"] = "off"
    spec = write_spec(raw)
    assert run("sweep-proxy", spec, "-o", tmp_path / "off").exit_code == 0
    assert run("sweep-proxy", spec, "-o", tmp_path / "on").exit_code == 0
    on, off = (read_records(tmp_path / name / "trials.jsonl") for name in ("on", "off"))
    assert on is not None
    assert off is not None
    assert on.header == off.header
    losses = [[(r.trial, r.train_loss, r.eval_loss) for r in found.trials] for found in (on, off)]
    assert losses[0] == losses[1]
    assert (tmp_path / "on" / "diagnostics.jsonl").exists()
    assert not (tmp_path / "off" / "diagnostics.jsonl").exists()


def test_an_eps_that_hides_the_gradients_is_warned_of_in_a_line_a_role(
    raw: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    raw["optimizer"] = {"name": "adamw", "eps": 1e-2}
    result = run("sweep-proxy", write_spec(raw), "-o", tmp_path / "run")
    assert result.exit_code == 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    roles = ("embedding", "hidden", "readout")
    for line, role in zip(lines, roles, strict=True):
        assert line.startswith(f"warning: {role}, widths 16 to 32: gradients of RMS ")
        assert "set optimizer.eps to at most" in line
        assert "or choose optimizer adam_atan2" in line
    assert "warning" not in result.stdout
    again = run("sweep-proxy", write_spec(raw), "-o", tmp_path / "run")
    assert [line for line in again.stderr.splitlines() if line.startswith("warning: ")] == lines
