"""What is written, to the letter. To renew after a change that is meant: delete the file and run
this test twice; the first run writes it and fails. Review the difference like code."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

from mutransfer_cli.recipe.formats.dispatch import FORMATS
from tests.recipe.formats.conftest import Document, written

GOLDEN = Path(__file__).parent / "golden"
# the hash covers forecasts, whose last digits differ between machines
VARIES = re.compile(r"mutransfer \S+, recipe [0-9a-f]{16} for")

INDEPENDENT = {
    "parameterization": {"decay_convention": "independent"},
    "optimizer": {"weight_decay": 1e-3},
    "model": {"attention_scale": "1/sqrt(d_head)"},
    "train": {"schedule": "cosine"},
}


def held_against(text: str, name: str) -> None:
    text = VARIES.sub("mutransfer VERSION, recipe HASH for", text)
    path = GOLDEN / name
    if not path.exists():
        path.write_text(text)
        pytest.fail(f"{path} was missing and is written now; review it and run again")
    assert text == path.read_text()


def suffix(to: str) -> str:
    return "yaml.txt" if to == "nemo-automodel" else "py.txt"


@pytest.mark.parametrize("to", FORMATS)
def test_mup_folded(document: Document, to: str) -> None:
    found = document(optimizer={"weight_decay": 0.1})
    held_against(written(found, to, folded=True), f"{to}-mup.{suffix(to)}")


@pytest.mark.parametrize("to", FORMATS)
def test_independent_decay(document: Document, to: str) -> None:
    held_against(written(document(**INDEPENDENT), to), f"{to}-independent.{suffix(to)}")


def test_megatrons_own_mup(document: Document) -> None:
    held_against(written(document(), "megatron"), "megatron-native.args.txt")


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda p: p.name)
def test_what_is_kept_is_of_its_grammar(path: Path) -> None:
    text = path.read_text()
    if path.stem.endswith(".py"):
        ast.parse(text)
    elif path.stem.endswith(".yaml"):
        found = yaml.safe_load(text)
        assert set(found) == {"optimizer", "lr_scheduler"}
        assert set(found["optimizer"]) == {
            *("_target_", "lr", "weight_decay", "betas", "eps", "param_group_overrides")
        }
        for override in found["optimizer"]["param_group_overrides"]:
            assert [type(override[key]) for key in ("pattern", "lr_mult", "wd_mult")] == [
                *(str, float, float)
            ]
    else:
        words = shlex.split(text, comments=True)
        assert "--use-mup" in words
        assert words[words.index("--mup-base-hidden-size") + 1] == "16"
