"""Base of all file models: refuse unknown keys, and read numbers as people write them.

YAML 1.1 reads `3e-4` as text and no YAML knows `2^-9`; both are numbers here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from mutransfer_cli.errors import InputError

POWER = re.compile(r"\s*([+-]?[\d.]+)\s*(?:\^|\*\*)\s*([+-]?[\d.]+)\s*")
_DIGITS = r"(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)"
# the texts that `parse_number` accepts, for JSON Schema only
NumberText = Annotated[
    str,
    Field(pattern=rf"^\s*[+-]?{_DIGITS}([eE][+-]?\d+|\s*(\^|\*\*)\s*[+-]?{_DIGITS})?\s*$"),
]


def parse_number(value: Any) -> Any:
    """Convert 3e-4, "3e-4" or "2^-9" to a float; leave other types to the type check."""
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
    """Convert 100, "1e5" or "2^16" to an integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = parse_number(value)
    if not isinstance(number, float):
        return number
    if not number.is_integer():
        raise ValueError(f"expected a whole number, found {value!r}")
    return int(number)


class Written:
    """Annotation of a number, within pydantic limits, that people may write in several forms.

    Strict validation, as in `own_line`, accepts plain numbers only: `parse` would be a call into
    Python for every value, and a sweep has millions.
    """

    def __init__(self, parse: Callable[[Any], Any], *limits: Any) -> None:
        self._parse, self._limits = parse, limits

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        within = Annotated[source, *self._limits]
        by_hand = BeforeValidator(self._parse, json_schema_input_type=within | NumberText)
        return core_schema.lax_or_strict_schema(
            lax_schema=handler.generate_schema(Annotated[source, by_hand, *self._limits]),
            strict_schema=handler.generate_schema(within),
        )


MAX_WIDTH = 2**53  # larger whole numbers are not exact as floats
FINITE = Field(allow_inf_nan=False)
Number = Annotated[float, Written(parse_number, FINITE)]
Positive = Annotated[float, Written(parse_number, FINITE, Field(gt=0))]
NonNegative = Annotated[float, Written(parse_number, FINITE, Field(ge=0))]
Share = Annotated[float, Written(parse_number, FINITE, Field(gt=0, lt=1))]
Count = Annotated[int, Written(parse_count, Field(ge=1))]
Natural = Annotated[int, Written(parse_count, Field(ge=0))]


def nearest(word: str, valid: Iterable[str]) -> str:
    """Suggest a valid word for a wrong one: "; did you mean 'x'? (valid: x, y)"."""
    valid = list(valid)
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (valid: {', '.join(valid)})"


class Closed(BaseModel):
    """A frozen mapping that refuses unknown keys, with pydantic's message.

    The docstring under a field describes it in the JSON Schema too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @classmethod
    def refuse_unknown_keys(cls, data: Any) -> None:
        valid = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in valid and key not in cls.model_fields:
                raise ValueError(f"unknown key {str(key)!r}{nearest(str(key), valid)}")


class Strict(Closed):
    """A closed mapping that suggests the valid key for an unknown one, at any depth."""

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, data: Any) -> Any:
        cls.refuse_unknown_keys(data)
        return data


class Sparse(Strict):
    """A mapping whose fields in `OPTIONAL` are written only if they differ from their default.

    A field that a later version adds is optional, so that older documents keep their hash.
    """

    OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = {key: type(self).model_fields[key] for key in self.OPTIONAL}
        defaults = {key: x.get_default(call_default_factory=True) for key, x in fields.items()}
        return {
            key: value
            for key, value in serialize(self).items()
            if key not in defaults or getattr(self, key) != defaults[key]
        }


def key_path(location: tuple[int | str, ...], data: Any, missing: bool) -> str:
    """The location of a problem as keys of `data`, without pydantic's branches of unions."""
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
    """Format problems as `key: what is wrong, found ...`, one per line if there are several."""
    lines = []
    for problem in error.errors(include_url=False):
        where = key_path(problem["loc"], data, missing=problem["type"] == "missing")
        what = problem["msg"].removeprefix("Value error, ")
        found = problem["input"]
        shown = "" if isinstance(found, dict | list) or "found" in what else f", found {found!r}"
        lines.append(f"{where}: {what}{shown}" if where else f"{what}{shown}")
    return lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)


Model = TypeVar("Model", bound=Closed)


def validated(model: type[Model], data: Any, where: str) -> Model:
    """Validate `data` as `model`; an InputError names `where`, file and line, and wrong keys."""
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a mapping of keys, found {type(data).__name__}")
    field = model.model_fields.get("schema_")
    if field is not None:
        (expected,) = get_args(field.annotation)
        if data.get("schema") != expected:
            found = data.get("schema", "none")
            raise InputError(f"{where}: expected `schema: {expected}`, found {found}")
    try:
        model.refuse_unknown_keys(data)
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error, data)}") from error
    except (InputError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error


def own_line(model: type[Model], line: bytes) -> Model | None:
    """Parse a JSON line as this package writes it; None for any other.

    `validated` accepts what people write (numbers in quotes) and explains errors, but takes several
    times as long.
    """
    try:
        return model.model_validate_json(line, strict=True)
    except ValidationError:
        return None
