"""Cross-entropy of a stack of trials from hidden states, without ever holding all logits.

The logits of one chunk of tokens are computed, turned into their own gradient in place and
multiplied back; then the next chunk takes the same memory. Gradients are therefore computed in the
forward pass, and the backward pass only scales them. The whole is one custom operator, because
Inductor would fuse a visible loop across chunks and hold all logits again. Fused linear
cross-entropy after Hsu et al. 2024 (Liger Kernel, arXiv 2410.10989), with a trial dimension.

The bounds of the chunks depend on N and V alone, so that a trial is computed the same way whichever
trials train beside it.

Shapes: T trials, N tokens, D width, V vocabulary; t, n: the trials and tokens of one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mutransfer_cli.proxies.call import token_loss

CHUNK_LOGITS = 1 << 23  # logits held at once: 32 MB in float32
WHOLE_VOCAB = 4096  # up to this vocabulary compiled code holds all logits at once
CHUNK_TOKENS = 256  # fewest of a chunk: each chunk reads and writes the weight's whole gradient


def linear_cross_entropy(
    hidden_TND: Tensor, weight_TVD: Tensor, targets_TN: Tensor, z_loss: float = 0.0
) -> Tensor:
    """Mean cross-entropy [T] in nats of the logits `hidden @ weight.mT`.

    Its gradient is that of cross-entropy + z_loss * mean(log(Z)^2), where Z is the sum of the
    exponentials of a token's logits (Chowdhery et al. 2022, arXiv 2204.02311); its value is the
    cross-entropy alone.

    Under autocast products use autocast's type; log-sum-exp and the weight's gradient always use
    the weight's type. Only first derivatives, and only once.
    """
    compiled = torch.compiler.is_compiling()
    if compiled and weight_TVD.shape[1] <= WHOLE_VOCAB:
        # a small vocabulary needs no chunks in compiled code: one graph holds all logits
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
            weight_tVD = weight_TVD[trials].to(product_type)
            for tokens in slices(N, tokens_at_once):
                hidden_tnD = hidden_TND[trials, tokens].to(product_type)
                # logits L = h W^T [t, n, V], replaced by d_L = N * d(mean loss)/dL
                losses_TN[trials, tokens], d_logits_tnV = of_chunk(
                    torch.bmm(hidden_tnD, weight_tVD.mT),
                    targets_TN[trials, tokens],
                    exact_type,
                    z_loss,
                )
                if gradients_wanted:
                    # d_h = d_L W [t, n, D] for this chunk alone; d_W = d_L^T h [t, V, D] summed
                    d_hidden_TND[trials, tokens] = torch.bmm(d_logits_tnV, weight_tVD)
                    d_weight_tVD, first = d_weight_TVD[trials], tokens.start == 0
                    add_product_(d_weight_tVD, d_logits_tnV.mT, hidden_tnD, first)
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
    """Losses [T, N], and the gradient of each token's loss in its logits, in the logits' type.

    With p = softmax(logits) the gradient is p - one_hot(target); z-loss makes it
    p (1 + 2 z_loss log Z) - one_hot(target).
    """
    # loss = -log p[target]
    targets_TN1 = targets_TN.unsqueeze(-1)
    log_p_TNV = torch.log_softmax(logits_TNV, -1, dtype=exact)
    losses_TN = -log_p_TNV.gather(-1, targets_TN1).squeeze(-1)
    p_TNV = log_p_TNV.exp_()
    if z_loss:
        # log p = logit - log Z at the target, hence log Z = logit + loss
        log_Z_TN1 = logits_TNV.gather(-1, targets_TN1) + losses_TN.unsqueeze(-1)
        p_TNV.mul_(1 + 2 * z_loss * log_Z_TN1)
    # subtract the one-hot targets; a deterministic scatter would sort, which no graph captures
    if torch.are_deterministic_algorithms_enabled():
        vocab_V = torch.arange(p_TNV.shape[-1], device=p_TNV.device)
        p_TNV.sub_((vocab_V == targets_TN1).to(exact))
    else:
        p_TNV.scatter_add_(-1, targets_TN1, p_TNV.new_full(targets_TN1.shape, -1.0))
    return losses_TN, p_TNV.to(logits_TNV.dtype)


def fused_of_logits(
    logits_TNV: Tensor, targets_TN: Tensor, exact: torch.dtype, z_loss: float
) -> tuple[Tensor, Tensor]:
    """Compute `of_logits` in a form for the compiler: two passes over the logits, no scatter."""
    x_TNV = logits_TNV.to(exact)
    # loss = log Z - logit[target]
    log_Z_TN1 = x_TNV.logsumexp(-1, keepdim=True)
    is_target_TNV = torch.arange(x_TNV.shape[-1], device=x_TNV.device) == targets_TN.unsqueeze(-1)
    losses_TN = log_Z_TN1.squeeze(-1) - torch.where(is_target_TNV, x_TNV, 0.0).sum(-1)
    # p (1 + 2 z_loss log Z) - one_hot(target)
    p_TNV = (x_TNV - log_Z_TN1).exp()
    if z_loss:
        p_TNV = p_TNV * (1 + 2 * z_loss * log_Z_TN1)
    return losses_TN, (p_TNV - is_target_TNV.to(exact)).to(logits_TNV.dtype)


@cache
def compiled_of_logits() -> Callable[[Tensor, Tensor, torch.dtype, float], tuple[Tensor, Tensor]]:
    return torch.compile(fused_of_logits, dynamic=False)


def keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *gradients = output
    ctx.tokens = inputs[0].shape[1]
    ctx.save_for_backward(*gradients)
    ctx.mark_non_differentiable(*gradients)
    # otherwise autograd would pass zeros as large as both gradients
    ctx.set_materialize_grads(False)


def scale_gradients(ctx: Any, d_losses_T: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    """Backward pass: the saved gradients are N times those of the mean loss of each trial."""
    d_hidden_TND, d_weight_TVD = ctx.saved_tensors
    scale_T11 = (d_losses_T / ctx.tokens)[:, None, None]
    return d_hidden_TND.mul_(scale_T11), d_weight_TVD.mul_(scale_T11), None, None, None, None, None


losses_and_gradients.register_autograd(scale_gradients, setup_context=keep_gradients)


def chunk_tokens(tokens: int, vocab: int) -> int:
    """Tokens per chunk, so that all chunks have about equal size."""
    most = max(CHUNK_TOKENS, CHUNK_LOGITS // vocab)
    return math.ceil(tokens / math.ceil(tokens / most))


def chunk_trials(tokens: int, vocab: int) -> int:
    """Trials per chunk, given the tokens that a chunk holds of each."""
    return max(1, CHUNK_LOGITS // (tokens * vocab))


def slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, size, step))


def empty_gradient(x: Tensor, wanted: bool) -> Tensor:
    return x.new_empty(x.shape if wanted else 0)


def add_product_(total: Tensor, a: Tensor, b: Tensor, first: bool) -> None:
    """Add a @ b to total, or overwrite total if `first`; accumulates in the type of total."""
    if a.dtype == total.dtype:
        total.baddbmm_(a, b, beta=0 if first else 1)
    elif first:
        total.copy_(torch.bmm(a, b))
    else:
        total.add_(torch.bmm(a, b))
