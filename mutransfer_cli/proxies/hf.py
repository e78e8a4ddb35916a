"""Hugging Face causal LMs whose config is scaled in width; nothing is downloaded.

Where possible they attend without masks. How transformers masks depends on the caller: eager code,
torch.compile and the capture of a CUDA graph take different ways, and a mask made under vmap has a
wrong shape in torch's attention. For an attention function whose masks it does not know, such as
the one registered here, transformers makes none; torch's attention is then called as causal.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.attention import AttentionCalls
from mutransfer_cli.proxies.factory import first_line
from mutransfer_cli.proxies.reading import Note
from mutransfer_cli.spec.model import KNOWN_TYPES, HfProtocol
from mutransfer_cli.spec.own_factors import NEUTRAL

# keys on how to load and run the model; an attention implementation may name code to download
DROPPED = (
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "experts_implementation",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
IN_PROPORTION = ("intermediate_size", "n_inner", "moe_intermediate_size")

UNMASKED = "mutransfer_unmasked"
TORCHS = "sdpa"  # transformers' name of torch's attention


def load_transformers() -> Any:
    """The transformers package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "model.hf: needs transformers; run: pip install 'mutransfer-cli[hf]'"
        ) from error


def is_tied(model: HfProtocol) -> bool:
    """Whether the model's embedding is its readout."""
    config = read_config(load_transformers(), model)
    return bool(getattr(config, "tie_word_embeddings", False))


def with_defaults(model: HfProtocol) -> HfProtocol:
    """The model with its config as its class completes it."""
    config = read_config(load_transformers(), model)
    # a factor may be an alias, which to_dict leaves out
    factors = {field: getattr(config, field, None) for field in NEUTRAL}
    return model.model_copy(update={"hf": config.to_dict() | factors})


def hf_builder(
    model: HfProtocol, context: int, base_width: int, to_train: bool = True
) -> Callable[[int], nn.Module]:
    """The function from width to module; the module's forward takes tokens.

    Args:
        to_train: refuse kv heads that do not divide the heads of a width; a model that is only read
            gets fewer kv heads instead.

    Raises:
        InputError: the config cannot be scaled, or the embedding is the readout.
    """
    transformers = load_transformers()
    declared = read_config(transformers, model)
    if getattr(declared, "tie_word_embeddings", False):
        raise InputError(
            f"model.hf: {model.model_type} ties the embedding to the readout, which the rules "
            "treat differently; give untie: true to train them as two, and train the target "
            "untied too (tie_word_embeddings: false)"
        )
    longest = getattr(declared, "max_position_embeddings", None)
    if isinstance(longest, int) and longest < context:
        raise InputError(
            f"model.hf: train.context is {context} and the config's max_position_embeddings "
            f"{longest}; make one of them fit"
        )

    def build(width: int) -> nn.Module:
        config = scaled_config(transformers, model, base_width, width, to_train)
        window = getattr(config, "sliding_window", None)
        if isinstance(window, int) and window <= context:
            # transformers masks the fused attention even if the window equals the context, and
            # under vmap that mask has a wrong shape
            config._attn_implementation = "eager"
        try:
            found: nn.Module = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.float32
            )
        except Exception as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"model.hf: {model.model_type} at width {width}: {problem}") from error
        if to_train and not any(p.is_meta for p in found.parameters()):
            drop_masks(transformers, found, context)
        return found

    return build


def read_config(transformers: Any, model: HfProtocol) -> Any:
    """The declared config, with the vocabulary of the data and without dropout and caches."""
    settings = {
        key: value
        for key, value in model.hf.items()
        if key not in DROPPED and not key.startswith("_")
    }
    model_type = settings.pop("model_type")
    settings |= dict.fromkeys(SPECIAL_TOKENS) | {"vocab_size": model.vocab, "use_cache": False}
    if model.untie:
        settings["tie_word_embeddings"] = False
    try:
        config = transformers.AutoConfig.for_model(model_type, **settings)
    except Exception as error:
        raise InputError(f"model.hf: {type(error).__name__}: {first_line(error)}") from error
    for key, value in config.to_dict().items():
        if isinstance(value, int | float) and ("dropout" in key or key.endswith("_pdrop")):
            setattr(config, key, 0.0)
    for key in ("hidden_size", "num_attention_heads"):
        if not isinstance(getattr(config, key, None), int):
            raise InputError(f"model.hf: {model_type} has no {key} to be scaled")
    return config


