"""The private torch names that this package uses, each with what happens without it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mutransfer_cli import __version__

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


AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA")
FUNCTORCH_KEY = "FuncTorchDynamicLayerFrontMode"  # where an operator enters vmap


@cache
def autocast_before_vmap() -> torch.library.Library | None:
    """Has autocast see the operators of a model under vmap as it sees them without.

    vmap takes many operators apart before autocast sees them (torch 2.13): a linear layer with a
    bias and attention stay in fp32 or meet mixed types, softmax and norms lose the fp32 that CUDA's
    autocast gives them. Each operator of autocast's lists is given to autocast's own kernel before
    it enters vmap, so that its types are those of plain autocast. Different still, all rare:

    - nll_loss of bf16 (on the CPU fp32 without vmap; cross_entropy is right);
    - mv, dot, vdot, inner, addmv and tensordot on the CPU, inner on CUDA: bf16, without vmap fp32;
    - on CUDA trace (fp32, without vmap bf16) and convolutions with padding named by a word;
    - on the CPU layer_norm and group_norm of bf16 with fp32 gains: fp32, without vmap bf16;
    - a linear layer rounds to bf16 before its bias is added, and again after.

    Without the private names the types are those of vmap, as listed above; attention of mixed types
    is refused by torch.

    Returns:
        The registration, in force for the process: functorch without autocast is as before.
    """
    needed = (
        "_dispatch_get_all_op_names",
        "_dispatch_has_kernel_for_dispatch_key",
        "_dispatch_tls_is_dispatch_key_excluded",
        *(f"DispatchKey.{key}" for key in (*AUTOCAST_KEYS, FUNCTORCH_KEY)),
    )
    try:
        for name in needed:
            attrgetter(name)(torch._C)
        attrgetter("get_kernel")(torch.library)
        attrgetter("_op_dk")(torch.ops.aten.linear.default)
    except AttributeError:
        return None
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # of linear and one loss, which functorch has kernels of: they are called by the rule
        warnings.filterwarnings("ignore", message=".*[Oo]verrid")
        for name in torch._C._dispatch_get_all_op_names():
            keys = [
                getattr(torch._C.DispatchKey, key)
                for key in AUTOCAST_KEYS
                if torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
            ]
            if keys and name.startswith("aten::"):
                packet, _, overload = name.removeprefix("aten::").partition(".")
                op = getattr(getattr(torch.ops.aten, packet), overload or "default")
                rule = _autocast_first(op, keys)
                library.impl(op, rule, FUNCTORCH_KEY, with_keyset=True)  # type: ignore[no-untyped-call]
    return library


def _autocast_first(op: Any, keys: list[Any]) -> Callable[..., Any]:
    """Autocast's kernel casts, and calls the operator again with its own key excluded."""
    functorchs = torch.library.get_kernel(op, FUNCTORCH_KEY)
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded

    def rule(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        for key in keys:
            if not excluded(key):
                return op._op_dk(key, *args, **kwargs)
        return functorchs.call_boxed(keyset, *args, **kwargs)

    return rule


CACHE = "TORCHINDUCTOR_CACHE_DIR"
TF32_HINT = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled"


def prepare_inductor() -> None:
    """What torch.compile should know before it first compiles.

    Compiled code is kept in the user's cache folder, so that a second run starts in seconds; a
    folder of the user's own in TORCHINDUCTOR_CACHE_DIR stays. Each version of this package has its
    own, because torch looks compiled code up without regard to the rules registered here. Norms
    that share one gain get wrong gradients from one optimisation of torch 2.10 to 2.13 (pytorch
    #193061): it is off. The hint to turn TensorFloat32 on is not heard: `precision: tf32` does, and
    `fp32` asks for full products.
    """
    # torch sets the variable itself, to a folder that the next start of the machine empties
    torchs_own = str(Path(tempfile.gettempdir()) / "torchinductor_")
    if os.environ.get(CACHE, torchs_own).startswith(torchs_own):
        os.environ[CACHE] = str(cache_folder() / f"inductor-{__version__}")
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
