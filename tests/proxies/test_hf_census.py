"""Roles in many families of transformers against those written by hand."""

from __future__ import annotations

import re

import pytest

from mutransfer_cli.proxies.build import read_model
from mutransfer_cli.spec.model import HfProtocol
from tests.proxies.census import CONTEXT, VOCAB, WIDTH, small_config
from tests.proxies.census_roles import ROLES

pytest.importorskip("transformers")


@pytest.mark.parametrize("model_type", ROLES)
def test_roles_are_those_of_a_reader_of_the_architecture(model_type: str) -> None:
    model = HfProtocol(hf=small_config(model_type), untie=True, roles={}, vocab=VOCAB)
    found: dict[str, set[str]] = {}
    for parameter in read_model(model, CONTEXT, WIDTH).base_plan:
        name = re.sub(r"\.\d+\.", ".N.", parameter.name)
        found.setdefault(name, set()).add(parameter.role)
    assert found == {name: {role} for name, role in ROLES[model_type].items()}
