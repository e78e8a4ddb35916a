"""A Hugging Face config as it is trained: with the data's vocabulary, and in a protocol's sizes."""

from __future__ import annotations

import difflib
import importlib
import math
import re
import textwrap
from fractions import Fraction
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.hf_sizes import (
    PER_LAYER,
    at,
    grows,
    head_size_of,
    is_head_size,
    is_heads,
    is_kv_heads,
    number,
    put,
    sizes,
)
from mutransfer_cli.spec.model import HfProtocol

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
NOISE = re.compile("drop|jitter")  # names of the strength of random noise
LAYERS = ("num_hidden_layers", "decoder_layers", "num_decoder_layers")
LONGEST = 300  # characters of another package's message
FACTORY = "use model: {factory: package.module:function}"


def load_transformers() -> Any:
    """The transformers package, which logs nothing and downloads nothing.

    Raises:
        InputError: it is not installed.
    """
    try:
        found = importlib.import_module("transformers")
    except ImportError as error:
        raise InputError("model.hf: needs transformers; run `pip install transformers`") from error
    found.logging.set_verbosity_error()
    return found


def read_config(transformers: Any, model: HfProtocol) -> Any:
    """The declared config, with the vocabulary of the data and without dropout and caches.

    Raises:
        InputError: it is no config of a causal LM that can be scaled.
    """
    settings = {
        key: value
        for key, value in model.hf.items()
        if key not in DROPPED and not key.startswith("_")
    }
    model_type = str(settings.pop("model_type"))
    refuse_other_types(transformers, model_type, settings)
    settings |= special_tokens(transformers.CONFIG_MAPPING[model_type])
    settings |= {"vocab_size": model.vocab, "use_cache": False}
    if model.untie:
        settings["tie_word_embeddings"] = False
    config = config_of(transformers, model_type, settings)
    if model.sizes.depth:
        settings = with_depth(config, settings, model.sizes.depth)
        config = config_of(transformers, model_type, settings)
    without_noise(config)
    if number(config, "hidden_size") is None:
        raise InputError(f"model.hf: {model_type} has no hidden_size to be scaled; {FACTORY}")
    return with_heads(config, model)


def config_of(transformers: Any, model_type: str, settings: dict[str, Any]) -> Any:
    try:
        return transformers.AutoConfig.for_model(model_type, **settings)
    except Exception as error:
        cause = error.__cause__ or error  # a class of errors without a message of their own
        reason = textwrap.shorten(str(cause), LONGEST)
        raise InputError(f"model.hf: {model_type}: {type(cause).__name__}: {reason}") from error


def refuse_other_types(transformers: Any, model_type: str, settings: dict[str, Any]) -> None:
    """Raise an InputError for a type that is no causal LM of transformers."""
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    part = settings.get("text_config")
    if isinstance(part, dict):
        named = part.get("model_type", f"{model_type}_text")
        raise InputError(
            f"model.hf: {model_type} is a model of several parts; give its text_config, the value "
            f'of that key, as a config.json of its own with "model_type": "{named}"'
        )
    if model_type not in known:
        close = difflib.get_close_matches(model_type, known, n=3, cutoff=0)
        raise InputError(
            f"model.hf: transformers {transformers.__version__} has no causal LM of model_type "
            f"{model_type}; the nearest are {', '.join(close)}; for another model {FACTORY}"
        )


def special_tokens(kind: Any) -> dict[str, int | None]:
    """None for each special token; 0, a token of the data, where the class demands a number."""
    fields = kind.__dataclass_fields__
    types = {name: str(fields[name].type) if name in fields else "None" for name in SPECIAL_TOKENS}
    return {name: None if "None" in text else 0 for name, text in types.items()}


def without_noise(config: Any) -> None:
    """Turn off dropout and the like in a config and its parts."""
    for key, value in vars(config).items():
        if hasattr(value, "attribute_map"):
            without_noise(value)
        elif type(value) in (int, float) and NOISE.search(key):
            setattr(config, key, type(value)(0))


