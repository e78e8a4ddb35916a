"""What every file model shares: unknown keys are refused, numbers may be written as people do.

YAML 1.1 reads `3e-4` as text and nobody's YAML knows `2^-9`; both are numbers here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mutransfer_cli.errors import InputError

POWER = re.compile(r"\s*([+-]?[\d.]+)\s*(?:\^|\*\*)\s*([+-]?[\d.]+)\s*")


def parse_number(value: Any) -> Any:
    """A float from 3e-4, "3e-4" or "2^-9"; anything else is left for the type check to refuse."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {value}")
    if not isinstance(value, int | str):
        return value
    power = POWER.fullmatch(value) if isinstance(value, str) else None
    try:
        result = float(power[1]) ** float(power[2]) if power else float(value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(
            f"expected a number such as 0.001, 3e-4 or 2^-9, found {value!r}"
        ) from error
    if isinstance(result, complex):
        raise ValueError(f"expected a real number, found {value!r}")
    return result


def parse_count(value: Any) -> Any:
    """An integer from 100, "1e5" or "2^16"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = parse_number(value)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    if isinstance(number, float):
        raise ValueError(f"expected a whole number, found {value!r}")
    return number


Number = Annotated[float, BeforeValidator(parse_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(parse_count), Field(ge=0)]


def nearest(word: str, valid: Iterable[str]) -> str:
    """ "; did you mean 'x'?" or nothing, then the valid words."""
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (valid: {', '.join(valid)})"


class Strict(BaseModel):
    """A frozen mapping with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            valid = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in valid and key not in cls.model_fields:
                    raise ValueError(f"unknown key {str(key)!r}{nearest(str(key), valid)}")
        return data


def key_path(location: tuple[int | str, ...], data: Any, missing: bool) -> str:
    """Where a problem lies, as keys of `data`: pydantic also names the branches of its unions."""
    keys = []
    for part in location:
        if _holds(data, part):
            data = data[part]
        elif not (missing and part == location[-1]):
            continue
        keys.append(str(part))
    return ".".join(keys)


def _holds(data: Any, key: int | str) -> bool:
    if isinstance(data, dict):
        return key in data
    return isinstance(data, list | tuple) and isinstance(key, int) and key < len(data)


def explain(error: ValidationError, data: Any) -> str:
    """Every problem as `key: what is wrong, found ...`, one a line when there are several."""
    lines = []
    for problem in error.errors(include_url=False):
        where = key_path(problem["loc"], data, missing=problem["type"] == "missing")
        what = problem["msg"].removeprefix("Value error, ")
        found = problem["input"]
        shown = "" if isinstance(found, dict | list) or "found" in what else f", found {found!r}"
        lines.append(f"{where}: {what}{shown}" if where else f"{what}{shown}")
    return lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)


Model = TypeVar("Model", bound=Strict)


def validated(model: type[Model], data: Any, where: str) -> Model:
    """`data` as `model`; an InputError that names `where` (file, line) and each wrong key."""
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a mapping of keys, found {type(data).__name__}")
    field = model.model_fields.get("schema_")
    if field is not None:
        (expected,) = get_args(field.annotation)
        if data.get("schema") != expected:
            found = data.get("schema", "none")
            raise InputError(f"{where}: expected `schema: {expected}`, found {found}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error, data)}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
