"""Sizes of a Hugging Face config: which of them grow with width, told by their usual names.

Configs hold sizes as whole numbers, lists of them (one per layer), numbers of a part (such as
`ffn_config`), and, in `per_layer_config`, those of single layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mutransfer_cli.errors import InputError

Size = int | list[int]

# heads have a fixed size, so that their number grows with width
HEADS = re.compile(r"(^|_)heads?(_per_layer)?$")
HEAD_SIZE = re.compile(r"(head_dim|head_size|headdim|d_head|dim_head|rotary_dim)$")
KV_HEADS = re.compile(r"(key_value|kv)(_n)?_heads$|num_query_groups$")
# groups of Mamba-2's heads; published families keep their number
SSM_GROUPS = re.compile(r"^(mamba_)?n_?groups$")
SSM_HEADS = re.compile(r"^(mamba_)?(num|n)_(mamba_)?heads$")
# inner sizes are multiples of the width; the ranks of Mamba's step size are a 16th of it
INNER = re.compile(
    r"(^|_)(intermediate_size|inner|dff|d_ff|dim_ff|ffn_dim|ffn_hidden_size|feed_forward_size|"
    r"d_ssm|dt_rank|time_step_rank)(_|$)"
)
# another name of the width, or of a whole multiple of it
WIDTH = re.compile(
    r"(hidden_size|embedding_size|emb(ed)?(ding)?_dim|n_embd|proj_dim|d_model|lru_width)$"
)
PER_LAYER = "per_layer_config"


@dataclass(frozen=True)
class KvHeads:
    """The rule of key-value heads: a fixed ratio to the heads, or the declared number.

    Attributes:
        heads: number of query heads at the width.
        declared_heads: their declared number.
        hidden: the declared width.
        to_train: whether kv heads that do not divide the heads are refused.
    """

    heads: int
    declared_heads: int
    hidden: int
    base_width: int
    width: int
    to_train: bool

    def stay(self, declared: int) -> bool:
        """Whether the ratio gives no whole number at the base width."""
        return self.base_width * declared % self.hidden != 0

    def count(self, name: str, declared: int) -> int:
        """The number at the width.

        Raises:
            InputError: it does not divide the heads.
        """
        exact = self.width * declared % self.hidden == 0
        found = declared if self.stay(declared) else self.width * declared // self.hidden
        if not self.to_train and (not exact or self.heads % found):
            return math.gcd(self.heads, declared)
        if (not exact and not self.stay(declared)) or self.heads % found:
            raise InputError(
                f"model.hf: found width {self.width}, {self.heads} heads, which {declared} kv "
                f"heads to {self.declared_heads} heads do not divide; use base_width and widths "
                f"that are multiples of {self.hidden // math.gcd(self.hidden, declared)}, or a "
                f"config whose {name} is 1 or {self.declared_heads}"
            )
        return found


def is_head_size(name: str) -> bool:
    """Whether a size is that of a head, or of a part of it."""
    return bool(HEAD_SIZE.search(name))


def head_size_of(config: Any) -> int:
    """d_head of the attention layers; 1 without heads."""
    heads = number(config, "num_attention_heads")
    declared = number(config, "head_dim")
    return declared or (config.hidden_size // heads if heads else 1)


def number(config: Any, name: str) -> int | None:
    """A whole number that a config stores, under this name or the one it is an alias of."""
    found = vars(config).get(config.attribute_map.get(name, name))
    return found if isinstance(found, int) and found > 0 else None


def sizes(config: Any, prefix: str = "") -> dict[str, Size]:
    """Whole numbers above 0, and lists of them, by dotted name."""
    found: dict[str, Size] = {}
    for name, value in vars(config).items():
        if name.startswith("_") or "token_id" in name:
            continue
        if hasattr(value, "attribute_map"):
            found |= sizes(value, f"{prefix}{name}.")
        elif is_size(value):
            found[prefix + name] = value
    return found


def is_size(value: Any) -> bool:
    """Whether a value is a whole number above 0, or a list of them."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(type(item) is int and item > 0 for item in items)


