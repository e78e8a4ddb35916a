"""Sentences on how proxies differ from their Hugging Face config."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch

from mutransfer_cli.proxies.hf_config import load_transformers, read_config
from mutransfer_cli.proxies.hf_sizes import grows, is_head_size, is_kv_heads, put, scale, sizes
from mutransfer_cli.proxies.reading import Note, shapes_of
from mutransfer_cli.spec.model import KNOWN_TYPES, HfProtocol

Shapes = dict[str, tuple[int, ...]]

# sizes that nobody expects to grow with width, by a part of their name
NO_WIDTH = re.compile(
    r"vocab|position|ctx|length|(?<!per_)layer|kernel|conv|state|window|chunk|block|period|offset|"
    r"types?$|experts?(_|$)|top_?k|codebooks|patch|buckets|d_rel|rel_extent|expand|ngram|cca_time|"
    r"^(vision|audio)"
)
BALANCING = ("router_aux_loss_coef", "aux_loss_alpha", "moe_aux_loss_coeff")


def say_what_is_used(model: HfProtocol, base_width: int | None, note: Note) -> None:
    """Note where the model differs from its config.

    Args:
        base_width: that of the proxies; None for a model that keeps its config's width.
    """
    declared = model.hf.get("vocab_size")
    if declared is not None and declared != model.vocab:
        note(f"model.hf: {model.vocab} tokens as in the data, not {declared} as in the config")
    if base_width is not None:
        for sentence in of_sizes(model, base_width):
            note(f"model.hf: {sentence}")
    if model.model_type not in KNOWN_TYPES:
        note(
            f"model.hf: {model.model_type} is not among the types that were trained to test this "
            f"({', '.join(KNOWN_TYPES)}): `mutransfer check SPEC --gates coordinates` shows "
            "whether its layers move alike at all widths"
        )


def of_sizes(model: HfProtocol, base_width: int) -> Iterator[str]:
    """Sentences on sizes that do not grow in proportion, and on a loss that is left out.

    Raises:
        InputError: the config cannot be scaled.
    """
    transformers = load_transformers()
    declared = read_config(transformers, model)
    config = scale(copy.deepcopy(declared), base_width, base_width)
    hidden, found = declared.hidden_size, sizes(declared)
    fixed, rounded = [], []
    for name, value in found.items():
        if not grows(name, value, hidden):
            continue
        taken = sizes(config)[name]
        if is_kv_heads(name) and isinstance(value, int):
            if value > 1 and base_width * value % hidden:
                fixed.append(f"{name} {value}")
        elif isinstance(value, int) and value * base_width % hidden:
            rounded.append(f"{name} {value * base_width / hidden:.5g} to {taken}")
    if fixed:
        yield (
            f"{', '.join(fixed)} at every width, as base width {base_width} gives no whole number "
            f"of kv heads in the ratio to width {hidden}"
        )
    if rounded:
        yield f"at width {base_width} it rounds {', '.join(rounded)}, and likewise at others"
    if stay := fixed_sizes(transformers, config, base_width):
        listed = ", ".join(f"{name} {value}" for name, value in stay.items())
        yield f"these sizes stay fixed: {listed}"
    yield from of_balancing(model, config)


def of_balancing(model: HfProtocol, config: Any) -> Iterator[str]:
    """A sentence on the loss that balances experts, if the config has one."""
    for name in BALANCING:
        weight = getattr(config, name, None)
        if weight and re.search("expert", " ".join(sizes(config))):
            yield (
                f"the loss that balances experts ({name} {weight:g}) is left out; the proxies "
                "train on the cross-entropy alone"
            )


def fixed_sizes(transformers: Any, config: Any, width: int) -> dict[str, int]:
    """Sizes of matrices that stay as declared, other than those that no model scales.

    A size counts if another value of it changes an axis that does not grow with width.

    Args:
        config: at `width`.
    """
    shapes = parameter_shapes(transformers, config)
    wide = copy.deepcopy(config)
    for name, value in sizes(config).items():
        if grows(name, value, width):
            put(wide, name, doubled(value))
    wider = parameter_shapes(transformers, wide)
    found = {}
    for name, value in sizes(config).items():
        if grows(name, value, width) or not isinstance(value, int) or value == 1:
            continue
        if is_head_size(name) or NO_WIDTH.search(name):
            continue
        other = copy.deepcopy(config)
        put(other, name, doubled(value))
        if changes_a_fixed_axis(shapes, wider, parameter_shapes(transformers, other)):
            found[name] = value
    return found


def doubled(value: Any) -> Any:
    return [2 * item for item in value] if isinstance(value, list) else 2 * value


def changes_a_fixed_axis(shapes: Shapes, wider: Shapes, other: Shapes) -> bool:
    """Whether an axis that is as large in a wider model has another size in a third one."""
    return any(
        size == wide != changed
        for name in shapes.keys() & wider.keys() & other.keys()
        for size, wide, changed in zip(shapes[name], wider[name], other[name], strict=True)
    )


def parameter_shapes(transformers: Any, config: Any) -> Shapes:
    """Shape of every parameter by name; empty if the config's sizes contradict each other."""
    try:
        with torch.device("meta"):
            found = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception:  # the model at the base width itself is built and reported elsewhere
        return {}
    return shapes_of(found)
