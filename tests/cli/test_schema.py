"""Files of the real commands against the schemas that `mutransfer schema` prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from jsonschema import Draft7Validator

from benchmarks.joint_coverage import World
from mutransfer_cli.cli.schema import documents
from mutransfer_cli.spec.yaml_io import load_yaml
from tests.cli.test_fit_exponents_declared import PROTOCOL
from tests.cli.test_fit_exponents_weight_decay import COUPLED, table_of
from tests.conftest import Result
from tests.spec.test_schema import problems

Run = Callable[..., Result]
MODELINE = "# yaml-language-server: $schema="


@pytest.fixture
def accepted(run: Run) -> Callable[[str, str], Any]:
    """Parse the text of a file, which the printed schema must accept."""

    printed: dict[str, Draft7Validator] = {}

    def check(name: str, text: str) -> Any:
        if name not in printed:
            printed[name] = Draft7Validator(json.loads(run("schema", name).stdout))
        document = load_yaml(text, name)
        assert problems(printed[name], document) == []
        return document

    return check


Accepted = Callable[[str, str], Any]


@pytest.mark.parametrize("name", documents())
def test_the_schema_of_each_file_is_printed_as_json(name: str, run: Run) -> None:
    result = run("schema", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["title"] == documents()[name][0]
    assert name in run("schema", "--help").stdout


def test_an_unknown_name_is_one_sentence(run: Run) -> None:
    result = run("schema", "recipes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'recipe'?" in result.stderr


def test_a_sweep_its_fit_and_its_recipe(
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    run: Run,
    tmp_path: Path,
    accepted: Accepted,
) -> None:
    tiny["train"] |= {"steps": 60, "batch": 8, "eval_batches": 4}
    tiny["sweep"]["axes"]["lr"] = {"from": "2^-7", "to": "2^0"}
    folder = tmp_path / "out"
    assert run("sweep-proxy", write_spec(tiny), "-o", folder).exit_code == 0
    for line in (folder / "trials.jsonl").read_text().splitlines():
        accepted("trial", line)
    fit = run("fit-exponents", folder)
    accepted("exponents", fit.stdout)
    for options in ((), ("--fold",)):
        recipe = run("transfer", "--width", 96, *options, stdin=fit.stdout)
        assert accepted("recipe", recipe.stdout)["roles"]["hidden"]["lr"]["status"]


def test_fits_of_own_results(
    run: Run, tmp_path: Path, accepted: Accepted, tiny: dict[str, Any]
) -> None:
    bowl, ridge = table_of(World(-1.0, 0.5)), table_of(World(-0.5, 0.0, ratio=0.0))
    tables = {
        "bowl": bowl,
        "zero": table_of(World(-1.0, 0.5), without_decay=True),
        "both": pd.concat([bowl.assign(by="bowl"), ridge.assign(by="ridge")]),
        "two": bowl[bowl["width"] <= 256],
    }
    (tmp_path / "protocol.yaml").write_text(
        yaml.safe_dump(PROTOCOL | {"optimizer": {"name": "muon"}})
    )
    accepted("protocol", (tmp_path / "protocol.yaml").read_text())
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)

    def fitted(name: str, *options: object) -> str:
        text = run("fit-exponents", tmp_path / f"{name}.csv", *options).stdout
        accepted("exponents", text)
        return text

    assert "forms:" in fitted("bowl", *COUPLED)
    accepted("recipe", run("transfer", "--width", 8192, stdin=fitted("zero", *COUPLED)).stdout)
    assert "ridge: null" in fitted("both", *COUPLED, "--by", "by")
    assert "status: insufficient" in fitted("two", *COUPLED)
    declared = fitted("bowl", "--protocol", tmp_path / "protocol.yaml")
    accepted("recipe", run("transfer", "--width", 8192, stdin=declared).stdout)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("widht",), 64),
        (("width",), 0),
        (("values",), "relative"),
        (("roles", "output"), {}),
        (("roles", "hidden", "lr"), 0.01),
        (("roles", "hidden", "lr", "status"), "guessed"),
        (("base_lr", "level"), 95),
        (("warnings",), "none"),
    ],
)
def test_a_recipe_changed_by_hand_is_refused(
    keys: tuple[str, ...], value: Any, recipe: str, run: Run
) -> None:
    document = load_yaml(recipe, "recipe")
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    found = Draft7Validator(json.loads(run("schema", "recipe").stdout))
    assert problems(found, document)


@pytest.fixture
def recipe(run: Run, tmp_path: Path) -> str:
    table_of(World(-1.0, 0.5)).to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "protocol.yaml").write_text(
        yaml.safe_dump(PROTOCOL | {"optimizer": {"name": "adamw"}})
    )
    fit = run("fit-exponents", tmp_path / "runs.csv", "--protocol", tmp_path / "protocol.yaml")
    return run("transfer", "--width", 8192, stdin=fit.stdout).stdout


def test_the_first_line_of_written_yaml_leads_to_its_schema(
    run: Run, tmp_path: Path, recipe: str
) -> None:
    """An editor follows it from the folder of the file."""
    exponents = tmp_path / "exponents.yaml"
    args = ("fit-exponents", tmp_path / "runs.csv", *COUPLED)
    assert run(*args, "-o", exponents).exit_code == 0
    for name, text in {"exponents": exponents.read_text(), "recipe": recipe}.items():
        first = text.splitlines()[0]
        assert first.startswith(MODELINE)
        assert run("schema", name, "-o", tmp_path).exit_code == 0
        found = json.loads((tmp_path / first.removeprefix(MODELINE)).read_text())
        assert found == json.loads(run("schema", name).stdout)
        assert load_yaml(text, name)["schema"] == found["title"]


def test_the_schema_goes_into_a_file(run: Run, tmp_path: Path) -> None:
    assert run("schema", "sweep", "-o", tmp_path / "s.json").stdout == ""
    assert (tmp_path / "s.json").read_text() == run("schema", "sweep", "-o", "-").stdout


def test_json_has_no_comment(run: Run, tmp_path: Path, recipe: str) -> None:
    fit = run("fit-exponents", tmp_path / "runs.csv", *COUPLED, "--json")
    assert json.loads(fit.stdout)["schema"] == "mutransfer.exponents/1"
    again = run("transfer", "--width", 8192, "--json", stdin=fit.stdout)
    assert json.loads(again.stdout)["width"] == 8192


def test_an_unknown_name_is_refused(run: Run) -> None:
    result = run("schema", "recipes")
    assert result.exit_code == 2
    assert "recipes: no such file; did you mean 'recipe'?" in result.stderr
