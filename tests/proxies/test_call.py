"""Calls of models of tokens: their arguments, and the logits or the loss in their output."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.call import TokenCall, logits_of, loss_of
from mutransfer_cli.proxies.example import Example, call_of

VOCAB, CONTEXT = 11, 6
TOKENS = Example.of_tokens(CONTEXT, VOCAB)
LOSS, LOGITS = torch.tensor(2.0), torch.ones(2, CONTEXT, VOCAB)


class Unigram(nn.Module):
    """A table of logits, given in the form that `output` makes of logits and loss."""

    def __init__(self, output: Callable[[Tensor, Tensor | None], Any]) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, VOCAB)
        self.output = output

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Any:
        logits = self.table(tokens)
        loss = None
        if targets is not None:
            flat = logits.view(-1, VOCAB)
            loss = F.cross_entropy(flat, targets.view(-1), ignore_index=-1)
        return self.output(logits, loss)


def values(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters())


def expected(model: Unigram) -> Tensor:
    tokens = TOKENS.batch
    return F.cross_entropy(model.table(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize(
    ("output", "logits", "loss"),
    [
        (LOGITS, LOGITS, None),
        (LOSS, None, LOSS),
        ((LOGITS, LOSS), LOGITS, LOSS),
        ((LOGITS, None), LOGITS, None),
        (SimpleNamespace(logits=LOGITS, loss=LOSS), LOGITS, LOSS),
        ({"logits": LOGITS, "loss": LOSS}, LOGITS, LOSS),
        (SimpleNamespace(loss=LOSS), None, LOSS),
        ("text", None, None),
    ],
)
def test_logits_and_loss_are_found_in_the_output(
    output: Any, logits: Tensor | None, loss: Tensor | None
) -> None:
    assert logits_of(output) is logits
    assert loss_of(output) is loss


@pytest.mark.parametrize(
    "output",
    [
        lambda logits, loss: (logits, loss),
        lambda logits, loss: loss,
        lambda logits, loss: logits,
        lambda logits, loss: SimpleNamespace(logits=logits, loss=loss),
    ],
)
def test_every_form_of_output_gives_the_cross_entropy(output: Callable[..., Any]) -> None:
    model = Unigram(output)
    found = call_of(model).loss(model, values(model), TOKENS.batch)
    torch.testing.assert_close(found, expected(model))


def test_a_models_own_loss_counts() -> None:
    model = Unigram(lambda logits, loss: (logits, None if loss is None else 3 * loss))
    found = call_of(model).loss(model, values(model), TOKENS.batch)
    torch.testing.assert_close(found, 3 * expected(model))


def test_z_loss_adds_its_gradient_to_that_of_a_models_own_loss() -> None:
    model = Unigram(lambda logits, loss: (logits, loss))
    plain, with_z = (
        call_of(model, z_loss=z).loss(model, values(model), TOKENS.batch) for z in (0.0, 0.5)
    )
    assert torch.equal(with_z, plain)
    (found,) = torch.autograd.grad(with_z - plain, [model.table.weight])
    log_Z = model.table(TOKENS.batch[:, :-1]).logsumexp(-1)
    (wanted,) = torch.autograd.grad(0.5 * log_Z.square().mean(), [model.table.weight])
    torch.testing.assert_close(found, wanted)


def test_an_output_without_logits_is_refused() -> None:
    model = Unigram(lambda logits, loss: [loss, "text"])
    with pytest.raises(InputError, match=r"returned list \(a tensor of shape \[\], str\)"):
        call_of(model, z_loss=0.1).loss(model, values(model), TOKENS.batch)


def test_arguments_can_be_viewed() -> None:
    tokens = torch.arange(14).view(2, 7)
    (inputs, targets), _ = TokenCall(with_targets=True).arguments(tokens)
    assert inputs.view(-1).tolist() == [*range(6), *range(7, 13)]
    assert targets.view(-1).tolist() == [*range(1, 7), *range(8, 14)]
