from __future__ import annotations

import yaml

from mutransfer_cli.located import LocatedList, LocatedMapping, Place, at, place_of
from mutransfer_cli.spec.yaml_io import dump_yaml, load_yaml

TEXT = "a:\n  b: [1, {c: 2}]\n  d: &shared {e: 3}\nf: *shared\n"


def test_every_key_and_item_has_its_place() -> None:
    data = load_yaml(TEXT, "x")
    assert data == {"a": {"b": [1, {"c": 2}], "d": {"e": 3}}, "f": {"e": 3}}
    assert str(place_of(data, ["a", "b"])) == "line 2, column 3"
    assert str(place_of(data, ["a", "b", 1, "c"])) == "line 2, column 11"
    assert str(place_of(data, ["f", "e"])) == "line 3, column 15"


def test_a_missing_key_has_the_place_of_what_should_hold_it() -> None:
    data = load_yaml(TEXT, "x")
    assert str(place_of(data, ["a", "none"])) == "line 2, column 3".replace("2", "1", 1).replace(
        "3", "1"
    )
    assert place_of(data, ["none"]) is None
    assert place_of({"a": 1}, ["a"]) is None


def test_a_union_keeps_the_places_of_both() -> None:
    first, second = load_yaml("a: 1\nb: 2\n", "x"), load_yaml("\n\nb: 3\n", "x")
    both = first | second
    assert isinstance(both, LocatedMapping)
    assert both == {"a": 1, "b": 3}
    assert [place.line for place in (place_of(both, "a"), place_of(both, "b")) if place] == [1, 3]
    assert both.without("a") == {"b": 3}


def test_what_was_read_can_be_written_by_our_own_dumper_alone() -> None:
    data = load_yaml(TEXT, "x")
    assert load_yaml(dump_yaml(data), "x") == data
    # other users of the library in one process keep its dumper as it is
    assert not {LocatedMapping, LocatedList} & yaml.SafeDumper.yaml_representers.keys()


def test_a_place_stands_between_file_and_sentence() -> None:
    assert at("x", Place(3, 5), "row a", "is wrong") == "x line 3, column 5: row a: is wrong"
    assert at("x", None, "", "is wrong") == "x: is wrong"
