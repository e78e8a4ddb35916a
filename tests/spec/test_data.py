"""Adding keys to the data of a protocol leaves the hashes of older protocols unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.sweep.prepare import Sweep

TEXT = DataProtocol(source="stdlib", sha256="0" * 64, bytes=1_000_000, eval_fraction=0.1)


@pytest.mark.parametrize(
    ("name", "before"),
    [("quickstart", "09ef51c94786e237"), ("quickstart-standard", "beab7f9e03e6f3cb")],
)
def test_the_hashes_of_shipped_specs_are_what_they_were(name: str, before: str) -> None:
    spec, _ = load_spec(name)
    assert Protocol.of(spec, TEXT, 256).hash == before


def test_the_hash_of_a_text_is_what_it_was(
    tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]
) -> None:
    sweep = prepare(tiny)
    assert sweep.protocol.hash == "bc84df9dd22a282b"
    assert sweep.protocol.model_dump()["data"].keys() == {
        "source", "sha256", "bytes", "eval_fraction"
    }  # fmt: skip


def test_what_applies_is_written_and_read_back() -> None:
    said = TEXT.model_copy(update={"kind": "numpy", "tokens": 500_000, "dtype": "uint16"})
    assert DataProtocol.model_validate(said.model_dump(mode="json")) == said
