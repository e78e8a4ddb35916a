"""A sweep: its trials, the workers that train them, and the store of their records."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """This room, which can be called as the function `sweep` of the package.

    Python makes a room that is imported an attribute of the package, in the function's place.
    """

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self._function(*args, **settings)

    @property
    def __signature__(self) -> Any:
        return importlib.import_module("inspect").signature(self._function)

    @property
    def _function(self) -> Any:
        return importlib.import_module("mutransfer_cli.notebook.sweeping").sweep


sys.modules[__name__].__class__ = _Room
