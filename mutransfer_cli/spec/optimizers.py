"""The optimizer section of a spec: base values, at the base width, of one listed optimizer."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from mutransfer_cli.explain import shown, unknown
from mutransfer_cli.optim.listed import OPTIMIZERS, section_of
from mutransfer_cli.optim.section import OptimizerSection
from mutransfer_cli.strict import Strict


def _name(section: Any) -> Any:
    return section.get("name", "adamw") if isinstance(section, dict) else section.name


def _known(section: Any) -> Any:
    if isinstance(section, dict):
        name = _name(section)
        if name not in tuple(OPTIMIZERS):
            raise ValueError(f"name: {unknown(name, OPTIMIZERS, 'optimizer')}")
    elif not isinstance(section, Strict):
        raise ValueError(f"expected a mapping of keys, found {shown(section)}")
    return section


if TYPE_CHECKING:
    OptimizerSpec = OptimizerSection
else:
    OptimizerSpec = Annotated[
        reduce(or_, (Annotated[section_of(name), Tag(name)] for name in OPTIMIZERS)),
        Discriminator(_name),
        BeforeValidator(_known),
    ]
