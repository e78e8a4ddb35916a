"""Specs of small decoders whose embedding is their readout."""

from __future__ import annotations

from typing import Any

WTE = "transformer.wte.weight"


def spec_of(tiny: dict[str, Any], name: str = "gpt") -> dict[str, Any]:
    """The raw spec of one of the decoders in `tests.proxies.tied_gpts`."""
    return tiny | {"model": {"factory": f"tests.proxies.tied_gpts:{name}"}}