def with_depth(config: Any, settings: dict[str, Any], depth: int) -> dict[str, Any]:
    """The settings with another number of layers; lists by layer are cut or repeated.

    Args:
        config: made of `settings`.
    """
    names = {config.attribute_map.get(name, name) for name in LAYERS}
    declared = number(config, LAYERS[0])
    found = {key: value for key, value in settings.items() if key not in LAYERS}
    found |= {name: depth for name in names if name in vars(config)}
    for key, value in settings.items():
        if isinstance(value, list | str) and len(value) == declared:
            found[key] = (value * math.ceil(depth / declared))[:depth]
        elif isinstance(value, list) and re.search("(idxs|_ids|layers)$", key):
            found[key] = [layer for layer in value if layer < depth]
        elif isinstance(value, dict) and key == PER_LAYER:
            found[key] = {layer: x for layer, x in value.items() if int(layer) < depth}
    return found


def with_heads(config: Any, model: HfProtocol) -> Any:
    """The config, in place, with the protocol's head size and query heads per kv head.

    It may be several times as wide as declared, so that its numbers of heads are whole.

    Raises:
        InputError: the model has no such size.
    """
    if model.sizes.head_size is None and model.sizes.kv_group is None:
        return config
    found, hidden = sizes(config), config.hidden_size
    own = head_size_of(config)
    size = model.sizes.head_size or own
    counts = head_counts(config, model, Fraction(own, size))
    times = math.lcm(*(count.denominator for count in counts.values()))
    of_layers = config.to_dict().get(PER_LAYER) or {}
    for name, value in found.items():
        if name in counts:
            put(config, name, int(counts[name] * times))
        elif grows(name, value, hidden):
            put(config, name, at(value, hidden * times, hidden))
        elif is_head_size(name):
            put(config, name, at(value, size, own))
    if of_layers:
        config.per_layer_config = {
            int(layer): {
                key: at(value, size, own) if is_head_size(key) else value
                for key, value in changes.items()
            }
            for layer, changes in of_layers.items()
        }
    with_scores(config, own, size)
    return config


def head_counts(config: Any, model: HfProtocol, smaller: Fraction) -> dict[str, Fraction]:
    """Numbers of heads at the declared width, not rounded, by name.

    Args:
        smaller: the declared head size over the new one.
    """
    found, hidden = sizes(config), config.hidden_size
    heads_name = config.attribute_map.get("num_attention_heads", "num_attention_heads")
    kv_name = next((name for name in found if is_kv_heads(name)), None)
    heads = number(config, heads_name)
    if heads is None or "v_head_dim" in found:
        what = "heads of several sizes" if heads else "no attention heads"
        raise InputError(
            f"model.head_size, model.kv_group: {model.model_type} has {what}; leave them out"
        )
    if model.sizes.kv_group and kv_name is None:
        raise InputError(f"model.kv_group: {model.model_type} has no kv heads; leave it out")
    group = model.sizes.kv_group or Fraction(heads, number(config, kv_name or heads_name) or heads)
    size = model.sizes.head_size
    counts = {
        name: value * smaller
        for name, value in found.items()
        if is_heads(name) and isinstance(value, int)
    }
    counts[heads_name] = Fraction(hidden, size) if size else Fraction(heads)
    if kv_name:
        counts[kv_name] = counts[heads_name] / group
    return counts


def with_scores(config: Any, own: int, size: int) -> None:
    """Change what a config says in units of the head size: the scale of q.k, rotary frequencies."""
    scalar, multiplier = (
        vars(config).get(name) for name in ("query_pre_attn_scalar", "attention_multiplier")
    )
    if scalar:
        config.query_pre_attn_scalar = type(scalar)(scalar * size / own)
    if multiplier:
        config.attention_multiplier = multiplier * math.sqrt(own / size)
    rotary = vars(config).get("rope_parameters") or {}
    for key in ("short_factor", "long_factor"):
        if key in rotary and own % size == 0:
            rotary[key] = rotary[key][:: own // size]
