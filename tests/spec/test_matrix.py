from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.matrix import rows_of
from mutransfer_cli.spec.sources import load_spec, run_name
from tests.conftest import Result

WriteSpec = Callable[[Any], Path]


def test_rows_and_their_groups_replace_keys_of_sections_and_of_those_of_variants() -> None:
    document: dict[str, Any] = {
        "train": {"steps": 10, "batch": 8},
        "variants": {"cpu": {"train": {"steps": 2, "batch": 1}, "sweep": {"widths": [16]}}},
        "rows": {
            "plain": {},
            "group": {
                "train": {"batch": 4},
                "rows": {
                    "same": {"deterministic": True},
                    "other": {
                        "train": {"steps": 20},
                        "variants": {
                            "cpu": {"train": {"steps": 3}},
                            "gpu": {"train": {"batch": 9}},
                        },
                    },
                },
            },
        },
    }
    cpu = document["variants"]["cpu"]
    assert rows_of(document, "file") == {
        "plain": {"train": {"steps": 10, "batch": 8}, "variants": {"cpu": cpu}},
        "same": {
            "train": {"steps": 10, "batch": 4},
            "variants": {"cpu": cpu},
            "deterministic": True,
        },
        "other": {
            "train": {"steps": 20, "batch": 4},
            "variants": {
                "cpu": {"train": {"steps": 3, "batch": 1}, "sweep": {"widths": [16]}},
                "gpu": {"train": {"batch": 9}},
            },
        },
    }


def test_a_file_of_one_spec_has_no_rows(tiny: dict[str, Any]) -> None:
    assert rows_of(tiny, "file") == rows_of([1], "file") == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1], r"^file: rows: expected names with sections, found \[1\]"),
        ({"a": 3}, r"^file: rows\.a: expected sections of a spec, found 3"),
        (
            {"a": {"rows": {"b": None}}},
            r"^file: rows\.a\.rows\.b: expected sections of a spec, found nothing",
        ),
        ({"a": {}, "b": {"rows": {"a": {}}}}, r"^file: rows: row 'a' is written twice"),
    ],
)
def test_rows_that_are_no_sections_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows_of({"rows": rows}, "file")


def test_a_row_is_loaded_by_the_name_of_its_file_and_its_own(
    tiny: dict[str, Any], write_spec: WriteSpec
) -> None:
    small = {"cpu": {"train": {"steps": 3, "warmup": 1}}}
    rows = {"long": {"train": {"steps": 30}}, "wide": {"sweep": {"widths": [64]}}}
    path = write_spec(tiny | {"variants": small, "rows": rows})
    stem = str(path.with_suffix(""))
    assert load_spec(f"{stem}/long")[0].train.steps == 30
    wide, found = load_spec(f"{stem}/wide", "cpu")
    assert (wide.train.steps, wide.sweep.widths, found) == (3, (64,), path)
    assert run_name(f"{stem}/wide", path, "cpu") == f"{path.stem}/wide-cpu"
    with pytest.raises(InputError, match=rf"holds several specs; name one, such as {stem}/long$"):
        load_spec(str(path))
    with pytest.raises(InputError, match=r"no such spec; .* no row 'lnog'; did you mean long"):
        load_spec(f"{stem}/lnog")


def test_an_error_in_a_row_names_file_row_and_key(
    tiny: dict[str, Any], write_spec: WriteSpec
) -> None:
    wrong = {"train": {"stpes": 3}}
    rows = {"good": {}, "bad": wrong, "worse": {"variants": {"cpu": wrong}}}
    path = write_spec(tiny | {"rows": rows})
    stem = str(path.with_suffix(""))
    load_spec(f"{stem}/good")
    with pytest.raises(
        InputError, match=rf"^{path} line 13, column 7: row bad: train: unknown key 'stpes'"
    ):
        load_spec(f"{stem}/bad")
    with pytest.raises(
        InputError,
        match=rf"^{path} line \d+, column \d+: row worse: variants\.cpu: train: unknown key",
    ):
        load_spec(f"{stem}/worse")


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
    with pytest.raises(InputError, match=r"variant cpus: unknown in .*did you mean 'cpu'"):
        load_spec(str(write_spec(varied)), "cpus")
    del varied["variants"]
    with pytest.raises(InputError, match=r"^variant cpu: unknown in .*the spec has none"):
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
    wrong = run("rules", path, "--variant", "cpus", "--width", 64)
    assert wrong.stderr.startswith("Error: --variant cpus: unknown in ")
    monkeypatch.chdir(tmp_path)
    assert run("sweep-proxy", path, "--variant", "cpu").exit_code == 0
    assert (tmp_path / "runs" / "spec-cpu" / "trials.jsonl").exists()
