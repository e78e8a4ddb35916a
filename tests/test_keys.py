"""Keys of models: their homes, meanings, choices and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter

from mutransfer_cli.keys import choices_of, example_of, homes_of, keys_of, meaning_of, owners_at
from mutransfer_cli.spec.data import TokenData
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.sweep import Range, SweepSpec
from mutransfer_cli.strict import Closed


def required(
    model: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], list[type[BaseModel]]]]:
    """Every required key of a document and of its sections, with the models that have it."""
    owners = owners_at(model, path)
    for key in dict.fromkeys(key for owner in owners for key in keys_of(owner)):
        having = [owner for owner in owners if key in keys_of(owner)]
        if any(owner.model_fields[keys_of(owner)[key]].is_required() for owner in having):
            yield (*path, key), having
        if len(path) < 3:
            yield from required(model, (*path, key))


@pytest.mark.parametrize("model", [SweepSpec, DeclaredProtocol])
def test_every_key_that_people_must_write_has_its_meaning_and_an_example(
    model: type[Closed],
) -> None:
    found = [one for one in required(model) if one[0] != ("schema",)]
    assert len(found) > 10
    for path, owners in found:
        assert meaning_of(path[-1], owners)[:1].islower(), path
        assert example_of(path[-1], owners) or choices_of(path[-1], owners), path


@pytest.mark.parametrize("model", [SweepSpec, DeclaredProtocol])
def test_every_example_can_be_read(model: type[Closed]) -> None:
    for path, owners in required(model):
        for owner in owners:
            field = owner.model_fields[keys_of(owner)[path[-1]]]
            kind: Any = Annotated[field.annotation, *field.metadata, ""]
            for example in field.examples or ():
                TypeAdapter(kind).validate_python(example)


def test_a_key_is_at_home_in_its_section() -> None:
    homes = homes_of(SweepSpec)
    assert homes["widths"] == ["sweep.widths"]
    assert homes["lr"] == ["sweep.axes.lr"]
    assert homes["vocab"] == ["data.vocab"]
    assert homes_of(DeclaredProtocol)["lr"] == ["the column lr of the table"]


def test_what_a_union_and_a_validator_may_read_is_found() -> None:
    assert owners_at(SweepSpec, ["sweep", "axes", "lr"]) == [Range]
    assert TokenData in owners_at(SweepSpec, ["data"])
    assert owners_at(SweepSpec, ["sweep", "axes"]) == owners_at(None, ["data"]) == []
    sources = choices_of("source", owners_at(SweepSpec, ["data"]))
    assert sources == ["stdlib", "text", "tokens", "markov", "linear_teacher"]


def test_the_first_clause_is_the_meaning() -> None:
    assert meaning_of("base_width", owners_at(SweepSpec, ["parameterization"])) == (
        "the width at which your values hold"
    )
    assert meaning_of("none", [SweepSpec]) == ""
