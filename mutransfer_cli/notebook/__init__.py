"""The package as a program or a notebook uses it: runs, fits and sweeps as objects."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The room `sweep`, which can be called as the function `mutransfer_cli.sweep`.

    Importing a module of that room makes it an attribute of the package, in the function's place.
    """

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return _function()(*args, **settings)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function())


def _function() -> Any:
    return importlib.import_module("mutransfer_cli.notebook.sweeping").sweep


importlib.import_module("mutransfer_cli.sweep").__class__ = _Room