def put(config: Any, name: str, value: Size) -> None:
    """Set a size by its dotted name."""
    *parts, leaf = name.split(".")
    for part in parts:
        config = getattr(config, part)
    setattr(config, leaf, value)


def grows(name: str, value: Size, hidden: int) -> bool:
    """Whether a size of this name grows with width."""
    leaf = name.rpartition(".")[2]
    if is_head_size(leaf):
        return False
    if HEADS.search(leaf) or KV_HEADS.search(leaf) or INNER.search(leaf):
        return True
    return bool(WIDTH.search(leaf)) and isinstance(value, int) and value % hidden == 0


def is_heads(name: str) -> bool:
    """Whether a size is a number of heads."""
    leaf = name.rpartition(".")[2]
    return not is_head_size(leaf) and bool(HEADS.search(leaf) or KV_HEADS.search(leaf))


def is_kv_heads(name: str) -> bool:
    """Whether a size is the number of key-value heads, of which a model may have one."""
    return bool(KV_HEADS.search(name))


def at(value: Size, width: int, hidden: int) -> Size:
    """A size in proportion to width, rounded."""
    if isinstance(value, list):
        return [max(1, round(item * width / hidden)) for item in value]
    return max(1, round(value * width / hidden))


def step_of(config: Any) -> int:
    """The smallest width of whole heads."""
    hidden, found = config.hidden_size, 1
    for name, value in sizes(config).items():
        if is_heads(name) and not is_kv_heads(name):
            for count in value if isinstance(value, list) else [value]:
                found = math.lcm(found, hidden // math.gcd(hidden, count))
    return found


def scale(config: Any, base_width: int, width: int, to_train: bool = True) -> Any:
    """Bring a config to a width, in place: heads of fixed size, kv heads in a fixed ratio to them,
    inner sizes in proportion to width.

    If the ratio gives no whole number of kv heads at the base width, they stay as declared.

    Args:
        to_train: refuse kv heads that do not divide the heads; a model that is only read gets fewer
            kv heads instead.

    Raises:
        InputError: the width is no whole number of heads, or the kv heads do not divide them.
    """
    hidden, step = config.hidden_size, step_of(config)
    if width % step:
        raise InputError(
            f"model.hf: found width {width}, which gives no whole number of heads; use a multiple "
            f"of {step}"
        )
    heads = number(config, "num_attention_heads") or 1
    kv = KvHeads(heads * width // hidden, heads, hidden, base_width, width, to_train)
    found, of_layers = sizes(config), config.to_dict().get(PER_LAYER) or {}
    scaled = {name: scaled_size(name, value, kv) for name, value in found.items()}
    for name, value in scaled.items():
        if value != found[name]:
            put(config, name, value)
    if of_layers:
        config.per_layer_config = {
            int(layer): {key: scaled_size(key, value, kv) for key, value in changes.items()}
            for layer, changes in of_layers.items()
        }
    refuse_groups(scaled, width)
    return config


def scaled_size(name: str, value: Any, kv: KvHeads) -> Any:
    """A declared value at the width of `kv`; what does not grow stays."""
    if not is_size(value) or not grows(name, value, kv.hidden):
        return value
    if is_kv_heads(name) and isinstance(value, int):
        return kv.count(name, value)
    return at(value, kv.width, kv.hidden)


def refuse_groups(found: Mapping[str, Size], width: int) -> None:
    """Raise an InputError if groups of heads, whose number is fixed, do not divide the heads."""
    groups = next((name for name in found if SSM_GROUPS.search(name)), None)
    heads = next((name for name in found if SSM_HEADS.search(name)), None)
    if groups and heads and found[heads] % found[groups]:  # type: ignore[operator]
        raise InputError(
            f"model.hf: found width {width}, {heads} {found[heads]}, which {groups} "
            f"{found[groups]} does not divide; use widths with more heads, or a config whose "
            f"{groups} is 1"
        )
