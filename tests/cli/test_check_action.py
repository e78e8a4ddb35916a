"""The GitHub action: its steps, run as the runner runs them, on recipes that pass and that fail.

The runner is described at https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax
and, for the shell, actions/runner, src/Runner.Worker/Handlers/ScriptHandlerHelpers.cs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.spec.records import Records
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".github" / "actions" / "check"
ACTION: dict[str, Any] = yaml.safe_load((FOLDER / "action.yml").read_text())
EXAMPLE: dict[str, Any] = yaml.safe_load((FOLDER / "example.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
OURS = "./third_party/mutransfer/.github/actions/check"

Make = Callable[..., Records]
Write = Callable[..., Path]
Run = Callable[..., Any]


@dataclass(frozen=True)
class Ran:
    """The result of a step."""

    exit_code: int
    stdout: str
    stderr: str
    summary: str
    outputs: dict[str, str]


class Job:
    """A job: its temporary folder and the outputs of its steps."""

    def __init__(self, temp: Path) -> None:
        self.temp = temp
        self.outputs: dict[str, dict[str, str]] = {}

    def step(self, name: str, workspace: Path, **inputs: str) -> Ran:
        """Run one step; inputs that are not given have their defaults."""
        (step,) = [step for step in STEPS if step["name"] == name]
        given = {key: said.get("default", "") for key, said in ACTION["inputs"].items()} | inputs
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("GITHUB_", "PYTHON"))
        }
        files = {"GITHUB_STEP_SUMMARY": self.temp / "summary", "GITHUB_OUTPUT": self.temp / "out"}
        for file in files.values():
            file.write_text("")
        script = self.temp / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script],
            cwd=workspace,
            env=kept
            | {key: str(file) for key, file in files.items()}
            | {key: self.evaluated(value, given) for key, value in step["env"].items()}
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "GITHUB_ACTION_PATH": str(FOLDER),
                "GITHUB_ACTIONS": "true",
                "RUNNER_TEMP": str(self.temp),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs = dict(line.split("=", 1) for line in lines)
        self.outputs[step.get("id", "")] = outputs
        return Ran(
            done.returncode,
            done.stdout,
            done.stderr,
            files["GITHUB_STEP_SUMMARY"].read_text(),
            outputs,
        )

    def evaluated(self, expression: str, inputs: dict[str, str]) -> str:
        """Evaluate an expression of one of the two kinds that the action uses."""
        found = re.fullmatch(r"\$\{\{ (?:inputs|steps\.(\w+)\.outputs)\.(\w+) \}\}", expression)
        assert found, expression
        return (self.outputs[found[1]] if found[1] else inputs)[found[2]]

    def install(self, workspace: Path, **inputs: str) -> None:
        for name in ("Is torch needed?", "Install"):
            ran = self.step(name, workspace, **inputs)
            assert ran.exit_code == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job after the step that installs, without torch."""
    job = Job(tmp_path_factory.mktemp("static"))
    job.install(job.temp, source="recipe.yaml", gates="static")
    return job


@pytest.fixture
def recipe(made: Make, write_records: Write, run: Run, tmp_path: Path) -> Path:
    """A recipe that passes, in the current folder of the job."""
    exponents, path = tmp_path / "exponents.yaml", tmp_path / "recipe.yaml"
    assert run("fit-exponents", write_records(made()), "-o", exponents).exit_code == 0
    assert run("transfer", exponents, "--width", 128, "-o", path).exit_code == 0
    return path


def spoil(recipe: Path) -> None:
    """Double the rate of the hidden matrices."""
    document = yaml.safe_load(recipe.read_text())
    document["roles"]["hidden"]["lr"]["value"] *= 2
    recipe.write_text(yaml.safe_dump(document))


def test_a_recipe_alone_is_judged_without_torch(static: Job, recipe: Path) -> None:
    ran = static.step("Check", recipe.parent, source="recipe.yaml", junit="junit.xml")
    assert ran.exit_code == 0, ran.stderr
    assert "::" not in ran.stdout + ran.stderr
    assert ran.summary.startswith("## mutransfer check: pass\n")
    assert ran.outputs["verdict"] == "pass"
    document = yaml.safe_load(Path(ran.outputs["file"]).read_text())
    assert (document["verdict"], document["source"]) == ("pass", "recipe.yaml")
    assert (recipe.parent / "junit.xml").exists()
    torch = subprocess.run(
        [static.temp / "mutransfer-check" / "bin" / "python", "-I", "-c", "import torch"],
        capture_output=True,
    )
    assert b"No module named 'torch'" in torch.stderr


def test_a_recipe_that_fails_is_annotated(static: Job, recipe: Path) -> None:
    spoil(recipe)
    ran = static.step("Check", recipe.parent, source="recipe.yaml", gates="static")
    assert ran.exit_code == 3
    (annotation,) = [line for line in ran.stderr.splitlines() if line.startswith("::")]
    assert re.match(
        r"::error file=recipe.yaml,title=mutransfer check%3A static::lr of .* \(hidden\) is ",
        annotation,
    )
    assert "| static | fail | lr of " in ran.summary
    assert ran.outputs["verdict"] == "fail"
    assert yaml.safe_load(Path(ran.outputs["file"]).read_text())["verdict"] == "fail"


