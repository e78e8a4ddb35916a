"""The private torch names that this package uses, each with what happens without it."""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import cache
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor

HAS_FUSED_ADAMW = hasattr(torch, "_fused_adamw_")


def fused_adamw_(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float,
) -> None:
    """torch's fused AdamW kernel. Callers ask HAS_FUSED_ADAMW first and else update elementwise."""
    torch._fused_adamw_(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
VMAP_KEY = "FuncTorchBatched"


@cache
def batch_cpu_attention() -> torch.library.Library | None:
    """Teaches vmap to run CPU flash attention once on a stack instead of once per trial.

    torch 2.13 has batching rules for the CUDA kernels only and would loop on a CPU. The rule folds
    the trial axis into the batch; the backward needs none, because gradients are taken outside
    vmap. Without the private names vmap's loop remains: slower, equally right.

    Returns:
        The registration, in force as long as it is held (the cache holds it), or None.
    """
    needed = (
        "_functorch.get_unwrapped",
        "_functorch.maybe_get_bdim",
        "_functorch.maybe_current_level",
        "_functorch._add_batch_dim",
        "_dispatch_has_kernel_for_dispatch_key",
        "_ExcludeDispatchKeyGuard",
        "DispatchKeySet",
        "DispatchKey.FuncTorchBatched",
    )
    try:
        for name in needed:
            attrgetter(name)(torch._C)
    except AttributeError:
        return None
    if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{CPU_ATTENTION}", VMAP_KEY):
        return None
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl(CPU_ATTENTION, _batched_cpu_attention, VMAP_KEY)  # type: ignore[no-untyped-call]
    return library


def _batched_cpu_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    functorch = torch._C._functorch
    level = functorch.maybe_current_level()
    assert level is not None, "called by vmap only"
    if attn_mask is not None and functorch.maybe_get_bdim(attn_mask) >= 0:
        raise RuntimeError("CPU attention with one mask per trial cannot be batched")
    trials = next(
        functorch.get_unwrapped(x).shape[functorch.maybe_get_bdim(x)]
        for x in (query, key, value)
        if functorch.maybe_get_bdim(x) >= 0
    )

    def fold(x: Tensor) -> Tensor:
        axis = functorch.maybe_get_bdim(x)
        if axis < 0:
            return x.expand(trials, *x.shape).flatten(0, 1)
        return functorch.get_unwrapped(x).movedim(axis, 0).flatten(0, 1)

    outside = torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)
    with torch._C._ExcludeDispatchKeyGuard(outside):
        results = getattr(torch.ops.aten, CPU_ATTENTION)(
            fold(query),
            fold(key),
            fold(value),
            dropout_p,
            is_causal,
            attn_mask=attn_mask,
            scale=scale,
        )
    out, logsumexp = (
        functorch._add_batch_dim(x.unflatten(0, (trials, -1)), 0, level) for x in results
    )
    return out, logsumexp


CACHE = "TORCHINDUCTOR_CACHE_DIR"
TF32_HINT = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled"


def prepare_inductor() -> None:
    """What torch.compile should know before it first compiles.

    Compiled code is kept in the user's cache folder, so that a second run starts in seconds; a
    folder of the user's own in TORCHINDUCTOR_CACHE_DIR stays. Norms that share one gain get wrong
    gradients from one optimisation of torch 2.10 to 2.13 (pytorch #193061): it is off. The hint to
    turn TensorFloat32 on is not heard: `precision: tf32` does, and `fp32` asks for full products.
    """
    # torch sets the variable itself, to a folder that the next start of the machine empties
    torchs_own = str(Path(tempfile.gettempdir()) / "torchinductor_")
    if os.environ.get(CACHE, torchs_own).startswith(torchs_own):
        os.environ[CACHE] = str(cache_folder() / "inductor")
    import torch._inductor.config as inductor

    if hasattr(inductor.triton, "mix_order_reduction"):
        inductor.triton.mix_order_reduction = False
    warnings.filterwarnings("ignore", message=TF32_HINT, category=UserWarning)


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mutransfer"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; yes where torch does not say."""
    try:
        checks = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
    except AttributeError:
        return True
    return any(check() for check in checks)
