from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.sources import load_spec
from tests.conftest import Result

WriteSpec = Callable[[Any], Path]


@pytest.fixture
def varied(tiny: dict[str, Any]) -> dict[str, Any]:
    small = {"train": {"steps": 3, "warmup": 1}, "sweep": {"widths": [16]}, "deterministic": True}
    return tiny | {"variants": {"cpu": small}}


def test_a_variant_replaces_keys_of_sections(varied: dict[str, Any], write_spec: WriteSpec) -> None:
    name = str(write_spec(varied))
    plain, _ = load_spec(name)
    small, _ = load_spec(name, "cpu")
    assert (plain.train.steps, plain.deterministic) == (varied["train"]["steps"], False)
    assert (small.train.steps, small.sweep.widths, small.deterministic) == (3, (16,), True)
    assert small.train.batch == plain.train.batch
    assert small.sweep.axes == plain.sweep.axes


def test_an_unknown_variant_is_named(
    varied: dict[str, Any], tiny: dict[str, Any], write_spec: WriteSpec
) -> None:
    with pytest.raises(InputError, match=r"--variant cpus: unknown in .*did you mean 'cpu'"):
        load_spec(str(write_spec(varied)), "cpus")
    del varied["variants"]
    with pytest.raises(InputError, match=r"--variant cpu: unknown in .*the spec has none"):
        load_spec(str(write_spec(varied)), "cpu")


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([1], r"variants: expected names with sections, found \[1\]"),
        ({"cpu": 3}, r"variants\.cpu: expected sections of a spec, found 3"),
        ({"cpu": {"train": {"step": 3}}}, r"variants\.cpu: train: unknown key 'step'"),
        ({"cpu": {"trian": {}}}, r"variants\.cpu: unknown key 'trian'"),
    ],
)
def test_a_variant_that_is_no_spec_is_refused_even_unasked(
    tiny: dict[str, Any], write_spec: WriteSpec, variants: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_spec(str(write_spec(tiny | {"variants": variants})))


def test_the_commands_take_a_variant(
    varied: dict[str, Any],
    write_spec: WriteSpec,
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    varied["variants"]["cpu"]["parameterization"] = {"base_width": 32}
    path = write_spec(varied)
    plan = run("rules", path, "--variant", "cpu", "--width", 64, "--json")
    assert json.loads(plan.stdout)["base_width"] == 32
    monkeypatch.chdir(tmp_path)
    assert run("sweep-proxy", path, "--variant", "cpu").exit_code == 0
    assert (tmp_path / "runs" / "spec-cpu" / "trials.jsonl").exists()
