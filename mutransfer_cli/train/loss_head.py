"""Cross-entropy of a stack of trials from hidden states, without ever holding all logits.

Shapes: T trials, N tokens, D width, V vocabulary. A chunk of tokens has its logits made, turned
into their own gradient in place and multiplied back; then the next chunk takes the memory. Hence
gradients are made in forward, and backward only scales them. It is one custom op because Inductor
would fuse a visible loop across chunks and hold all logits again.

The bounds of chunks depend on N and V alone: a trial is computed alike in every company.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 23  # held at once: 32 MB in float32
CHUNK_TOKENS = 256  # at least: every chunk reads and writes the whole gradient of the weight


def linear_cross_entropy(hidden_TND: Tensor, weight_TVD: Tensor, targets_TN: Tensor) -> Tensor:
    """Mean cross-entropy [T] in nats of the logits `hidden @ weight.mT`.

    Products are in autocast's type where autocast is on; log-sum-exp and the gradient of the
    weight are always in the type of the weight. First derivatives only, and once.
    """
    device = hidden_TND.device.type
    autocast = torch.is_autocast_enabled(device)
    product_type = torch.get_autocast_dtype(device) if autocast else weight_TVD.dtype
    wanted = torch.is_grad_enabled() and (hidden_TND.requires_grad or weight_TVD.requires_grad)
    losses_T: Tensor
    losses_T, _, _ = losses_and_gradients(hidden_TND, weight_TVD, targets_TN, product_type, wanted)
    return losses_T


@torch.library.custom_op("mutransfer::linear_cross_entropy", mutates_args=())
def losses_and_gradients(
    hidden_TND: Tensor,
    weight_TVD: Tensor,
    targets_TN: Tensor,
    product_type: torch.dtype,
    gradients_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [T], and N times their gradients in hidden and in weight (empty unless wanted)."""
    T, N, _ = hidden_TND.shape
    V, exact_type = weight_TVD.shape[1], weight_TVD.dtype
    tokens_at_once = chunk_tokens(N, V)
    trials_at_once = chunk_trials(tokens_at_once, V)
    losses_TN = hidden_TND.new_empty(T, N, dtype=exact_type)
    d_hidden_TND = empty_gradient(hidden_TND, gradients_wanted)
    d_weight_TVD = empty_gradient(weight_TVD, gradients_wanted)
    vocab_V = torch.arange(V, device=hidden_TND.device)
    with torch.autocast(hidden_TND.device.type, enabled=False):
        for trials in slices(T, trials_at_once):
            weight = weight_TVD[trials].to(product_type)
            for tokens in slices(N, tokens_at_once):
                hidden = hidden_TND[trials, tokens].to(product_type)
                log_p = torch.log_softmax(torch.bmm(hidden, weight.mT), -1, dtype=exact_type)
                is_target = vocab_V == targets_TN[trials, tokens].unsqueeze(-1)
                losses_TN[trials, tokens] = -torch.where(is_target, log_p, 0.0).sum(-1)
                if not gradients_wanted:
                    continue
                d_logits = log_p.exp_().add_(is_target, alpha=-1).to(product_type)
                d_hidden_TND[trials, tokens] = torch.bmm(d_logits, weight)
                add_product_(d_weight_TVD[trials], d_logits.mT, hidden, first=tokens.start == 0)
    return losses_TN.mean(1), d_hidden_TND, d_weight_TVD


@losses_and_gradients.register_fake
def _(
    hidden_TND: Tensor,
    weight_TVD: Tensor,
    targets_TN: Tensor,
    product_type: torch.dtype,
    gradients_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    d_hidden_TND = empty_gradient(hidden_TND, gradients_wanted)
    d_weight_TVD = empty_gradient(weight_TVD, gradients_wanted)
    return weight_TVD.new_empty(weight_TVD.shape[0]), d_hidden_TND, d_weight_TVD


def keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *gradients = output
    ctx.tokens = inputs[0].shape[1]
    ctx.save_for_backward(*gradients)
    ctx.mark_non_differentiable(*gradients)
    ctx.set_materialize_grads(False)  # else zeros as large as both gradients come in


def scale_gradients(ctx: Any, d_losses_T: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    d_hidden_TND, d_weight_TVD = ctx.saved_tensors
    scale = (d_losses_T / ctx.tokens)[:, None, None]
    return d_hidden_TND.mul_(scale), d_weight_TVD.mul_(scale), None, None, None


losses_and_gradients.register_autograd(scale_gradients, setup_context=keep_gradients)


def chunk_tokens(tokens: int, vocab: int) -> int:
    """Tokens of a chunk, so that all chunks are about equal."""
    most = max(CHUNK_TOKENS, CHUNK_LOGITS // vocab)
    return math.ceil(tokens / math.ceil(tokens / most))


def chunk_trials(tokens: int, vocab: int) -> int:
    """Trials of which a chunk holds so many tokens each."""
    return max(1, CHUNK_LOGITS // (tokens * vocab))


def slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, size, step))


def empty_gradient(x: Tensor, wanted: bool) -> Tensor:
    return x.new_empty(x.shape if wanted else 0)


def add_product_(total: Tensor, a: Tensor, b: Tensor, first: bool) -> None:
    """total += a @ b, or = if first; in the type of the total even if that of a and b is less."""
    if a.dtype == total.dtype:
        total.baddbmm_(a, b, beta=0 if first else 1)
    elif first:
        total.copy_(torch.bmm(a, b))
    else:
        total.add_(torch.bmm(a, b))
