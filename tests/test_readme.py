"""What the README says is so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.recipe.formats.dispatch import FORMATS, PLAIN
from mutransfer_cli.spec.model import FactorySpec
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import dump, load_yaml
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents, recipe_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = (
    "sweep-proxy",
    "fit-exponents",
    "transfer",
    "check",
    "rules",
    "report",
    "schema",
    "doctor",
)
EXPONENT = re.compile(r"exponent of lr: (\S+)  95 % interval (\S+) to (\S+)")

Run = Callable[..., Any]


def block_after(marker: str) -> str:
    """The fenced block after `<!-- marker -->`."""
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, marker
    return found[1]


def shell_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_shown_exists_with_its_options(run: Run) -> None:
    shown = [part for line in shell_lines() for part in line.split("|") if "mutransfer" in part]
    assert {shlex.split(part)[1] for part in shown} == set(COMMANDS)
    for part in shown:
        _, command, *args = shlex.split(part, comments=True)
        help_text = run(command, "--help").stdout
        for option in (arg for arg in args if re.match(r"--?\w", arg)):
            assert re.search(rf"(^|\s|, ){re.escape(option)}\b", help_text), (command, option)


def test_every_option_is_documented(run: Run) -> None:
    for command in COMMANDS:
        for option in set(re.findall(r"--[a-z][\w-]*", run(command, "--help").stdout)):
            if option not in ("--help", "--output", "--version"):
                assert option in README, (command, option)


def test_the_formats_shown_are_those_there_are() -> None:
    table = README.split("<!-- targets -->")[1].split("\n\n")[0]
    shown = re.findall(
        r"`([\w-]+)`", "".join(line.split("|")[1] for line in table.splitlines()[1:])
    )
    assert shown == ["--to", *PLAIN, *FORMATS]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {match for line in shell_lines() for match in re.findall(r"make (\w+)", line)}
    assert targets == {"quickstart", "test"}
    for target in targets | {"bench", "bench-fit", "experiments", "test-browser"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_spec_shown_is_the_quickstart() -> None:
    shown = validated(SweepSpec, load_yaml(block_after("spec"), "README"), "README")
    assert shown == load_spec("quickstart")[0]


def test_the_data_shown_are_read() -> None:
    shown = re.findall(r"`(\{source: .*?\})`", README)
    assert len(shown) == 5
    spec = load_yaml(block_after("spec"), "README")
    for written in shown:
        data = load_yaml(written.replace("...", "my-data"), "README")
        of_samples = {"model": {"family": "mlp"}, "train": spec["train"] | {"context": 1}}
        model = of_samples if data["source"] == "linear_teacher" else {}
        read = validated(SweepSpec, spec | model | {"data": data}, "README")
        assert read.data.source == data["source"]


def test_the_own_model_shown_is_read(tiny: dict[str, Any]) -> None:
    shown = validated(SweepSpec, tiny | load_yaml(block_after("own model"), "README"), "README")
    assert isinstance(shown.model, FactorySpec)
    assert set(shown.model.roles.values()) == {"embedding", "hidden"}


def test_the_protocol_shown_is_read() -> None:
    shown = load_yaml(block_after("protocol"), "README")
    assert validated(DeclaredProtocol, shown, "README").said_convention == "independent"


def test_the_python_shown_runs(capsys: pytest.CaptureFixture[str]) -> None:
    widths, rates = (64, 128, 256, 512), [2.0**x for x in range(-9, -2)]
    frame = pd.DataFrame([{"width": w, "lr": lr} for w in widths for lr in rates])
    exec(block_after("python"), {"frame": frame.assign(loss=(np.log2(frame["lr"]) + 6) ** 2)})
    assert capsys.readouterr().out.endswith(" 4\n"), "n, the number of widths"


def test_the_trainer_shown_runs(
    tiny: dict[str, Any],
    prepare: Callable[[dict[str, Any]], Sweep],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = prepare(tiny)
    (tmp_path / "recipe.yaml").write_text(dump(recipe_of(exponents(sweep), 64, folded=True)))
    monkeypatch.chdir(tmp_path)
    shown: dict[str, Any] = {"model": sweep.model(64)}
    exec(block_after("trainer"), shown)
    held = {group["name"]: group["initial_lr"] for group in shown["optimizer"].param_groups}
    planned = {target.role: target.lr for target in shown["recipe"].plan(shown["model"])}
    assert held == planned


def test_the_exponents_shown_are_those_of_the_first_command(run: Run) -> None:
    (command,) = (line for line in shell_lines() if "rules --parameterization mup" in line)
    printed = [line.split() for line in run(*shlex.split(command)[1:]).stdout.splitlines()]
    for line in block_after("rules").splitlines():
        assert line.split() in printed


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def check_quickstart(
    run: Run, folder: Path, name: str, expected: float, within: float, wide: float = 0.6
) -> None:
    """Runs a quickstart and holds it against its promise and against the README's table."""
    assert run("sweep-proxy", name, "-o", folder).exit_code == 0
    fitted = run("fit-exponents", folder)
    assert fitted.exit_code == 0, fitted.stderr
    value, low, high = (float(x) for x in EXPONENT.findall(fitted.stderr)[0])
    assert abs(value - expected) <= within
    assert low < value < high
    assert high - low <= wide
    shown, _, _ = (float(x) for x in EXPONENT.findall(block_after(name))[0])
    assert abs(value - shown) <= 0.15
    bowls = [line.split()[0] for line in block_after(name).splitlines()[2:-1]]
    assert bowls == [str(width) for width in load_spec(name)[0].sweep.widths]


def test_mup_transfers_on_real_text(run: Run, tmp_path: Path) -> None:
    check_quickstart(run, tmp_path, "quickstart", expected=0.0, within=0.15)
    recipe = run("transfer", "--width", 4096, stdin=run("fit-exponents", tmp_path).stdout)
    assert recipe.exit_code == 0
    assert "warning: width 4096 is 32x the largest fitted width 128" in recipe.stderr


@pytest.mark.slow
def test_a_global_rate_falls_as_one_over_width(run: Run, tmp_path: Path) -> None:
    check_quickstart(run, tmp_path, "quickstart-standard", expected=-1.0, within=0.25)


@pytest.mark.slow
def test_a_llama_transfers_under_mup(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    check_quickstart(run, tmp_path, "hf-llama-tiny", expected=0.0, within=0.25, wide=1.2)
