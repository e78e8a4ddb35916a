"""A first protocol for a table: what is recognised, guessed and left to be stated."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.protocol import load_protocol
from mutransfer_cli.spec.protocol_starter import protocol_starter

WIDTHS, OCTAVES = (128, 256, 512, 1024), range(-12, -4)
Run = Callable[..., Any]


def table(path: Path, names: dict[str, str], more: dict[str, Any] | None = None) -> Path:
    """Write runs whose best rate falls as 1/width.

    Args:
        names: the user's column by ours.
        more: further columns, of one value.
    """
    rows = [
        {
            "width": width,
            "lr": 2.0**octave,
            "loss": 3 + 0.05 * (octave + 8 + math.log2(width / 256)) ** 2 + 1e-3 * seed,
            "seed": seed,
        }
        for width, octave, seed in product(WIDTHS, OCTAVES, (0, 1))
    ]
    frame = pd.DataFrame(rows)[list(names)].rename(columns=names).assign(**more or {})
    frame.to_csv(path, index=False)
    return path


def fit(found: str, folder: Path, run: Run) -> Any:
    """Run the command that was written, in the folder of the table."""
    words = shlex.split(found)
    assert words[:2] == ["mutransfer", "fit-exponents"]
    return run(*words[1:], "-o", folder / "exponents.yaml")


WANDB = {
    "width": "config.n_embd",
    "lr": "config.learning_rate",
    "loss": "summary.val/loss",
    "seed": "config.seed",
}
SETTINGS = {
    "config.n_layer": 12,
    "config.batch_size": 64,
    "config.max_iters": 5000,
    "config.block_size": 1024,
    "config.optimizer": "Lion",
    "config.weight_decay": 0.1,
}
OWN = {"width": "dim", "lr": "base_lr", "loss": "val_loss", "seed": "run"}


@pytest.mark.parametrize(
    ("names", "more"), [(WANDB, SETTINGS), (OWN, {}), ({k: k for k in OWN}, {})], ids=str
)
def test_the_fit_takes_table_and_protocol_as_they_are(
    names: dict[str, str], more: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    path, target = table(tmp_path / "runs.csv", names, more), tmp_path / "protocol.yaml"
    found = protocol_starter(path, target)
    target.write_text(found.text)
    fitted = fit(found.command, tmp_path, run)
    assert fitted.exit_code == 0, fitted.stderr
    written = yaml.safe_load((tmp_path / "exponents.yaml").read_text())
    assert written["axes"]["lr"]["exponent"]["value"] == pytest.approx(-1, abs=0.05)
    assert run("transfer", tmp_path / "exponents.yaml", "--width", 2048).exit_code == 0


def test_what_the_table_says_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = protocol_starter(table(Path("runs.csv"), WANDB, SETTINGS), Path("p.yaml"))
    protocol = yaml.safe_load(found.text)
    assert protocol["optimizer"] == {"name": "lion"}
    assert protocol["train"] == {"batch": 64, "steps": 5000, "context": 1024}
    assert protocol["model"] == {"depth": 12}
    asked = [line for line in found.text.splitlines() if "CHECK: " in line]
    assert [line.split("CHECK: ")[1].split()[:2] for line in asked] == [
        ["how", "init"],
        ["the", "width"],
    ]
    assert "--columns" not in found.command
    assert max(map(len, found.text.splitlines())) <= 100
    assert "lr from 'config.learning_rate'" in found.recognised[0]


def test_what_is_guessed_or_missing_says_so(tmp_path: Path) -> None:
    found = protocol_starter(table(tmp_path / "runs.csv", OWN), Path("p.yaml"))
    assert "--columns width=dim,lr=base_lr,seed=run --protocol p.yaml" in found.command
    for guess in ("width is guessed to be 'dim'", "seed is guessed to be 'run'"):
        assert f"# CHECK: {guess}" in found.text
    for missing in ("batch: 1   # CHECK", "steps: 1   # CHECK", "# CHECK: the weight decay"):
        assert missing in found.text


def test_a_convention_is_asked_for_where_weight_decay_varies(tmp_path: Path, run: Run) -> None:
    rows = [
        {"width": width, "lr": 2.0**octave, "weight_decay": decay, "eval_loss": 3 + loss}
        for width, octave, decay in product(WIDTHS, OCTAVES, (0.05, 0.1, 0.2))
        for loss in [0.05 * (octave + 8) ** 2 + 0.01 * math.log2(decay / 0.1) ** 2]
    ]
    path, target = tmp_path / "decays.csv", tmp_path / "protocol.yaml"
    pd.DataFrame(rows).to_csv(path, index=False)
    found = protocol_starter(path, target)
    target.write_text(found.text)
    assert load_protocol(target, None).given_convention == "lr_coupled"
    assert "CHECK: what the weight decays of the table mean" in found.text
    assert fit(found.command, tmp_path, run).exit_code in (0, 4)


def test_why_the_fit_refuses_the_table_is_said(tmp_path: Path) -> None:
    path = table(tmp_path / "runs.csv", {k: k for k in OWN})
    frame = pd.read_csv(path)
    pd.concat([frame.assign(depth=depth) for depth in (2, 4)]).to_csv(path, index=False)
    found = protocol_starter(path, Path("p.yaml"))
    (refused,) = (line for line in found.recognised if line.startswith("CHECK"))
    assert "depth differs at width 128 (2 and 4)" in refused
    assert refused.endswith('add --by depth or --where "depth=2"')


def test_a_table_without_a_width_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,2\n2,3\n")
    with pytest.raises(InputError, match="no column looks like width or lr") as caught:
        protocol_starter(path, Path("p.yaml"))
    assert "\n" not in str(caught.value)
