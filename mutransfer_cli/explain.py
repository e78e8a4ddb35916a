"""Explanations of faults in files, in our own words: the validating library's reach no user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from mutransfer_cli.keys import choices_of, example_of, homes_of, keys_of, meaning_of, owners_at
from mutransfer_cli.located import Place, holds, place_of
from mutransfer_cli.meant import nearest, nearest_of, same_as
from mutransfer_cli.words import listed

COUNT = "a whole number such as 32, 1e5 or 2^16"
NUMBER = "a number such as 0.001, 3e-4 or 2^-9"
MAPPING = "a mapping of keys"
EXPECTED: dict[str, str] = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "int_type": COUNT,
    "int_parsing": COUNT,
    "int_parsing_size": "a smaller whole number",
    "int_from_float": COUNT,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "dict_type": MAPPING,
    "tuple_type": "a list",
    "list_type": "a list",
    "union_tag_not_found": MAPPING,
    "invalid-json-value": "numbers, texts, lists or mappings",
    "recursion_loop": "a value that does not hold itself",
    "none_required": "null",
}
# a sentence about one key, `key: ...`, `key value: ...` or `key is missing`, to which a path joins
OF_ONE_KEY = re.compile(r"[\w.]+(( [^ :]+)?: | (is|must) )")
OUTER = ("_type", "literal_error", "too_short")  # problems of a whole, beside those of its parts
MOST_HOMES = 3  # a key that is in more sections is a common word


class UnknownKey(ValueError):
    """A mapping has a key that it may not have."""

    def __init__(self, key: Any, valid: Iterable[str], noun: str = "key") -> None:
        self.key, self.valid, self.noun = key, list(valid), noun
        super().__init__(self.sentence({}, ""))

    def sentence(self, homes: Mapping[str, Sequence[str]], section: str) -> str:
        """The sentence; a key that has its place in another section is sent there.

        Args:
            homes: the paths of every key of the document.
            section: the path of the mapping.
        """
        word = str(self.key)
        there = [] if same_as(word, self.valid) else same_as(word, list(homes))
        paths = [path for key in there for path in homes[key] if path.rpartition(".")[0] != section]
        if 0 < len(paths) <= MOST_HOMES:
            hint = f"; it belongs to {listed(paths, 'or')} (valid: {', '.join(self.valid)})"
        else:
            hint = nearest(word, self.valid)
        return f"unknown {self.noun} {word!r}{hint}"


class Fault(NamedTuple):
    """A fault of a file as a sentence, and its place if the file has places."""

    place: Place | None
    sentence: str


def shown(value: Any) -> str:
    """A value as YAML writes it, or what kind of value it is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping of keys"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]" if len(repr(value)) < 40 else "a list"
    return repr(value) if isinstance(value, str | int | float) else str(value)


def unknown(value: Any, valid: Iterable[str], noun: str = "") -> str:
    """Say that a value is none of the valid words; to a text the nearest one is suggested.

    Args:
        noun: what the words are, such as `optimizer`.
    """
    words = list(valid)
    if isinstance(value, str):
        return f"unknown {f'{noun} ' if noun else ''}{str(value)!r}{nearest(value, words)}"
    return f"expected {listed(words, 'or')}{_found(value)}"


def explain(error: ValidationError, data: Any, model: type[BaseModel] | None = None) -> str:
    """All faults in one sentence; arguments as for `faults`."""
    return "; ".join(fault.sentence for fault in faults(error, data, model))


def faults(error: ValidationError, data: Any, model: type[BaseModel] | None = None) -> list[Fault]:
    """Every fault, as `key: what is wrong, found ...`, in the order of the file.

    Args:
        data: what was validated, with places if it was read from YAML.
        model: what it was validated as, for the meaning of missing keys.
    """
    found: list[Fault] = []
    for problem in _of_meant_branches(error.errors(include_url=False), data):
        keys = key_path(problem["loc"], data, problem["type"] == "missing")
        keys, sentence = _told(problem, keys, model)
        fault = Fault(place_of(data, keys), sentence)
        if fault not in found:
            found.append(fault)
    return sorted(found, key=lambda fault: fault.place or Place(0, 0))


def elsewhere(sentence: str, data: Any, model: type[BaseModel]) -> Fault:
    """The fault that a sentence tells that begins with a key of some section of the document.

    The rules know no file: `epsilon none: ...` is `parameterization.epsilon none: ...` in a spec.
    """
    word = re.split(r"[: ]", sentence, maxsplit=1)[0]
    paths = [path for path in homes_of(model).get(word, ()) if _holds_path(data, path)]
    if len(paths) != 1 or holds(data, word) or not OF_ONE_KEY.match(sentence):
        return Fault(place_of(data, word.split(".")), sentence)
    return Fault(place_of(data, paths[0].split(".")), paths[0] + sentence.removeprefix(word))


def key_path(location: tuple[int | str, ...], data: Any, missing: bool) -> list[int | str]:
    """The location of a problem as keys of `data`, without branches of unions."""
    keys: list[int | str] = []
    for part in location:
        if holds(data, part):
            data = data[part]
        elif not (missing and part == location[-1]):
            continue
        keys.append(part)
    return keys


def _holds_path(data: Any, path: str) -> bool:
    for key in path.split("."):
        if not holds(data, key):
            return False
        data = data[key]
    return True


