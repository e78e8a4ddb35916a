"""Adding keys to the data of a protocol leaves the hashes of older protocols unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol, OwnData, OwnDataProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep

TEXT = DataProtocol(source="stdlib", sha256="0" * 64, bytes=1_000_000, eval_fraction=0.1)


@pytest.mark.parametrize(
    ("name", "before"),
    [("quickstart", "4b18f5da6b451dcd"), ("quickstart-standard", "60e87a4a5a281c2f")],
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


OWN: dict[str, Any] = {
    "model": {"factory": "mine:model"},
    "data": {"factory": "mine:batches", "args": {"size": 16}},
    "train": {"steps": 10},
}
LOSS = {"factory": "mine:loss"}


def own(raw: dict[str, Any], **changes: Any) -> SweepSpec:
    return validated(SweepSpec, raw | OWN | changes, "spec")


def test_own_samples_are_a_function_with_its_arguments(tiny: dict[str, Any]) -> None:
    found = own(tiny, loss=LOSS)
    assert isinstance(found.data, OwnData)
    assert (found.data.args, found.data.eval_fraction) == ({"size": 16}, 0.1)
    assert found.train.context == 1
    assert own(found.model_dump(mode="json", by_alias=True), loss=LOSS) == found


def test_a_protocol_of_own_samples_is_read_back(tiny: dict[str, Any]) -> None:
    data = OwnDataProtocol(factory="mine:b", sha256="0" * 64, samples=9, eval_samples=1)
    with_loss, without = (
        Protocol.of(own(tiny, **loss), data, None) for loss in ({"loss": LOSS}, {})
    )
    assert Protocol.model_validate(with_loss.model_dump(mode="json")) == with_loss
    assert "loss" not in without.model_dump()
    assert "vocab" not in without.model_dump()["model"]
    assert with_loss.hash != without.hash
    assert (without.loss_unit, without.batch_tokens) == ("loss", 8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {}}, r"data.factory: only a function knows how its samples are read; give mod"),
        ({"model": {"family": "mlp"}}, r"data.factory: only a function knows"),
        ({"train": {"steps": 10, "context": 8}}, r"train.context: found 8, and samples are not"),
        ({"train": {"steps": 10, "z_loss": 1e-4}}, r"train.z_loss: needs logits of tokens"),
        ({"data": {"factory": "mine"}}, r"data.factory: expected package.module:function, found"),
        ({"data": {"factory": "mine:x", "size": 3}}, r"data: unknown key 'size'"),
        ({"data": {"source": "stdlib"}, "loss": LOSS}, r"loss: is for the samples of data.factory"),
    ],
)
def test_what_own_samples_cannot_have_is_refused(
    tiny: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        own(tiny, **changes)
