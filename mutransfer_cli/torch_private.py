"""The private torch names that this package uses, each with a fallback for its absence."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

from mutransfer_cli import __version__

HAS_FUSED_ADAMW = hasattr(torch, "_fused_adamw_")
CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
VMAP_KEY = "FuncTorchBatched"
AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA")
FUNCTORCH_KEY = "FuncTorchDynamicLayerFrontMode"  # where an operator enters vmap
CACHE = "TORCHINDUCTOR_CACHE_DIR"
TF32_HINT = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled"


def fused_adamw_(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    **settings: Any,
) -> None:
    """Run torch's fused AdamW kernel; without HAS_FUSED_ADAMW callers update elementwise.

    Args:
        settings: lr, beta1, beta2, weight_decay and eps.
    """
    torch._fused_adamw_(
        params, grads, exp_avgs, exp_avg_sqs, [], steps, amsgrad=False, maximize=False, **settings
    )


def has_all(owner: Any, *names: str) -> bool:
    """Whether an object has all these attributes, given with dots."""
    try:
        attrgetter(*names)(owner)
    except AttributeError:
        return False
    return True


@cache
def without_recomputation() -> None:
    """Let torch.utils.checkpoint keep activations; the values stay the same.

    Recomputed in the backward pass, a model would read its own weights and not those that
    functional_call gave it: gradients would be wrong without an error, and vmap would fail. Without
    the private names models recompute.
    """
    module = torch.utils.checkpoint
    if has_all(module, "CheckpointFunction", "_checkpoint_without_reentrant_generator"):
        module.CheckpointFunction = _Called  # type: ignore[assignment, misc]
        module._checkpoint_without_reentrant_generator = _once


class _Called:
    """Calls the function in place of a reentrant checkpoint."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


def _once(*_: Any, **__: Any) -> Iterator[None]:
    """The surroundings of another checkpoint: nothing before its function, and nothing after."""
    yield


@cache
def batch_cpu_attention() -> torch.library.Library | None:
    """Teach vmap to run CPU flash attention once on a stack instead of once per trial.

    torch 2.13 has batching rules only for the CUDA kernels and would loop on a CPU. The rule folds
    the trial axis into the batch; the backward pass needs none, because gradients are taken outside
    vmap. Without the private names vmap's loop remains, which is slower but equally correct.

    Returns:
        The registration, in force as long as it is referenced (here by the cache), or None.
    """
    if not has_all(
        torch._C,
        "_functorch.get_unwrapped",
        "_functorch.maybe_get_bdim",
        "_functorch.maybe_current_level",
        "_functorch._add_batch_dim",
        "_dispatch_has_kernel_for_dispatch_key",
        "_ExcludeDispatchKeyGuard",
        "DispatchKeySet",
        "DispatchKey.FuncTorchBatched",
    ):
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


@cache
def autocast_before_vmap() -> torch.library.Library | None:
    """Make autocast treat the operators of a model under vmap as it does without vmap.

    vmap decomposes many operators before autocast sees them (torch 2.13): a linear layer with bias
    and attention stay in fp32 or meet mixed types, and softmax and norms lose the fp32 that CUDA's
    autocast gives them. Here each operator of autocast's lists passes through autocast's own kernel
    before it enters vmap, and so gets the types of plain autocast. Remaining differences, all rare:

    - nll_loss of bf16 (on the CPU fp32 without vmap; cross_entropy is right);
    - mv, dot, vdot, inner, addmv and tensordot on the CPU, inner on CUDA: bf16, without vmap fp32;
    - on CUDA trace (fp32, without vmap bf16) and convolutions with padding named by a word;
    - on the CPU layer_norm and group_norm of bf16 with fp32 gains: fp32, without vmap bf16;
    - a linear layer rounds to bf16 before its bias is added, and again after.

    Without the private names operators under vmap keep the types described first, and torch refuses
    attention with mixed types.

    Returns:
        The registration, in force for the process; functorch without autocast is unchanged.
    """
    names = (
        "_dispatch_get_all_op_names",
        "_dispatch_has_kernel_for_dispatch_key",
        "_dispatch_tls_is_dispatch_key_excluded",
        *(f"DispatchKey.{key}" for key in (*AUTOCAST_KEYS, FUNCTORCH_KEY)),
    )
    found = has_all(torch._C, *names) and has_all(torch.library, "get_kernel")
    if not found or not has_all(torch.ops.aten.linear.default, "_op_dk"):
        return None
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # torch warns of linear and one loss, whose functorch kernels the rule itself calls
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
    """A kernel that runs autocast's, which casts and calls the operator again without its key."""
    functorchs = torch.library.get_kernel(op, FUNCTORCH_KEY)
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded

    def rule(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        for key in keys:
            if not excluded(key):
                return op._op_dk(key, *args, **kwargs)
        return functorchs.call_boxed(keyset, *args, **kwargs)

    return rule


def prepare_inductor() -> None:
    """Configure torch.compile before its first use.

    - Compiled code is kept in the user's cache folder, so that a second run starts in seconds; a
      folder that the user set in TORCHINDUCTOR_CACHE_DIR stays. Each version of this package has
      its own, because torch's keys for compiled code ignore the rules registered here.
    - An optimisation of torch 2.10 to 2.13 gives wrong gradients to norms that share one gain
      (pytorch #193061), so it is turned off.
    - The hint to enable TensorFloat32 is silenced: `precision: tf32` enables it.
    """
    # torch itself sets the variable to a folder that the next start of the machine empties
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
    """Whether this CPU multiplies bf16 in hardware; true if torch cannot tell."""
    try:
        checks = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
    except AttributeError:
        return True
    return any(check() for check in checks)
