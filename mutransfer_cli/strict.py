"""Base of all file models: refuse unknown keys, and read numbers as people write them.

YAML 1.1 reads `3e-4` as text and no YAML knows `2^-9`; both are numbers here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
from mutransfer_cli.explain import Fault, UnknownKey, elsewhere, faults, shown
from mutransfer_cli.keys import homes_of
from mutransfer_cli.located import at, place_of
from mutransfer_cli.meant import nearest as nearest

POWER = re.compile(r"\s*([+-]?[\d.]+)\s*(?:\^|\*\*)\s*([+-]?[\d.]+)\s*")
GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
SHORT = re.compile(r"\s*(\d+|\d*\.\d+)\s*([kKM])\s*")
THOUSANDS = {"k": 1_000, "K": 1_000, "M": 1_000_000}
_DIGITS = r"(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)"
# the texts that `parse_number` and `parse_count` accept, for JSON Schema only
_NUMBER = rf"^\s*[+-]?{_DIGITS}([eE][+-]?\d+|\s*(\^|\*\*)\s*[+-]?{_DIGITS})?\s*$"
NumberText = Annotated[str, Field(pattern=_NUMBER)]
CountText = Annotated[str, Field(pattern=rf"{_NUMBER}|^({SHORT.pattern}|{GROUPED.pattern})$")]


def parse_number(value: Any) -> Any:
    """Convert 3e-4, "3e-4" or "2^-9" to a float; leave other types to the type check."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {shown(value)}")
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
    """Convert 100, "1e5", "2^16", "64k", "1.5M" or "12,000" to an integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        number = parse_number(_in_full(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise ValueError(
            f"expected a whole number such as 32, 1e5 or 2^16, found {shown(value)}"
        ) from error
    if not isinstance(number, float):
        return number
    if not number.is_integer():
        raise ValueError(f"expected a whole number, found {value!r}")
    return int(number)


def _in_full(text: str) -> str:
    """A count in digits: 12k is 12000, 1.5M is 1500000, and 12,000 is 12000."""
    plain = text.replace(",", "") if GROUPED.fullmatch(text) else text
    short = SHORT.fullmatch(plain)
    # rounded, because 1.1 * 1000 is not whole
    return f"{round(float(short[1]) * THOUSANDS[short[2]], 6)}" if short else plain


class Written:
    """Annotation of a number, within pydantic limits, that people may write in several forms.

    Strict validation, as in `own_line`, accepts plain numbers only: `parse` would be a call into
    Python for every value, and a sweep has millions.
    """

    def __init__(self, parse: Callable[[Any], Any], text: Any, *limits: Any) -> None:
        self._parse, self._text, self._limits = parse, text, limits

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        within = Annotated[source, *self._limits]
        by_hand = BeforeValidator(self._parse, json_schema_input_type=within | self._text)
        return core_schema.lax_or_strict_schema(
            lax_schema=handler.generate_schema(Annotated[source, by_hand, *self._limits]),
            strict_schema=handler.generate_schema(within),
        )


MAX_WIDTH = 2**53  # larger whole numbers are not exact as floats
FINITE = Field(allow_inf_nan=False)
Number = Annotated[float, Written(parse_number, NumberText, FINITE)]
Positive = Annotated[float, Written(parse_number, NumberText, FINITE, Field(gt=0))]
NonNegative = Annotated[float, Written(parse_number, NumberText, FINITE, Field(ge=0))]
Share = Annotated[float, Written(parse_number, NumberText, FINITE, Field(gt=0, lt=1))]
Count = Annotated[int, Written(parse_count, CountText, Field(ge=1))]
Natural = Annotated[int, Written(parse_count, CountText, Field(ge=0))]


class Closed(BaseModel):
    """A frozen mapping that refuses unknown keys, with pydantic's message.

    The docstring under a field describes it in the JSON Schema too, and its first clause in the
    error for a missing key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @classmethod
    def refuse_unknown_keys(cls, data: Any) -> None:
        valid = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in valid and key not in cls.model_fields:
                raise UnknownKey(key, valid)


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


Model = TypeVar("Model", bound=Closed)


def validated(model: type[Model], data: Any, where: str, part: str = "") -> Model:
    """Validate `data` as `model`; an InputError names file, line and column, and wrong keys.

    Args:
        where: the file, and the line if it is one of a file of lines.
        part: the part of the file that `data` is, if it is not the whole.
    """
    if not isinstance(data, dict):
        start = getattr(data, "start", None)
        raise InputError(at(where, start, part, f"expected a mapping of keys, found {shown(data)}"))
    field = model.model_fields.get("schema_")
    if field is not None:
        (expected,) = get_args(field.annotation)
        if data.get("schema") != expected:
            found = shown(data["schema"]).strip("'") if "schema" in data else "none"
            sentence = f"expected `schema: {expected}`, found {found}"
            raise InputError(at(where, place_of(data, ["schema"]), part, sentence))
    try:
        model.refuse_unknown_keys(data)
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(_listed(where, part, faults(error, data, model))) from error
    except UnknownKey as error:
        sentence = error.sentence(homes_of(model), "")
        raise InputError(at(where, place_of(data, [error.key]), part, sentence)) from error
    except InputError as error:
        place, sentence = elsewhere(str(error), data, model)
        raise InputError(at(where, place, part, sentence)) from error


def _listed(where: str, part: str, found: list[Fault]) -> str:
    """One fault as a sentence, several as a list of them."""
    lines = [at(where, fault.place, part, fault.sentence) for fault in found]
    if len(lines) == 1:
        return lines[0]
    return "\n  ".join([at(where, None, part, f"{len(lines)} faults"), *lines])


def own_line(model: type[Model], line: bytes) -> Model | None:
    """Parse a JSON line as this package writes it; None for any other.

    `validated` accepts what people write (numbers in quotes) and explains errors, but takes several
    times as long.
    """
    try:
        return model.model_validate_json(line, strict=True)
    except ValidationError:
        return None
