"""Arguments of a forward that are taken from samples: by name, by position, alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.samples import sample_call, structure
from mutransfer_cli.spec.model import FunctionSpec

X, Y, Z = torch.zeros(2, 3), torch.ones(2), torch.ones(2, dtype=torch.int64)


def module(forward: Callable[..., Any]) -> nn.Module:
    model = nn.Module()
    model.forward = forward
    return model


@pytest.mark.parametrize(
    ("forward", "batch", "names", "count"),
    [
        (lambda x: 0, X, (), 1),
        (lambda x, y: 0, {"y": Y, "x": X, "z": Z}, ("y", "x"), 0),
        (lambda x, y=None: 0, {"x": X}, ("x",), 0),
        (lambda *, x: 0, {"x": X, "y": Y}, ("x",), 0),
        (lambda **batch: 0, {"x": X, "y": Y}, ("x", "y"), 0),
        (lambda x: 0, (X, Y), (), 1),
        (lambda x, y, more=None: 0, (X, Y), (), 2),
        (lambda *batch: 0, (X, Y, Z), (), 3),
        (lambda x, generator: 0, (X, Y), (), 1),
        (lambda x, *, generator: 0, {"x": X, "generator": Y}, ("x",), 0),
    ],
)
def test_a_forward_gets_what_it_takes(
    forward: Callable[..., Any], batch: Any, names: tuple[str, ...], count: int
) -> None:
    call = sample_call(module(forward), batch, None, torch.float32)
    generator = torch.Generator()
    args, kwargs = call.arguments(batch, generator)
    assert call.asks is (kwargs.pop("generator", None) is generator)
    assert (tuple(kwargs), len(args)) == (names, count)
    if count:
        assert torch.equal(args[0], X)


@pytest.mark.parametrize(
    ("forward", "batch", "sentence"),
    [
        (lambda x, w: 0, {"x": X, "y": Y}, "needs w, and the samples of data.factory have x, y;"),
        (lambda x, y: 0, (X,), r"needs 2 arguments \(x, y\), and the samples .* tuples of 1;"),
    ],
)
def test_missing_arguments_are_named(
    forward: Callable[..., Any], batch: Any, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        sample_call(module(forward), batch, None, torch.float32)


def test_floats_get_the_type_of_the_weights_and_whole_numbers_keep_theirs() -> None:
    call = sample_call(module(lambda x, y, z: 0), (X, Y, Z), None, torch.float64)
    args, _ = call.arguments((X, Y, Z), None)
    assert [x.dtype for x in args] == [torch.float64, torch.float64, torch.int64]


def test_a_loss_gets_outputs_batch_and_its_arguments() -> None:
    spec = FunctionSpec(factory="tests.proxies.sample_models:smoothed", args={"smoothing": 0.5})
    call = sample_call(module(lambda x: 0), (X, Z), spec, torch.float32)
    found: Tensor = call.loss_from(torch.eye(3)[:2], (X, Z), None)
    expected = nn.functional.cross_entropy(torch.eye(3)[:2], Z, label_smoothing=0.5)
    assert torch.equal(found, expected)
    assert not call.asks
    other = FunctionSpec(factory="tests.proxies.sample_models:mixed")
    assert sample_call(module(lambda x: 0), (X, Z), other, torch.float32).asks


def test_the_structure_of_a_batch_is_said() -> None:
    assert structure({"x": X, "y": (Z,)}) == "x [2, 3] float32, y.0 [2] int64"
    assert structure(X) == "a tensor [2, 3] float32"
