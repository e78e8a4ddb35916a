"""The optimizer section: names, defaults and what each optimizer refuses."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from mutransfer_cli.rules.choices import OptimizerName
from mutransfer_cli.spec.optimizers import AdamWSpec, LionSpec, OptimizerSpec

ADAPTER: TypeAdapter[Any] = TypeAdapter(OptimizerSpec)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimizer_is_known_by_its_name(name: str) -> None:
    assert ADAPTER.validate_python({"name": name}).name == name


def test_adamw_is_the_default_and_betas_are_those_of_the_optimizer() -> None:
    assert ADAPTER.validate_python({"eps": "1e-9"}) == AdamWSpec(eps=1e-9)
    assert ADAPTER.validate_python({"name": "lion"}) == LionSpec(name="lion", betas=(0.9, 0.99))


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"name": "adam", "weight_decay": 0.1}, "weight_decay 0.1: adam has none; use name: adamw"),
        ({"name": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam'"),
        ({"name": "sgd", "eps": 1e-8}, "unknown key 'eps'"),
        ("adamw", "expected a mapping of keys, found 'adamw'"),
    ],
)
def test_what_an_optimizer_does_not_have_is_refused(section: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ADAPTER.validate_python(section)
