"""Uses of parameters and places of activations in one watched forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.observations import Trace
from mutransfer_cli.proxies.operations import Axes
from mutransfer_cli.proxies.tracing import Watcher

N, B, S = 6, 2, 5


def watch(run: Callable[[Any, Tensor], Any], growing: Axes = (), **shapes: Axes) -> Trace:
    """Run a function of parameters and activations [B, S, N]."""
    torch.manual_seed(0)
    values = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    x = torch.randn(B, S, N)
    watcher = Watcher(values, dict.fromkeys(shapes, growing), [x])
    with watcher:
        output = run(type("Parameters", (), values), x)
    return watcher.finish(output)


def uses(trace: Trace) -> dict[str, list[tuple[str, Axes]]]:
    return {name: [(use.kind, use.axes) for use in found] for name, found in trace.uses.items()}


@pytest.mark.parametrize(
    ("run", "shapes", "expected"),
    [
        (lambda p, x: F.linear(x, p.w), {"w": (4, N)}, ("product", (1,))),
        (lambda p, x: x @ p.w, {"w": (N, 4)}, ("product", (0,))),
        (lambda p, x: p.w @ x.mT, {"w": (4, N)}, ("product", (1,))),
        (lambda p, x: torch.einsum("bsd,edf->bsef", x, p.w), {"w": (3, N, 4)}, ("product", (1,))),
        (lambda p, x: F.linear(x, p.w[1]), {"w": (3, 4, N)}, ("product", (2,))),
        (lambda p, x: F.linear(x, 2 * p.w.mT), {"w": (N, 4)}, ("product", (0,))),
        (lambda p, x: F.linear(x, p.w.view(4, N)), {"w": (2, 2, N)}, ("product", (2,))),
        (lambda p, x: F.linear(x, F.normalize(p.w)), {"w": (4, N)}, ("product", (1,))),
        (lambda p, x: F.conv1d(x.mT, p.w), {"w": (4, N, 3)}, ("product", (1, 2))),
        (lambda p, x: F.conv_transpose1d(x.mT, p.w), {"w": (N, 4, 3)}, ("product", (0, 2))),
        (lambda p, x: F.conv1d(x.mT, p.w, groups=N), {"w": (N, 1, 3)}, ("product", ())),
        (lambda p, x: F.bilinear(x, x, p.w), {"w": (4, N, N)}, ("product", (1, 2))),
        (lambda p, x: F.embedding(x.argmax(-1), p.w), {"w": (N, 4)}, ("lookup", (0,))),
        (lambda p, x: p.w[x.argmax(-1)], {"w": (N, 4)}, ("lookup", (0,))),
        (lambda p, x: x + p.w[:, :S], {"w": (1, 8, N)}, ("added", ())),
        (lambda p, x: x * -p.w.exp(), {"w": (N,)}, ("elementwise", ())),
        (lambda p, x: F.layer_norm(x, (N,), p.w), {"w": (N,)}, ("elementwise", ())),
    ],
)
def test_a_use_is_told_by_the_operation(
    run: Callable[[Any, Tensor], Any], shapes: dict[str, Axes], expected: tuple[str, Axes]
) -> None:
    assert uses(watch(run, **shapes)) == {"w": [expected]}


def test_matrices_taken_from_a_stack_by_index_are_multiplied() -> None:
    def run(p: Any, x: Tensor) -> Tensor:
        chosen = x[:, 0].argmax(-1) % 3
        return torch.bmm(x, p.up[chosen])

    assert uses(watch(run, up=(3, N, 4))) == {"up": [("product", (1,))]}


def test_a_parameter_that_a_matrix_reads_is_added_and_not_multiplied() -> None:
    """Learned queries, as of a Perceiver, are rows of a table."""
    found = watch(lambda p, x: F.linear(p.queries, p.w) @ x.mT, w=(N, N), queries=(3, N))
    assert uses(found) == {"queries": [("added", ())], "w": [("product", (1,))]}


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_multiply(kind: type[nn.Module]) -> None:
    layer = kind(N, N, batch_first=True)
    watcher = Watcher(dict(layer.named_parameters()), {}, [x := torch.randn(B, S, N)])
    with watcher:
        output = layer(x)
    found = uses(watcher.finish(output))
    assert found["weight_ih_l0"] == [("product", (1,))]
    assert ("product", (1,)) in found["weight_hh_l0"]


def test_outputs_without_another_growing_product_are_outer() -> None:
    def run(p: Any, x: Tensor) -> Tensor:
        x = x + torch.sigmoid(F.linear(x, p.gate)) * F.linear(x, p.inner)
        return F.linear(x, p.head).logsumexp(-1).mean() + F.linear(x, p.aside).square().mean()

    found = watch(run, growing=(1,), gate=(1, N), inner=(N, N), head=(4, N), aside=(2, N))
    assert found.outer == {"head", "aside"}
    assert found.inner == {"gate", "inner"}


def test_masked_scores_and_ordinary_activations_are_places() -> None:
    def run(p: Any, x: Tensor) -> Tensor:
        q, k = F.linear(x, p.q), F.linear(x, p.k)
        mask = torch.ones(S, S).tril().bool()
        mixed = (q @ k.mT).masked_fill(~mask, -torch.inf).softmax(-1) @ x
        return F.linear(x + mixed, p.head) * 3.0

    found = watch(run, q=(N, N), k=(N, N), head=(4, N))
    kinds = [place.kind for place in found.places]
    assert kinds.count("attention") == 1
    assert kinds[-1] == "output"
    assert found.places[-1].makers == {("head", "product")}
    assert all(place.line.startswith("test_tracing.py:") for place in found.places)
    (scaling,) = found.scalings
    assert scaling.value == 3.0
