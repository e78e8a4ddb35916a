"""A spec of the multilayer perceptron: its allowed values, and its form in a protocol."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import LinearTeacherData
from mutransfer_cli.spec.model import MLPProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated


def load(raw: dict[str, Any]) -> SweepSpec:
    return validated(SweepSpec, raw, "spec.yaml")


def protocol(raw: dict[str, Any]) -> Protocol:
    spec = load(raw)
    assert isinstance(spec.data, LinearTeacherData)
    return Protocol.of(spec, spec.data, None)


def test_its_sizes_are_those_of_the_data(tiny_mlp: dict[str, Any]) -> None:
    found = protocol(tiny_mlp)
    assert found.model == MLPProtocol(
        family="mlp", depth=1, activation="relu", norm="none", inputs=8, outputs=4
    )
    tiny_mlp["model"] |= {"inputs": 8, "outputs": 4}
    assert protocol(tiny_mlp).hash == found.hash


def test_a_sample_is_its_own_context(tiny_mlp: dict[str, Any]) -> None:
    found = protocol(tiny_mlp)
    assert (found.train.context, found.batch_tokens, found.loss_unit) == (1, 8, "mse")
    tiny_mlp["train"]["context"] = 1
    assert protocol(tiny_mlp).hash == found.hash


def test_a_protocol_is_read_back_and_its_hash_stays(tiny_mlp: dict[str, Any]) -> None:
    found = protocol(tiny_mlp)
    assert Protocol.model_validate(found.model_dump(mode="json")) == found
    assert found.hash == "645123921245344a"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("model.inputs", 16, r"model.inputs: found 16, and the data have 8; .* data.inputs"),
        ("model.outputs", 1, r"model.outputs: found 1, and the data have 4; .* data.outputs"),
        ("model.depth", -1, r"model.depth: expected at least 0"),
        (
            "model.activation",
            "selu",
            r"model.activation: unknown 'selu'.* .valid: relu, gelu, tanh",
        ),
        ("model.norm", "layer", r"model.norm: unknown 'layer' .valid: none, rms"),
        ("model.head_size", 16, r"model: unknown key 'head_size'"),
        ("model.family", "mpl", r"model.family: unknown 'mpl'; did you mean 'mlp'\?"),
        ("model", "mlp", r"model: expected a mapping of keys, found 'mlp'"),
        ("model", {}, r"linear_teacher has samples, and the model reads tokens; give model"),
        ("model", {"factory": "a:b"}, r"linear_teacher has samples, and the model reads tokens"),
        ("data", {"source": "stdlib"}, r"data.source: stdlib has tokens, and family mlp reads sam"),
        ("train.context", 64, r"train.context: found 64, and samples are not sequences; leave"),
        ("train.z_loss", 1e-4, r"train.z_loss: needs logits, and an mlp has none; leave it"),
        ("data.vocab", 64, r"data: unknown key 'vocab'"),
    ],
)
def test_what_does_not_fit_is_named(
    tiny_mlp: dict[str, Any], path: str, value: Any, sentence: str
) -> None:
    *parents, last = path.split(".")
    node = tiny_mlp
    for parent in parents:
        node = node[parent]
    node[last] = value
    with pytest.raises(InputError, match=sentence):
        load(tiny_mlp)
