"""Tune small proxies, fit how the optimum moves with width, emit the target's recipe."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutransfer_cli.notebook.fits import Fit as Fit
    from mutransfer_cli.notebook.fitting import fit_exponents as fit_exponents
    from mutransfer_cli.notebook.runs import Run as Run
    from mutransfer_cli.notebook.runs import read_run as read_run
    from mutransfer_cli.notebook.sweeping import sweep as sweep
    from mutransfer_cli.recipe.loaded import load_recipe as load_recipe

__version__ = "0.1.0"
# imported at first use: they need pandas or torch, which the command line's help must not wait for
_LAZY = {
    "Fit": "mutransfer_cli.notebook.fits",
    "Run": "mutransfer_cli.notebook.runs",
    "fit_exponents": "mutransfer_cli.notebook.fitting",
    "load_recipe": "mutransfer_cli.recipe.loaded",
    "read_run": "mutransfer_cli.notebook.runs",
    "sweep": "mutransfer_cli.notebook.sweeping",
}
__all__ = [
    *("Fit", "Run", "__version__"),
    *("fit_exponents", "load_recipe", "read_run", "sweep"),
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