def _of_meant_branches(problems: Sequence[Any], data: Any) -> Iterator[Any]:
    """The problems without those of branches of a union that were not meant.

    A list whose items are refused is too short for the library as well.
    """
    kept: dict[tuple[Any, ...], list[Any]] = {}
    for problem in problems:
        keys = tuple(key_path(problem["loc"], data, problem["type"] == "missing"))
        kept.setdefault(keys, []).append(problem)
    for keys, same in kept.items():
        has_inner = any(keys == other[: len(keys)] and other != keys for other in kept)
        if has_inner and all(one["type"].endswith(OUTER) for one in same):
            continue
        if _is_missing_item(same[0]) and (*keys[:-1], int(keys[-1]) + 1) in kept:
            continue  # the last item that is missing tells how many are expected
        yield same[0] if len(same) == 1 else _either(same)


def _is_missing_item(problem: Any) -> bool:
    return problem["type"] == "missing" and isinstance(problem["loc"][-1], int)


def _either(problems: Sequence[Any]) -> Any:
    """One problem for several branches that all refuse the same value."""

    def rank(problem: Any) -> int:
        own = ["value_error", "literal_error"] if isinstance(problem["input"], dict) else []
        own = own or ["literal_error", "value_error"]
        return own.index(problem["type"]) if problem["type"] in own else len(own)

    return min(problems, key=rank)


def _told(
    problem: Any, keys: list[int | str], model: type[BaseModel] | None
) -> tuple[list[int | str], str]:
    """The path of what is at fault, and the sentence that begins with it."""
    kind, found, context = problem["type"], problem["input"], problem.get("ctx") or {}
    owners = owners_at(model, keys)
    if kind in ("value_error", "assertion_error"):
        return _of_validator(context["error"], keys, found, owners, model)
    if kind == "union_tag_not_found" and isinstance(found, dict):
        key = context["discriminator"].strip("'")
        return _without_tag(keys, found, key, owners)
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        value = found.get(key) if isinstance(found, dict) else found
        return [*keys, key], _at([*keys, key], unknown(value, tags))
    if _is_missing_item(problem):
        *whole, last = keys
        such_as = _example(whole, owners_at(model, whole[:-1]))
        return whole, _at(whole, _of_length("", int(last) + 1, such_as, found))
    owners = owners_at(model, keys[:-1])
    if kind == "missing":
        return keys, _missing(keys, owners)
    return keys, _at(keys, _plain(problem, _example(keys, owners)))


def _plain(problem: Any, such_as: str) -> str:
    """The sentence about a value of a wrong type, size or length.

    Args:
        such_as: an example of a right one, from a comma on.
    """
    kind, found, context = problem["type"], problem["input"], problem.get("ctx") or {}
    if kind == "literal_error":
        words = context["expected"].replace(" or ", ", ").replace("'", "")
        return unknown(found, words.split(", "))
    if kind in ("too_short", "too_long"):
        bound = "at least " if kind == "too_short" else "at most "
        count = int(context["min_length" if kind == "too_short" else "max_length"])
        return _of_length(bound, count, such_as, found)
    expected = EXPECTED.get(kind, "another value").format(**context)
    if kind in ("tuple_type", "list_type"):
        such_as = such_as or ", such as [0, 1]"
    elif expected != MAPPING:
        such_as = ""
    return f"expected {expected}{such_as}{_found(found)}"


def _of_length(bound: str, count: int, such_as: str, found: Any) -> str:
    values = "value" if count == 1 else "values"
    return f"expected {bound}{count} {values}{such_as}{_found(found)}"


def _of_validator(
    cause: Any,
    keys: list[int | str],
    found: Any,
    owners: Sequence[type[BaseModel]],
    model: type[BaseModel] | None,
) -> tuple[list[int | str], str]:
    """The path and sentence of a fault that a validator of ours found."""
    homes = homes_of(model) if model else {}
    if isinstance(cause, UnknownKey):
        what = cause.sentence(homes, _path(keys))
        return [*keys, cause.key], _at(keys, what)
    what = str(cause)
    word = re.split(r"[: ]", what, maxsplit=1)[0]
    if not keys:
        return list(word.split(".")), what
    if isinstance(found, dict):
        known = {key for owner in owners for key in keys_of(owner)} | found.keys()
        if word not in known and _path([*keys, word]) not in homes.get(word, ()):
            return keys, _at(keys, what)
        joined = f"{_path(keys)}.{what}" if OF_ONE_KEY.match(what) else _at(keys, what)
        return [*keys, word], joined
    is_told = "found" in what or shown(found) in what or isinstance(found, list | tuple)
    return keys, _at(keys, what if is_told else what + _found(found))


def _without_tag(
    keys: list[int | str], found: dict[Any, Any], tag: str, owners: Sequence[type[BaseModel]]
) -> tuple[list[int | str], str]:
    """A mapping lacks the key that tells its kind, or has it under another name."""
    valid = list(dict.fromkeys(key for owner in owners for key in keys_of(owner)))
    for key in found.keys() - set(valid):
        if nearest_of(str(key), valid) == tag:
            return [*keys, key], _at(keys, str(UnknownKey(key, valid)))
    return keys, _missing([*keys, tag], owners)


def _missing(path: Sequence[int | str], owners: Sequence[type[BaseModel]]) -> str:
    """The sentence for a missing key: what it means, and its choices or an example."""
    key = str(path[-1])
    meaning, choices = meaning_of(key, owners), choices_of(key, owners)
    what = f"{_path(path)} is missing{f': {meaning}' if meaning else ''}"
    if len(choices) > 1:
        return f"{what}, one of {listed(choices, 'or')}"
    return what + _example(path, owners)


def _example(path: Sequence[int | str], owners: Sequence[type[BaseModel]]) -> str:
    found = example_of(str(path[-1]), owners) if path else ""
    return f", such as {found}" if found else ""


def _at(keys: Sequence[int | str], what: str) -> str:
    return f"{_path(keys)}: {what}" if keys else what


def _path(keys: Iterable[int | str]) -> str:
    return ".".join(map(str, keys))


def _found(value: Any) -> str:
    return f", found {shown(value)}"