def scaled_config(
    transformers: Any, model: HfProtocol, base_width: int, width: int, to_train: bool = True
) -> Any:
    """Heads of fixed size, kv heads in a fixed ratio to them, inner sizes in proportion to width.

    If the ratio gives no whole number of kv heads at the base width, they stay as declared.

    Raises:
        InputError: the width is no whole number of heads, or the kv heads do not divide them.
    """
    config = read_config(transformers, model)
    hidden, heads = config.hidden_size, config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or hidden // heads
    step = hidden // math.gcd(hidden, heads)
    if width % step:
        raise InputError(
            f"model.hf: found width {width}, which gives no whole number of heads; use a multiple "
            f"of {step}"
        )
    count = width * heads // hidden
    in_ratio = base_width * kv_heads % hidden == 0
    kv_count = width * kv_heads // hidden if in_ratio else kv_heads
    if not to_train and (width * kv_heads % hidden or count % kv_count):
        kv_count = math.gcd(count, kv_heads)
    elif (in_ratio and width * kv_heads % hidden) or count % kv_count:
        per_kv_head = hidden // kv_heads
        raise InputError(
            f"model.hf: found width {width}, {count} heads, which {kv_heads} kv heads to {heads} "
            f"heads do not divide; use base_width and widths that are multiples of {per_kv_head}, "
            f"or a config whose num_key_value_heads is 1 or {heads}"
        )
    for key in IN_PROPORTION:
        inner = getattr(config, key, None)
        if isinstance(inner, int):
            setattr(config, key, round(inner * width / hidden))
    if hasattr(config, "head_dim"):
        config.head_dim = head_size
    if hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = kv_count
    config.hidden_size, config.num_attention_heads = width, count
    return config


def say_what_is_used(model: HfProtocol, mup: bool, note: Note) -> None:
    """Note where the model differs from its config or from what a rule would have."""
    declared = model.hf.get("vocab_size")
    if declared is not None and declared != model.vocab:
        note(f"model.hf: {model.vocab} tokens as in the data, not {declared} as in the config")
    if model.model_type not in KNOWN_TYPES:
        known = ", ".join(KNOWN_TYPES)
        note(
            f"model.hf: {model.model_type} is not among the tested types ({known}): check its "
            "sizes with `mutransfer rules SPEC --width N`"
        )
    elif mup:
        note(
            "model.hf: the model's own code scales attention by 1/sqrt(d_head); the head size is "
            "fixed, so that this differs from 1/d_head by a constant factor"
        )


def drop_masks(transformers: Any, model: Any, context: int) -> None:
    """Let a model attend without masks if it then calls torch's attention exactly as before.

    Other models, with written-out attention, windows, sinks or biases, stay as transformers built
    them.

    Args:
        model: with values; its attention is set in place.
        context: longest sequence, on which the calls are compared.
    """
    if model.config._attn_implementation != TORCHS:
        return
    before = attention_calls(model, context)
    if not before or any(call.get("attn_mask") is not None for call in before):
        return
    interface = transformers.AttentionInterface
    interface.register(UNMASKED, interface()[TORCHS])
    model.set_attn_implementation(UNMASKED)
    if attention_calls(model, context) != before:
        model.set_attn_implementation(TORCHS)


def attention_calls(model: Any, context: int) -> list[dict[str, Any]]:
    """Arguments of torch's attention in one forward pass, shapes in place of tensors.

    Empty if the model cannot be run on tokens.
    """
    tokens_BS = torch.arange(context).view(1, context) % model.config.vocab_size
    calls = AttentionCalls(shapes)
    try:
        with torch.no_grad(), calls:
            model(tokens_BS)
    except Exception:  # TrialRun.why_not reports the error
        return []
    return calls.found


def shapes(**arguments: Any) -> dict[str, Any]:
    return {key: x.shape if isinstance(x, Tensor) else x for key, x in arguments.items()}
