"""The multilayer perceptron on synthetic data, through the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

WriteSpec = Callable[[Any], Path]
Run = Callable[..., Any]

WIDTHS = [32, 64, 128, 256]


@pytest.fixture
def transferring(tiny_mlp: dict[str, Any]) -> dict[str, Any]:
    tiny_mlp["data"] |= {"inputs": 64, "outputs": 16, "samples": 8000, "noise": 0.5}
    tiny_mlp["parameterization"]["base_width"] = 32
    tiny_mlp["train"] |= {
        "steps": 60,
        "batch": 32,
        "warmup": 6,
        "clip": None,
        "eval_batches": 8,
    }
    rates = {"from": "2^-7.5", "to": "2^-3.5", "per_octave": 2}
    tiny_mlp["sweep"] = {"widths": WIDTHS, "axes": {"lr": rates}}
    return tiny_mlp


def test_under_mup_the_best_rate_stays_where_it_is(
    transferring: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    spec, folder = write_spec(transferring), tmp_path / "out"
    trained = run("sweep-proxy", spec, "-o", folder)
    assert trained.exit_code == 0, trained.stderr
    assert "no mean squared error stays below that of its noise, 0.25" in trained.stderr

    fitted = run("fit-exponents", folder, "-o", tmp_path / "exponents.yaml")
    assert fitted.exit_code == 0, fitted.stderr
    assert "eval loss above the best of its width (mse)" in fitted.stderr
    assert "optimal lr by width" in fitted.stderr
    assert "nats" not in fitted.stderr
    axis = yaml.safe_load((tmp_path / "exponents.yaml").read_text())["axes"]["lr"]
    assert {width: at["status"] for width, at in axis["optimum"].items()} == dict.fromkeys(
        WIDTHS, "ok"
    )
    assert axis["exponent"]["low"] < 0 < axis["exponent"]["high"]
    assert abs(axis["exponent"]["value"]) < 0.25

    made = run("transfer", tmp_path / "exponents.yaml", "--width", 1024)
    assert made.exit_code == 0, made.stderr
    recipe = yaml.safe_load(made.stdout)
    assert set(recipe["roles"]) == {"embedding", "hidden", "readout"}
    assert recipe["roles"]["hidden"]["parameters"][0]["pattern"] == r"^hidden\.\d+\.weight$"
    held = recipe["holds_for"]
    assert (held["depth"], held["context"], held["batch_tokens"]) == (1, 1, 32)
    assert (held["options"]["family"], held["options"]["outputs"]) == ("mlp", 16)
    assert (held["vocab"], held["head_size"], recipe["attention_scale"]) == (None, None, None)
    assert recipe["provenance"]["data_sha256"] is None
    sentence = recipe["forecast"]["lr"]["sentence"]
    assert sentence.endswith(" mse; that the law is straight is assumed")


@pytest.mark.slow
def test_under_mup_so_does_that_of_sgd(
    transferring: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    """The rule expects 0; narrow models drift a little: -0.17 to -0.31 on three data seeds."""
    transferring["data"]["noise"] = 0.1
    transferring["optimizer"] = {"name": "sgd"}
    transferring["sweep"]["axes"]["lr"] = {"from": "2^-4", "to": "2^1", "per_octave": 2}
    assert run("sweep-proxy", write_spec(transferring), "-o", tmp_path / "out").exit_code == 0
    fitted = yaml.safe_load(run("fit-exponents", tmp_path / "out").stdout)["axes"]["lr"]
    assert fitted["expected_exponent"] == 0
    assert fitted["exponent"]["low"] < 0 < fitted["exponent"]["high"]
    assert fitted["exponent"]["value"] == pytest.approx(0, abs=0.4)


@pytest.mark.slow
def test_the_same_rate_for_all_roles_falls_with_width_under_standard(
    transferring: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    transferring["model"]["depth"] = 2
    transferring["data"]["inputs"] = 16
    transferring["parameterization"] |= {"name": "standard", "lr_rule": "global"}
    transferring["sweep"]["axes"]["lr"] = {"from": "2^-10", "to": "2^-3"}
    transferring["sweep"]["seeds"] = [0, 1]
    assert run("sweep-proxy", write_spec(transferring), "-o", tmp_path / "out").exit_code == 0
    fitted = yaml.safe_load(run("fit-exponents", tmp_path / "out").stdout)["axes"]["lr"]
    assert fitted["exponent"]["value"] == pytest.approx(-1, abs=0.3)


def test_a_plan_and_a_price_need_no_training(
    tiny_mlp: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    spec = write_spec(tiny_mlp)
    planned = json.loads(run("rules", spec, "--width", 64, "--json").stdout)
    shapes = {p["name"]: (p["role"], p["shape"]) for p in planned["parameters"]}
    assert shapes == {
        "input.weight": ("embedding", [64, 8]),
        "hidden.0.weight": ("hidden", [64, 64]),
        "readout.weight": ("readout", [4, 64]),
    }
    priced = run("sweep-proxy", spec, "-o", tmp_path / "out", "--dry-run")
    assert priced.exit_code == 0
    assert f"{32 * 8 + 32 * 32 + 4 * 32:,}" in priced.stdout
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_ends_with_2(
    tiny_mlp: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    tiny_mlp["model"]["inputs"] = 9
    found = run("sweep-proxy", write_spec(tiny_mlp))
    assert found.exit_code == 2
    assert "model.inputs: found 9, and the data have 8" in found.stderr
