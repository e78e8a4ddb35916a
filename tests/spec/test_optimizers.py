"""The optimizer section of a spec: dispatch by name, errors, no torch."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from mutransfer_cli.explain import explain
from mutransfer_cli.optim.adamw import AdamSpec, AdamWSpec
from mutransfer_cli.optim.lion import LionSpec
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.optim.section import OptimizerSection
from mutransfer_cli.spec.optimizers import OptimizerSpec

SECTIONS: TypeAdapter[OptimizerSection] = TypeAdapter(OptimizerSpec)


def test_the_name_chooses_the_section_and_adamw_is_the_default() -> None:
    assert SECTIONS.validate_python({"betas": [0.8, 0.9]}) == AdamWSpec(betas=(0.8, 0.9))
    lion = SECTIONS.validate_python({"name": "lion", "weight_decay": "1e-1"})
    assert lion == LionSpec(name="lion", weight_decay=0.1)
    assert SECTIONS.validate_python(lion) is lion


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimizer_is_known_by_its_name(name: str) -> None:
    assert SECTIONS.validate_python({"name": name}).name == name


def test_a_section_is_written_in_the_order_of_its_fields() -> None:
    written = SECTIONS.dump_python(SECTIONS.validate_python({"name": "adam"}))
    assert list(written) == ["weight_decay", "lr_mult", "name", "betas", "eps"]
    assert SECTIONS.validate_python(written) == AdamSpec(name="adam")


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"name": "adm"}, r"name: unknown optimizer 'adm'; did you mean 'adam'\? \(valid: sgd, ad"),
        ({"name": ["adam"]}, r"name: expected sgd, .* or muon, found \['adam'\]"),
        ("adam", "expected a mapping of keys, found 'adam'"),
        ({"name": "lion", "eps": 1e-8}, "unknown key 'eps'"),
        ({"name": "muon", "momentum": 1}, "momentum: expected a number below 1"),
        ({"name": "adam", "weight_decay": 0.1}, "weight_decay 0.1: adam has none; use name: adamw"),
    ],
)
def test_wrong_sections_are_explained(section: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SECTIONS.validate_python(section)
    assert re.search(sentence, explain(caught.value, section))


def test_specs_are_read_without_torch() -> None:
    program = (
        "import sys, mutransfer_cli.spec.optimizers as o; from pydantic import TypeAdapter; "
        "TypeAdapter(o.OptimizerSpec).validate_python({'name': 'muon'}); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert out == "False\n"
