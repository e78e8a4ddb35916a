"""Keys of the models of files: where they belong, what they mean, and which values they take."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator

from mutransfer_cli.docstrings import field_descriptions

Models = Sequence[type[BaseModel]]


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """The fields of a model by their key in the file."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def homes_of(model: type[BaseModel]) -> dict[str, list[str]]:
    """The paths of the keys of a document and of its sections: lr is at sweep.axes.lr.

    The model's `ELSEWHERE` names places outside the document.
    """
    outside: Mapping[str, str] = getattr(model, "ELSEWHERE", {})
    found = {key: [place] for key, place in outside.items()}
    for key, name in keys_of(model).items():
        found.setdefault(key, []).append(key)
        for section in filter(_is_model, _branches(model.model_fields[name].annotation)):
            for inner, field in keys_of(section).items():
                items = _named_items(section.model_fields[field].annotation)
                outer = f"{key}.{inner}"
                for word, path in ((inner, outer), *((item, f"{outer}.{item}") for item in items)):
                    if path not in found.setdefault(word, []):
                        found[word].append(path)
    return found


def owners_at(model: type[BaseModel] | None, path: Sequence[int | str]) -> list[type[BaseModel]]:
    """The models that may stand at a path of keys, among the branches of unions."""
    found: list[Any] = [] if model is None else [model]
    for part in path:
        below: list[Any] = []
        for kind in found:
            if _is_model(kind):
                name = keys_of(kind).get(str(part))
                below += _branches(kind.model_fields[name].annotation) if name else []
            elif get_origin(kind) in (dict, tuple, list):
                below += [one for arg in get_args(kind)[-2:] for one in _branches(arg)]
        found = below
    return [kind for kind in found if _is_model(kind)]


def meaning_of(key: str, owners: Models) -> str:
    """The first clause of what the docstring says of a key; empty where none of them has it."""
    for owner in owners:
        if key in keys_of(owner):
            clause = re.split(r"[.:;] |\.$", field_descriptions(owner)[key])[0]
            return clause[0].lower() + clause[1:]
    return ""


def choices_of(key: str, owners: Models) -> list[str]:
    """The words of which a key takes one; empty where it takes other values."""
    found = [owner.model_fields[keys_of(owner)[key]] for owner in owners if key in keys_of(owner)]
    return [word for field in found for word in _words(field.annotation)]


def example_of(key: str, owners: Models) -> str:
    """The example that stands beside the field of a key, as people write it in YAML."""
    found = [owner.model_fields[keys_of(owner)[key]] for owner in owners if key in keys_of(owner)]
    return next((_written(field.examples[0]) for field in found if field.examples), "")


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(item)}' for key, item in value.items())}}}"
    return f"[{', '.join(map(_written, value))}]" if isinstance(value, list) else str(value)


def _named_items(annotation: Any) -> list[str]:
    """The keys of a mapping that has a list of them, such as lr and weight_decay of axes."""
    kinds = [kind for kind in _branches(annotation) if get_origin(kind) is dict]
    return [word for kind in kinds for word in _words(get_args(kind)[0])]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _branches(annotation: Any) -> list[Any]:
    """The types of a union, and those that a validator reads instead, without annotations."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        read = [x.json_schema_input_type for x in notes if isinstance(x, BeforeValidator)]
        return [one for kind in (inner, *read) for one in _branches(kind)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for arg in get_args(annotation) for one in _branches(arg)]
    return [] if get_origin(annotation) is Literal else [annotation]


def _words(annotation: Any) -> list[str]:
    """The words that a key may have, if it is a choice."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [word for arg in get_args(annotation) for word in _words(arg)]
    return []
