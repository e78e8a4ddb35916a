"""Mappings and lists of a YAML file that know where in the text each of their parts stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A place in a text; both numbers count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class LocatedMapping(dict[Any, Any]):
    """A mapping with the place of each key; a union with another one keeps the places of both."""

    places: dict[Any, Place]

    def __or__(self, other: Any) -> LocatedMapping:
        found = LocatedMapping(dict(self) | dict(other))
        found.places = self.places | getattr(other, "places", {})
        return found

    def without(self, key: Any) -> LocatedMapping:
        """The mapping without one key."""
        found = LocatedMapping({other: value for other, value in self.items() if other != key})
        found.places = self.places
        return found


class LocatedList(list[Any]):
    """A list with its own place and that of each item."""

    start: Place
    places: Sequence[Place]


def holds(data: Any, key: int | str) -> bool:
    """Whether a mapping has a key, or a list an item."""
    if isinstance(data, dict):
        return key in data
    return isinstance(data, list | tuple) and isinstance(key, int) and key < len(data)


def place_of(data: Any, keys: Sequence[int | str]) -> Place | None:
    """The place of the last of the keys that is there; None where no place is known."""
    found = None
    for key in keys:
        if not holds(data, key):
            break
        places = getattr(data, "places", None)
        if places is not None:
            there = places.get(key) if isinstance(places, dict) else places[int(key)]
            found = there or found
        data = data[key]
    return found


def at(where: str, place: Place | None, part: str, sentence: str) -> str:
    """A sentence behind its place: `spec.yaml line 3, column 5: row small: ...`.

    Args:
        where: the file.
        part: the part of the file that the sentence is about, if it is not the whole.
    """
    begin = f"{where} {place}" if place else where
    return ": ".join(text for text in (begin, part, sentence) if text)
