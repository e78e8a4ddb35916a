"""Templates of files for users to begin with."""

from __future__ import annotations

import jinja2
import pytest

from mutransfer_cli.spec.template import TEMPLATES, render


def test_both_templates_are_there() -> None:
    assert TEMPLATES.list_templates() == ["protocol.yaml.j2", "spec.yaml.j2"]


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("spec.yaml.j2")


def test_values_are_written_as_yaml_on_one_line() -> None:
    shown = TEMPLATES.from_string("{{ data | flow }} {{ rate | power }}")
    assert shown.render(data={"hf": "a b.json", "depth": 2}, rate=2**-6.5) == (
        "{hf: a b.json, depth: 2} 2^-6.5"
    )
