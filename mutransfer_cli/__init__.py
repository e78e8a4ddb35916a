"""Tune small proxies, fit how the optimum moves with width, emit the target's recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutransfer_cli.recipe.loaded import load_recipe as load_recipe

__version__ = "0.1.0"
__all__ = ["__version__", "load_recipe"]


def __getattr__(name: str) -> Any:
    # imports torch, which the command line's help must not wait for
    if name == "load_recipe":
        from mutransfer_cli.recipe.loaded import load_recipe

        return load_recipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
