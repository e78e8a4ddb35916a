"""Whether compiling a width pays."""

from __future__ import annotations

from pathlib import Path

from mutransfer_cli.torch_private import cache_folder

# depth 2 on one CPU core, from nothing and from the cache; a first guess for CUDA
COLD_SECONDS, WARM_SECONDS = 67.0, 6.0
SAVED = 0.5  # of an eager step in a CUDA graph: assumed, half of its bytes at small widths


def pays(eager_seconds: float, key: str) -> bool:
    """Whether compiling saves more than it takes.

    Args:
        eager_seconds: that the training will take without.
        key: of what is compiled; a run on this machine may have compiled the same before.
    """
    takes = WARM_SECONDS if _marker(key).exists() else COLD_SECONDS
    return SAVED * eager_seconds > takes


def remember(key: str) -> None:
    """The compiled code is in the cache from now on."""
    marker = _marker(key)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _marker(key: str) -> Path:
    return cache_folder() / "compiled" / key
