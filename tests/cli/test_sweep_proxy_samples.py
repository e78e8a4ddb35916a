"""A sweep of own samples as its user sees it: records, fit, other data, an error in her code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_ensemble_samples import SPEC

Run = Callable[..., Any]


@pytest.fixture
def raw() -> dict[str, Any]:
    found = copy.deepcopy(SPEC)
    found["data"]["args"] = {"size": 300}
    found["sweep"] = {"widths": [16], "axes": {"lr": [2**-8, 2**-6, 2**-4]}}
    return found


@pytest.mark.processes
def test_workers_train_and_other_samples_are_another_sweep(
    raw: dict[str, Any], run: Run, write_spec: Callable[[Any], Path], tmp_path: Path
) -> None:
    raw["data"] = {"factory": "tests.data.own_samples:as_dataset", "args": {"form": "dict"}}
    records = tmp_path / "records"
    result = run("sweep-proxy", write_spec(raw), "-o", records, "--workers", 2)
    assert result.exit_code == 0, result.stderr
    assert "each with x [8] float32, label [] int64, number [] int64" in result.stderr
    fitted = run("fit-exponents", records)
    assert "width (loss)" in fitted.stderr
    again = run("sweep-proxy", write_spec(raw), "-o", records, "--workers", 2)
    assert again.exit_code == 0
    assert again.stdout == result.stdout, "nothing is trained twice"
    raw["data"]["factory"] = "tests.data.own_samples:datasets"
    raw["data"]["args"] = {}
    other = run("sweep-proxy", write_spec(raw), "-o", records)
    assert other.exit_code == 2
    assert "data.sha256: " in other.stderr


def test_an_error_in_the_users_code_is_a_sentence_with_its_line(
    raw: dict[str, Any], run: Run, write_spec: Callable[[Any], Path]
) -> None:
    raw["model"]["args"] = {"kind": "Raising"}
    result = run("sweep-proxy", write_spec(raw), "--dry-run")
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "of the user (sample_models.py:" in lines[0]
    assert "Traceback" not in result.stderr
