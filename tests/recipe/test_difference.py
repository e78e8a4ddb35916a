from __future__ import annotations

import pytest

from mutransfer_cli.recipe.difference import Cell
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import PlannedParameter


@pytest.mark.parametrize(
    ("role", "names", "said"),
    [
        ("readout", ("head.weight",), "readout (head.weight)"),
        ("hidden", ("a.weight", "b.weight"), "hidden (2 parameters, a.weight first)"),
        (None, ("a.weight",), "all (a.weight)"),
    ],
)
def test_a_cell_is_named_by_its_role_and_parameters(
    role: Role | None, names: tuple[str, ...], said: str
) -> None:
    wanted = PlannedParameter(name=names[0], role=role, shape=(1,), lr=1.0)
    assert str(Cell(wanted, names, 0)) == said