def test_inputs_are_words_and_never_code(static: Job, recipe: Path) -> None:
    named = recipe.rename(recipe.with_name('$(touch a) "; touch b; *.yaml'))
    args = "--json\n  --tolerance exponent=0.2"
    ran = static.step("Check", recipe.parent, source=named.name, args=args)
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(Path(ran.outputs["file"]).read_text())["source"] == named.name
    assert not {"a", "b"} & {path.name for path in recipe.parent.iterdir()}


def test_what_cannot_be_judged_has_no_verdict(static: Job, recipe: Path) -> None:
    ran = static.step("Check", recipe.parent, source="other.yaml")
    assert (ran.exit_code, ran.outputs) == (2, {})
    assert "other.yaml" in ran.stderr


def test_a_model_without_torch_is_said(static: Job, recipe: Path) -> None:
    ran = static.step("Check", recipe.parent, source="recipe.yaml", model="nets:net")
    assert (ran.exit_code, ran.outputs) == (2, {})
    assert "torch is not installed and this needs it" in ran.stderr


@pytest.mark.slow
def test_a_model_is_built_with_the_torch_of_the_job(
    tiny: dict[str, Any], prepare: Callable[..., Sweep], run: Run, tmp_path: Path
) -> None:
    tiny["optimizer"] = {"weight_decay": 0.1}
    (tmp_path / "exponents.yaml").write_text(dump(exponents(prepare(tiny))))
    (tmp_path / "nets.py").write_text((ROOT / "tests" / "apply" / "own_nets.py").read_text())
    recipe = tmp_path / "recipe.yaml"
    of_model = ("--model", "tests.recipe.own_nets:multiplied", "--width", 64, "-o", recipe)
    assert run("transfer", tmp_path / "exponents.yaml", *of_model).exit_code == 0
    job = Job(tmp_path / "runner")
    job.temp.mkdir()
    job.install(tmp_path, source="recipe.yaml", model="nets:multiplied")
    (installed,) = job.temp.glob("*/lib/*/site-packages")
    assert {"mutransfer_cli"} == {"mutransfer_cli", "torch"} & set(os.listdir(installed))
    for model, exit_code in (("nets:multiplied", 0), ("nets:net", 3)):
        ran = job.step("Check", tmp_path, source="recipe.yaml", model=model)
        assert ran.exit_code == exit_code, ran.stderr
    assert "the readout multiplier is missing" in ran.summary


@pytest.mark.parametrize(
    ("inputs", "needed"),
    [
        ({}, "false"),
        ({"gates": "static"}, "false"),
        ({"records": "runs/larger", "args": "--held-out 64"}, "false"),
        ({"model": "config.json"}, "true"),
        ({"args": "--spec spec.yaml"}, "true"),
        ({"source": "quickstart", "gates": "static, coordinates"}, "true"),
        ({"source": "spec.yaml"}, "true"),
        ({"source": "spec.yaml", "torch": "false"}, "false"),
        ({"torch": "true"}, "true"),
    ],
)
def test_torch_is_for_models_and_for_training(
    tmp_path: Path, inputs: dict[str, str], needed: str
) -> None:
    (tmp_path / "spec.yaml").write_text((ROOT / "recipes" / "quickstart.yaml").read_text())
    ran = Job(tmp_path).step("Is torch needed?", tmp_path, **{"source": "recipe.yaml", **inputs})
    assert (ran.exit_code, ran.outputs) == (0, {"torch": needed})


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "::error title=mutransfer check::source is empty; give a recipe, exponents, records"),
        ({"source": "x", "torch": "yes"}, "torch is yes; it is true, false or auto"),
    ],
)
def test_inputs_that_are_none(tmp_path: Path, inputs: dict[str, str], sentence: str) -> None:
    ran = Job(tmp_path).step("Is torch needed?", tmp_path, **inputs)
    assert ran.exit_code == 2
    assert sentence in ran.stdout


def test_inputs_come_through_the_environment() -> None:
    """Input that is pasted into a script would be run as code."""
    assert all("${{" not in step["run"] for step in STEPS)
    assert all(step["shell"] == "bash" for step in STEPS)
    used = {name for step in STEPS for name in re.findall(r"inputs\.(\w+)", str(step["env"]))}
    assert used == set(ACTION["inputs"])
    assert all(said["description"] for said in ACTION["inputs"].values())


def test_the_example_asks_for_what_there_is() -> None:
    steps = [step for job in EXAMPLE["jobs"].values() for step in job["steps"]]
    ours = [step for step in steps if step.get("uses") == OURS]
    assert len(ours) == 2
    assert all({"source"} <= set(step["with"]) <= set(ACTION["inputs"]) for step in ours)
    asked = set(re.findall(r"outputs\.(\w+)", json.dumps(EXAMPLE["jobs"])))
    assert asked == set(ACTION["outputs"])
    others = [step["uses"] for step in steps if "uses" in step and step["uses"] != OURS]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", used) for used in others)
    ids = {step["id"] for step in steps if "id" in step}
    assert set(re.findall(r"steps\.(\w+)\.", json.dumps(EXAMPLE["jobs"]))) == ids
