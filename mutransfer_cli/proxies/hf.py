"""Hugging Face causal LMs whose config is scaled in width; nothing is downloaded.

Where possible they attend without masks. How transformers masks depends on the caller: eager code,
torch.compile and the capture of a CUDA graph take different ways, and a mask made under vmap has a
wrong shape in torch's attention. For an attention function whose masks it does not know, such as
the one registered here, transformers makes none; torch's attention is then called as causal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.attention import AttentionCalls
from mutransfer_cli.proxies.factory import first_line
from mutransfer_cli.proxies.hf_config import load_transformers, read_config
from mutransfer_cli.proxies.hf_sizes import scale, step_of
from mutransfer_cli.spec.model import HfProtocol, HfSizes
from mutransfer_cli.spec.own_factors import NEUTRAL

UNMASKED = "mutransfer_unmasked"
TORCHS = "sdpa"  # transformers' name of torch's attention


def is_tied(model: HfProtocol) -> bool:
    """Whether the model's embedding is its readout."""
    config = read_config(load_transformers(), model)
    return bool(getattr(config, "tie_word_embeddings", False))


def with_defaults(model: HfProtocol) -> HfProtocol:
    """The model with its config as its class completes it, in its own sizes."""
    declared = model.model_copy(update={"sizes": HfSizes()})
    config = read_config(load_transformers(), declared)
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
        InputError: the config cannot be scaled.
    """
    transformers = load_transformers()
    declared = read_config(transformers, model)
    longest = getattr(declared, "max_position_embeddings", None)
    if isinstance(longest, int) and 0 < longest < context:  # XLNet has -1
        raise InputError(
            f"model.hf: train.context is {context} and the config's max_position_embeddings "
            f"{longest}; make one of them fit"
        )

    def build(width: int) -> nn.Module:
        config = scale(read_config(transformers, model), base_width, width, to_train)
        window = getattr(config, "sliding_window", None)
        if isinstance(window, int) and window <= context:
            # transformers masks the fused attention even if the window equals the context, and
            # under vmap that mask has a wrong shape
            config._attn_implementation = "eager"
        try:
            found: nn.Module = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, experts_implementation="eager"
            )
        except Exception as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"model.hf: {model.model_type} at width {width}: {problem}") from error
        for module in found.modules():
            if isinstance(module, nn.Embedding):
                module.padding_idx = None  # all tokens of the data are trained
        if to_train and not any(p.is_meta for p in found.parameters()):
            drop_masks(transformers, found, context)
            refuse_foresight(found, model.model_type, context)
        return found

    return build


def possible_widths(model: HfProtocol, base_width: int, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The wanted widths, ascending, if the config can have them; otherwise the next larger ones in
    the same ratios, up to twice as large, that it can have.
    """
    config = read_config(load_transformers(), model)
    step = step_of(config)
    first = -(-wanted[0] // step) * step
    smallest = [wanted[0], *range(first, 2 * first + step, step)]
    for widths in (tuple(x * width // wanted[0] for width in wanted) for x in smallest):
        if all(can_have(config, base_width, width) for width in widths):
            return widths
    return wanted


def can_have(config: Any, base_width: int, width: int) -> bool:
    """Whether a config can be brought to a width."""
    try:
        scale(copy.deepcopy(config), base_width, width)
    except InputError:
        return False
    return True


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


def refuse_foresight(model: Any, model_type: str, context: int) -> None:
    """Raise an InputError if logits depend on later tokens, as those of an encoder do.

    Args:
        model: with values.
    """
    tokens_BS = torch.arange(context).view(1, context) % model.config.vocab_size
    other_BS, trains = tokens_BS.clone(), model.training
    other_BS[:, -1] = (other_BS[:, -1] + 1) % model.config.vocab_size
    try:
        with torch.no_grad():
            logits, others = (model.eval()(x).logits[:, :-1] for x in (tokens_BS, other_BS))
    except Exception:  # TrialRun.why_not reports the error
        return
    finally:
        model.train(trains)
    if not torch.allclose(logits, others, rtol=1e-3, atol=1e-5):
        raise InputError(
            f"model.hf: the logits of {model_type} depend on later tokens, which it is to predict; "
            'give "is_decoder": true in its config if it has that key'
        )


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
