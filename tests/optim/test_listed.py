"""The list and its sections agree; a new optimizer is one file and one entry of the list."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mutransfer_cli
from mutransfer_cli.optim.listed import OPTIMIZERS, section_of

PACKAGE = Path(mutransfer_cli.__file__).parent

TOY = '''
from typing import Literal

from mutransfer_cli.optim.section import OptimizerSection


class ToySpec(OptimizerSection):
    """Sign descent: w -= lr * sign(g)."""

    name: Literal["toy"]
    """Which optimizer: toy."""

    def slots(self, role, param):
        return {}

    def directions_(self, group, members, step):
        return [member.grad.sign() for member in members]
'''
ENTRY = '    Optimizer("toy", "adam", no_epsilon="toy divides by nothing"): "toy.ToySpec",\n'

PROGRAM = """
import json, sys
from pathlib import Path
import mutransfer_cli
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU
from tests.train.trained import train_all

spec, path = load_spec(sys.argv[1])
rule = spec.parameterization.rule(spec.optimizer)
sweep = Sweep.prepare(spec, path.parent)
planned = sweep.protocol.plan(sweep.base_plan, 32, {"lr": 2**-9})
print(json.dumps({
    "package": mutransfer_cli.__file__,
    "rule": [rule.optimizer.name, rule.effective_epsilon],
    "hidden": [[p.lr, p.eps] for p in planned if p.role == "hidden"],
    "losses": train_all(sweep, sweep.trials[32], CPU).eval_losses.tolist(),
}))
"""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_section_has_its_name_and_facts(name: str) -> None:
    section = section_of(name)(name=name)
    assert section.name == section.facts.name == name
    assert hasattr(section, "eps") == (not section.facts.no_epsilon)


def test_another_optimizer_is_one_file_and_one_entry(
    tiny: dict[str, Any], write_spec: Callable[[Any], Path], tmp_path: Path
) -> None:
    """A copy of the package with it gives its rule, its plan and two trials of a sweep."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    optim = tmp_path / PACKAGE.name / "optim"
    (optim / "toy.py").write_text(TOY)
    before, start, after = (optim / "listed.py").read_text().partition("LISTED = {\n")
    (optim / "listed.py").write_text(before + start + ENTRY + after)
    tiny["optimizer"] = {"name": "toy", "weight_decay": 0.1}
    tiny["sweep"] = {"widths": [32], "axes": {"lr": [2**-9, 2**-7]}}
    command = [sys.executable, "-c", PROGRAM, str(write_spec(tiny))]
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | paths
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["package"] == str(optim.parent / "__init__.py")
    assert found["rule"] == ["toy", "none"]
    assert found["hidden"] == [[2**-10, None]] * 4, "lr falls as 1/width; there is no eps"
    assert len(found["losses"]) == 2
    assert all(0 < loss < 6 for loss in found["losses"])
