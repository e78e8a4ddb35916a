"""Cross-entropy of a stack of trials from hidden states, without ever holding all logits.

Shapes: T trials, N tokens, D width, V vocabulary. A chunk of tokens has its logits made, turned
into their own gradient in place and multiplied back; then the next chunk takes the memory. Hence
gradients are made in forward, and backward only scales them. It is one custom op because Inductor
would fuse a visible loop across chunks and hold all logits again.

The bounds of chunks depend on N and V alone: a trial is computed alike in every company.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 23  # held at once: 32 MB in float32
WHOLE_VOCAB = 4096  # up to it compiled code holds all logits at once
CHUNK_TOKENS = 256  # at least: every chunk reads and writes the whole gradient of the weight


def linear_cross_entropy(
    hidden_TND: Tensor, weight_TVD: Tensor, targets_TN: Tensor, z_loss: float = 0.0
) -> Tensor:
    """Mean cross-entropy [T] in nats of the logits `hidden @ weight.mT`.

    Its gradient is that of the cross-entropy plus z_loss * mean(log(Z)^2), Z being the sum of the
    exponentials of a token's logits (Chowdhery et al. 2022, arXiv 2204.02311); its value stays
    the cross-entropy.

    Products are in autocast's type where autocast is on; log-sum-exp and the gradient of the
    weight are always in the type of the weight. First derivatives only, and once. Where it is
    compiled a small vocabulary needs no chunks: one graph holds all logits.
    """
    compiled = torch.compiler.is_compiling()
    if compiled and weight_TVD.shape[1] <= WHOLE_VOCAB:
        logits_TNV = torch.bmm(hidden_TND, weight_TVD.mT).to(weight_TVD.dtype)
        return token_loss(logits_TNV, targets_TN, z_loss)
    device = hidden_TND.device.type
    autocast = torch.is_autocast_enabled(device)
    product_type = torch.get_autocast_dtype(device) if autocast else weight_TVD.dtype
    wanted = torch.is_grad_enabled() and (hidden_TND.requires_grad or weight_TVD.requires_grad)
    losses_T: Tensor
    losses_T, _, _ = losses_and_gradients(
        hidden_TND, weight_TVD, targets_TN, product_type, wanted, compiled, z_loss
    )
    return losses_T


def token_loss(logits: Tensor, targets: Tensor, z_loss: float = 0.0) -> Tensor:
    """The same of logits [..., N, V] and targets [..., N]: [...].

    The target's logit is picked by comparison: its backward has no scatter and no atomics.
    """
    vocab = torch.arange(logits.shape[-1], device=logits.device)
    picked = torch.where(vocab == targets.unsqueeze(-1), logits, 0.0).sum(-1)
    log_sum = logits.logsumexp(-1)
    losses = (log_sum - picked).mean(-1)
    if not z_loss:
        return losses
    penalty = z_loss * log_sum.square().mean(-1)
    return losses + (penalty - penalty.detach())


@torch.library.custom_op("mutransfer::linear_cross_entropy", mutates_args=())
def losses_and_gradients(
    hidden_TND: Tensor,
    weight_TVD: Tensor,
    targets_TN: Tensor,
    product_type: torch.dtype,
    gradients_wanted: bool,
    compiled: bool,
    z_loss: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [T], and N times the gradients in hidden and in weight (empty unless wanted)."""
    T, N, _ = hidden_TND.shape
    V, exact_type = weight_TVD.shape[1], weight_TVD.dtype
    tokens_at_once = chunk_tokens(N, V)
    trials_at_once = chunk_trials(tokens_at_once, V)
    losses_TN = hidden_TND.new_empty(T, N, dtype=exact_type)
    d_hidden_TND = empty_gradient(hidden_TND, gradients_wanted)
    d_weight_TVD = empty_gradient(weight_TVD, gradients_wanted)
    of_chunk = compiled_of_logits() if compiled else of_logits
    with torch.autocast(hidden_TND.device.type, enabled=False):
        for trials in slices(T, trials_at_once):
            weight = weight_TVD[trials].to(product_type)
            for tokens in slices(N, tokens_at_once):
                hidden = hidden_TND[trials, tokens].to(product_type)
                losses, d_logits = of_chunk(
                    torch.bmm(hidden, weight.mT), targets_TN[trials, tokens], exact_type, z_loss
                )
                losses_TN[trials, tokens] = losses
                if not gradients_wanted:
                    continue
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
    compiled: bool,
    z_loss: float,
) -> tuple[Tensor, Tensor, Tensor]:
    d_hidden_TND = empty_gradient(hidden_TND, gradients_wanted)
    d_weight_TVD = empty_gradient(weight_TVD, gradients_wanted)
    return weight_TVD.new_empty(weight_TVD.shape[0]), d_hidden_TND, d_weight_TVD


def of_logits(
    logits_TNV: Tensor, targets_TN: Tensor, exact: torch.dtype, z_loss: float
) -> tuple[Tensor, Tensor]:
    """Losses [T, N], and N times the gradient in the logits, in the logits' type.

    With p = softmax(logits) it is p - one_hot, and with z-loss p (1 + 2 z_loss log Z) - one_hot.
    """
    targets = targets_TN.unsqueeze(-1)
    log_p = torch.log_softmax(logits_TNV, -1, dtype=exact)
    losses = -log_p.gather(-1, targets).squeeze(-1)
    p = log_p.exp_()
    if z_loss:
        log_sum = logits_TNV.gather(-1, targets) + losses.unsqueeze(-1)
        p.mul_(1 + 2 * z_loss * log_sum)
    if torch.are_deterministic_algorithms_enabled():  # scatter would sort, which no graph captures
        p.sub_((torch.arange(p.shape[-1], device=p.device) == targets).to(exact))
    else:
        p.scatter_add_(-1, targets, p.new_full(targets.shape, -1.0))
    return losses, p.to(logits_TNV.dtype)


def fused_of_logits(
    logits_TNV: Tensor, targets_TN: Tensor, exact: torch.dtype, z_loss: float
) -> tuple[Tensor, Tensor]:
    """The same for a compiler: two passes over the logits, and no scatter."""
    x = logits_TNV.to(exact)
    log_sum = x.logsumexp(-1, keepdim=True)
    is_target = torch.arange(x.shape[-1], device=x.device) == targets_TN.unsqueeze(-1)
    losses = log_sum.squeeze(-1) - torch.where(is_target, x, 0.0).sum(-1)
    p = (x - log_sum).exp()
    if z_loss:
        p = p * (1 + 2 * z_loss * log_sum)
    return losses, (p - is_target.to(exact)).to(logits_TNV.dtype)


@cache
def compiled_of_logits() -> Callable[[Tensor, Tensor, torch.dtype, float], tuple[Tensor, Tensor]]:
    return torch.compile(fused_of_logits, dynamic=False)


def keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *gradients = output
    ctx.tokens = inputs[0].shape[1]
    ctx.save_for_backward(*gradients)
    ctx.mark_non_differentiable(*gradients)
    ctx.set_materialize_grads(False)  # else zeros as large as both gradients come in


def scale_gradients(ctx: Any, d_losses_T: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    d_hidden_TND, d_weight_TVD = ctx.saved_tensors
    scale = (d_losses_T / ctx.tokens)[:, None, None]
    return d_hidden_TND.mul_(scale), d_weight_TVD.mul_(scale), None, None, None, None, None


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
