"""`mutransfer rules`: the exponents of any rule and the plan of any spec."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.sweep.prepare import Sweep
from tests.proxies.options import OPTIONS

Run = Callable[..., Any]
TABLE = ["rules", "--parameterization", "mup"]
LIMIT = 0.4  # seconds
WITH_GAINS = {
    name for name, o in OPTIONS.items() if o.get("gains", "none") != "none" or "preset" in o
}


def exponents(run: Run, args: str) -> Any:
    result = run("rules", *args.split(), "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_fan_et_al_under_standard(run: Run) -> None:
    found = exponents(
        run,
        "--parameterization standard --optimizer adam --weight-decay sqrt_width",
    )
    assert found["roles"]["hidden"] == {
        "init_std": -0.5,
        "multiplier": 0,
        "lr": -1,
        "weight_decay": 0.5,
        "eps": 0,
        "gradient": -0.5,
    }
    assert found["roles"]["embedding"]["weight_decay"] is None
    assert found["expected_base_exponent"] == 0


def test_defaults_are_linear_width_lr_coupled_constant(run: Run) -> None:
    settings = exponents(run, "--parameterization mup")["settings"]
    assert (settings["optimizer"], settings["alignment"], settings["lr_rule"]) == (
        "adamw",
        "full",
        "per_layer",
    )
    assert (settings["weight_decay"], settings["decay_convention"], settings["epsilon"]) == (
        "linear_width",
        "lr_coupled",
        "constant",
    )


def test_a_global_rate_and_what_it_expects(run: Run) -> None:
    args = "--parameterization ntk --optimizer adam --lr-rule global"
    found = exponents(run, args)
    assert found["expected_base_exponent"] == -0.5
    assert {found["roles"][role]["lr"] for role in ("embedding", "hidden", "readout")} == {0}
    unaligned = exponents(run, args + " --alignment none")
    assert unaligned["expected_base_exponent"] == 0


def test_quantities_that_do_not_exist_are_null(run: Run) -> None:
    hidden = exponents(run, "--parameterization mup --optimizer muon")["roles"]["hidden"]
    assert (hidden["lr"], hidden["eps"]) == (0, None)
    atan2 = exponents(run, "--parameterization mup --optimizer adam_atan2")
    assert {role["eps"] for role in atan2["roles"].values()} == {None}
    assert atan2["settings"]["epsilon"] == "none"
    assert atan2["roles"]["scalar"]["gradient"] is None


def test_decay_in_either_convention_and_by_exponent(run: Run) -> None:
    fan = "--parameterization mup --weight-decay sqrt_width --decay-convention independent"
    assert exponents(run, fan)["roles"]["hidden"]["weight_decay"] == -0.5
    own = exponents(run, "--parameterization mup --weight-decay 1/3 --readout-decay none")
    assert own["roles"]["hidden"]["weight_decay"] == pytest.approx(1 / 3)
    assert own["roles"]["readout"]["weight_decay"] is None


def test_measured_alignment_comes_from_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "alignment.yaml"
    path.write_text("readout: {alpha: 1, omega: 0.8, u: 1}\n")
    found = exponents(run, f"--parameterization standard --alignment {path}")
    assert found["features_exponent"] == -0.3
    assert found["settings"]["alignment"] == "custom"
    table = run("rules", "--parameterization", "standard", "--alignment", path)
    assert "features move as width^-3/10" in table.stdout


def test_the_table_holds_fractions_and_sources(run: Run) -> None:
    result = run(*TABLE, "--weight-decay", "sqrt_width", "--fold")
    (hidden,) = (line for line in result.stdout.splitlines() if line.startswith("hidden"))
    assert hidden.split() == ["hidden", "-1/2", "0", "-1", "+1/2", "0", "-1"]
    assert "best base lr: expected to scale as width^0" in result.stdout
    assert "Fan et al. 2025 (arXiv 2510.15262)" in result.stdout
    assert "decays as hidden does is assumed" in " ".join(result.stdout.split())
    (readout,) = (line for line in result.stdout.splitlines() if line.startswith("readout"))
    assert readout.split()[2] == "0", "folded: no multiplier"
    assert "not exact: each role needs its own eps (" in result.stdout


def test_folding_has_two_names(run: Run) -> None:
    folded = exponents(run, "--parameterization mup --fold")
    assert exponents(run, "--parameterization mup --fold-multipliers") == folded
    assert folded["roles"]["readout"]["multiplier"] == 0


def test_the_plan_of_a_spec_is_what_the_engine_gets(
    run: Run,
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    prepare: Callable[[dict[str, Any]], Sweep],
) -> None:
    tiny["optimizer"] = {"weight_decay": 0.1}
    tiny["sweep"]["axes"] = {"lr": [0.01], "lr_mult.hidden": [2.0]}
    sweep = prepare(tiny)
    result = run("rules", write_spec(tiny), "--width", 32, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    planned = sweep.trial_plan(sweep.trials[32][0])
    assert [p["name"] for p in document["parameters"]] == [p.name for p in planned]
    for shown, p in zip(document["parameters"], planned, strict=True):
        assert (shown["lr"], shown["init_std"], shown["multiplier"], shown["eps"]) == (
            p.lr,
            p.init_std,
            p.multiplier,
            p.eps,
        )
        assert shown["weight_decay"]["lr_coupled"] == p.weight_decay
        assert shown["weight_decay"]["independent"] == pytest.approx((p.weight_decay or 0) * p.lr)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_the_built_in_model_has_a_plan(
    run: Run, tiny: dict[str, Any], write_spec: Callable[[Any], Path], name: str
) -> None:
    tiny["model"] |= OPTIONS[name]
    tiny["sweep"]["widths"] = [32]
    result = run("rules", write_spec(tiny), "--width", 64)
    assert result.exit_code == 0, result.stderr
    assert "readout.weight" in result.stdout
    gains = [line.split() for line in result.stdout.splitlines() if ".gain" in line]
    assert bool(gains) == (name in WITH_GAINS)
    for _, role, _, *init in gains:
        assert role in ("vector", "scalar")
        assert init[:3] == ["0", "at", "1"]


def test_a_plan_as_a_table_at_another_rate(run: Run) -> None:
    result = run("rules", "quickstart", "--width", 128, "--lr", "0.02")
    assert result.exit_code == 0, result.stderr
    (up,) = (line for line in result.stdout.splitlines() if "blocks.0.up.weight" in line)
    assert " ".join(up.split()[1:]) == "hidden 512 x 128 0.0884 1.00 0.00500 0 0 1.00e-08"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            "--parameterization muP",
            "--parameterization muP: expected standard, ntk, mup or mean_field; did you mean mup?",
        ),
        ("--parameterization mup --optimizer adan", "expected sgd, adam, adamw, adam_atan2, lion"),
        ("--parameterization mup --weight-decay sqrt", "weight decay rule sqrt: unknown; give"),
        ("--parameterization mup --alignment half", "--alignment half: neither full nor none nor"),
        ("--parameterization mup --optimizer adam_atan2 --epsilon per_layer", "has no epsilon"),
        ("--parameterization mup --optimizer adam --epsilon none", r"adam divides by sqrt\(v\)"),
        ("--parameterization mup --lr-adjustment original", "is Muon's, adamw has none"),
        ("", "give --parameterization for the exponents of a rule, or a SPEC and --width"),
        (
            "--parameterization mup --width 64",
            "--width, --lr and --variant belong to the plan of a SPEC",
        ),
        ("quickstart", "--width is missing"),
        ("quickstart --width 36", "--width: found 36, which model.head_size 8 does not divide"),
        ("quickstart --width 64 --lr -1", "--lr -1: must be positive"),
        (
            "quickstart --width 64 --optimizer lion",
            "--optimizer: the rule of a SPEC is in",
        ),
        ("quickstrat --width 64", "did you mean quickstart"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(run: Run, args: str, sentence: str) -> None:
    result = run("rules", *args.split())
    assert result.exit_code == 2
    assert result.stdout == ""

    assert re.search(sentence, result.stderr), result.stderr


def test_an_alignment_file_with_an_impossible_exponent_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "alignment.yaml"
    path.write_text("hidden: {alpha: 1.2, omega: 0.5, u: 1}\n")
    result = run(*TABLE, "--alignment", path)
    assert result.exit_code == 2
    assert "alignment alpha: found 1.2, must be 0 to 1" in result.stderr
    path.write_text("embedding: {alpha: 1, omega: 0.5, u: 1}\n")
    assert "unknown key 'embedding'" in run(*TABLE, "--alignment", path).stderr


@pytest.mark.timed
def test_the_table_is_quick_and_needs_nothing_heavy() -> None:
    """The best of five runs counts, to leave out the machine's noise."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        command = [sys.executable, "-m", "mutransfer_cli", *TABLE]
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    assert min(times) < LIMIT
    program = (
        "import sys\n"
        f"sys.argv = ['mutransfer', *{TABLE!r}]\n"
        "from mutransfer_cli.cli.app import main\n"
        "try:\n    main()\n"
        "finally:\n    print({'torch', 'scipy', 'numpy', 'pandas'} & set(sys.modules))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "set()"


def test_a_plan_of_tied_weights_shows_both_multipliers(
    tiny: dict[str, Any], write_spec: Callable[[Any], Path], run: Run
) -> None:
    tiny["model"] = {"factory": "tests.proxies.tied_gpts:gpt"}
    result = run("rules", write_spec(tiny), "--width", 64)
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("transformer.wte"))
    assert "2.00, readout 0.500" in row
