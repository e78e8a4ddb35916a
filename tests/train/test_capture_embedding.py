"""An embedding whose gradient is a matrix product equals a plain embedding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mutransfer_cli.train.capture import MOST_VOCAB, ProductEmbedding, capturable_embeddings, lookup


def rows_and_gradient(
    embedding: nn.Module, weight_TVD: Tensor, tokens_TBS: Tensor
) -> tuple[Tensor, Tensor]:
    rows = vmap(lambda w, t: functional_call(embedding, {"weight": w}, (t,)))(
        weight_TVD, tokens_TBS
    )
    (gradient,) = torch.autograd.grad((rows**3).sum(), weight_TVD)
    return rows.detach(), gradient


def test_it_gives_the_same_rows_and_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 16, 4, generator=generator, dtype=torch.float64).requires_grad_()
    tokens = torch.randint(16, (3, 2, 50), generator=generator)
    embedding = nn.Embedding(16, 4)
    rows, gradient = rows_and_gradient(embedding, weight, tokens)
    capturable_embeddings(embedding)
    assert type(embedding) is ProductEmbedding
    again, by_product = rows_and_gradient(embedding, weight, tokens)
    assert torch.equal(rows, again)
    torch.testing.assert_close(by_product, gradient, rtol=0, atol=1e-12)
    assert torch.equal(embedding(input=tokens[0]), F.embedding(tokens[0], embedding.weight))


def test_only_plain_and_small_ones_are_changed() -> None:
    kinds: list[Any] = [
        nn.Embedding(MOST_VOCAB, 2),
        nn.Embedding(MOST_VOCAB + 1, 2),
        nn.Embedding(8, 2, padding_idx=0),
        nn.Embedding(8, 2, max_norm=1.0),
        nn.Embedding(8, 2, sparse=True),
    ]
    capturable_embeddings(nn.ModuleList(kinds))
    assert [type(kind) is ProductEmbedding for kind in kinds] == [True, *[False] * 4]


def test_its_product_follows_autocast() -> None:
    embedding = nn.Embedding(8, 4)
    capturable_embeddings(embedding)
    tokens = torch.tensor([3, 3, 3])
    factors = torch.tensor([[1.0], [2**-10], [2**-10]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = embedding(tokens)
    assert rows.dtype == torch.float32
    (rows * factors).sum().backward()
    assert embedding.weight.grad is not None
    assert float(embedding.weight.grad[3, 0]) == 1.0, "as the gradients of all other weights"


def test_torch_finds_the_operator_well_formed() -> None:
    weight, tokens = torch.randn(16, 4, requires_grad=True), torch.randint(16, (5,))
    torch.library.opcheck(lookup, (weight, tokens, torch.float32))


def test_it_can_be_compiled_under_vmap() -> None:
    embedding = nn.Embedding(16, 4)
    capturable_embeddings(embedding)
    weight, tokens = torch.randn(3, 16, 4, requires_grad=True), torch.randint(16, (3, 2, 5))

    def sums(weight: Tensor, tokens: Tensor) -> Tensor:
        rows = vmap(lambda w, t: functional_call(embedding, {"weight": w}, (t,)))(weight, tokens)
        total: Tensor = (rows**3).sum()
        return total

    compiled = torch.compile(sums, backend="aot_eager", fullgraph=True)
    (eager,) = torch.autograd.grad(sums(weight, tokens), weight)
    torch.testing.assert_close(torch.autograd.grad(compiled(weight, tokens), weight)[0], eager)
