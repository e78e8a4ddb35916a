"""The built-in decoder transformer: options as written in a spec, and as resolved in a protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from mutransfer_cli.explain import shown
from mutransfer_cli.strict import Count, Sparse

AttentionScale = Literal["1/d_head", "1/sqrt(d_head)"]
NormName = Literal["rms", "layer"]
Gains = Literal["none", "vector", "scalar"]
MlpName = Literal["relu", "gelu", "squared_relu", "swiglu"]

MOST_RATIO = 1000

# Grattafiori et al. 2024 (arXiv 2407.21783), the ratios of the 8B model
PRESETS: dict[str, dict[str, Any]] = {
    "llama": {
        "norm": "rms",
        "gains": "vector",
        "positions": "rotary",
        "mlp": "swiglu",
        "mlp_ratio": "7/2",
        "kv_group": 4,
    }
}


def attention_factor(formula: AttentionScale, head_size: int) -> float:
    """The factor on q.k under either formula."""
    return 1 / head_size if formula == "1/d_head" else head_size**-0.5


def parse_ratio(value: Any) -> str:
    """Convert 4, 3.5 or "8/3" to an exact positive ratio in lowest terms."""
    try:
        ratio = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        ratio = Fraction(0)
    if not 0 < ratio <= MOST_RATIO:
        raise ValueError(f"expected a ratio such as 4, 3.5 or 8/3, found {shown(value)}")
    return str(ratio)


RatioText = Annotated[str, Field(pattern=r"^\s*\+?[\d._]+([eE][+-]?\d+|/\d+)?\s*$")]
PlainRatio = Annotated[float, Field(gt=0, le=MOST_RATIO)]
Ratio = Annotated[str, BeforeValidator(parse_ratio, json_schema_input_type=PlainRatio | RatioText)]


class Architecture(Sparse):
    """Options of the built-in decoder, and the sizes that follow from them."""

    depth: Count = 2
    """Number of blocks."""
    positions: Literal["rotary", "learned"] = "rotary"  # first: the check of head_size reads it
    """rotary, or learned: one row per position, added to the embedding and of the same role
    (Everett et al. 2024, arXiv 2407.05872)."""
    head_size: Count | None = 16
    """d_head, the same at all widths, so that width grows by heads."""
    heads: Count | None = None
    """Fixed number of heads in place of `head_size`, so that d_head = width / heads grows and the
    two attention scales differ as functions of width."""
    kv_heads: Count | None = None
    """Fixed number of key-value heads, 1 for multi-query attention; null for as many as heads.
    Their matrix is hidden, and only its fan-in grows. Multi-query attention is said to keep
    transfer."""
    kv_group: Count | None = None
    """Query heads per key-value head, the same at all widths: grouped-query attention."""
    qk_norm: bool = False
    """Normalise the queries and keys of each head, before rotary positions, which bounds q.k for
    weights of any size (used by Wortsman et al. 2023, arXiv 2309.14322)."""
    query_init: Literal["normal", "zero"] = "normal"
    """normal, or zero, which makes queries a separate matrix; zero is said to keep transfer and to
    lower the loss."""
    norm: NormName = "rms"
    """rms (Lingle), or layer: LayerNorm without shift (Everett et al.). No exponent depends on
    it."""
    gains: Gains = "none"
    """Trainable factors of every norm, 1 at init: none; vector, one per feature, of role vector
    (scalar if no width is in them: qk_norm with fixed d_head); or scalar, one per norm. Both are
    said to break transfer; Everett et al. train those of LayerNorm."""
    embedding_norm: bool = False
    """Normalise after the embedding; said to keep transfer without a gain."""
    mlp: MlpName = "gelu"
    """relu (Lingle's baseline), gelu, squared_relu or swiglu; the last two are said to keep
    transfer and to lower the loss."""
    mlp_ratio: Ratio = "4"
    """Inner size over width: 4, 3.5 or an exact fraction such as 8/3, which gives whole sizes at
    multiples of 3."""
    biases: bool = False
    """Biases on all projections in blocks, 0 at init, of role vector; said to keep transfer."""
    readout_init: Literal["rule", "standard", "zero"] = "rule"
    """rule; standard, whose std times multiplier scales as width^-1/2 under every parameterization,
    so that only mup and mean_field change; or zero. Rates and epsilon still follow the rule. The
    last two are said to keep transfer under mup."""
    tied_embeddings: bool = False
    """Use one weight for embedding and readout, planned as a readout (init std width^-1/2). Refused
    if the rule gives the two different multipliers or rates; standard with one global rate is
    accepted."""

    @field_validator("head_size")
    @classmethod
    def even(cls, head_size: int | None, info: ValidationInfo) -> int | None:
        if head_size and head_size % 2 and info.data.get("positions") == "rotary":
            raise ValueError(f"must be even for rotary positions, found {head_size}")
        return head_size

    @field_validator("kv_group")
    @classmethod
    def group_of_some(cls, kv_group: int | None) -> int | None:
        return None if kv_group == 1 else kv_group

    @model_validator(mode="after")
    def heads_are_given_once(self) -> Architecture:
        if self.heads is not None and self.head_size is not None:
            raise ValueError(
                f"heads {self.heads} and head_size {self.head_size}: width grows by heads of a "
                "fixed size or by the size of fixed heads; leave one of them out"
            )
        if self.heads is None and self.head_size is None:
            raise ValueError("give head_size, or heads for a fixed number of them")
        if self.kv_heads is not None and self.kv_group is not None:
            raise ValueError(
                f"kv_heads {self.kv_heads} and kv_group {self.kv_group}: the first is a fixed "
                "number of kv heads, the second a fixed ratio; leave one of them out"
            )
        for key, count in (("kv_heads", self.kv_heads), ("kv_group", self.kv_group)):
            if self.heads is not None and count is not None and self.heads % count:
                raise ValueError(f"{key}: found {count}, which does not divide heads {self.heads}")
        return self

    @model_validator(mode="after")
    def options_go_together(self) -> Architecture:
        if self.query_init == "zero" and self.qk_norm:
            raise ValueError(
                "query_init zero: qk_norm brings queries of any size to size 1, so that the first "
                "step undoes it; leave one of them out"
            )
        if self.tied_embeddings and self.readout_init != "rule":
            raise ValueError(
                f"readout_init {self.readout_init}: tied_embeddings make the readout's weight that "
                "of the embedding too; leave one of them out"
            )
        return self

    @property
    def has_fused_qkv(self) -> bool:
        """Whether queries, keys and values are one matrix: equally many, with the same init."""
        grouped = self.kv_heads is not None or self.kv_group is not None
        return not grouped and self.query_init == "normal"

    def heads_at(self, width: int) -> int:
        """The number of query heads."""
        return width // self.head_size_at(width)

    def head_size_at(self, width: int) -> int:
        """d_head, the width of a head."""
        if self.head_size is not None:
            return self.head_size
        assert self.heads is not None, "one of them is given"
        return width // self.heads

    def kv_heads_at(self, width: int) -> int:
        """The number of key-value heads."""
        return self.kv_heads or self.heads_at(width) // (self.kv_group or 1)

    def inner_size_at(self, width: int) -> int:
        """The inner size of the MLP."""
        return int(width * Fraction(self.mlp_ratio))

    def refuse_width(self, key: str, width: int) -> None:
        """Raise a ValueError for a width at which some size would not be a whole number."""
        unit = math.lcm(*(step for step, _ in self._steps(width)))
        below, above = width // unit * unit, -(-width // unit) * unit
        choice = f"{below} or {above}" if below else f"{above}"
        for step, reason in self._steps(width):
            if width % step:
                raise ValueError(f"{key}: found {width}, {reason}; use {choice}")

    def _steps(self, width: int) -> Iterator[tuple[int, str]]:
        """The numbers that must divide a width, each with the reason."""
        size = self.head_size
        if size:
            yield size, f"which model.head_size {size} does not divide"
            for key, count in (("kv_heads", self.kv_heads), ("kv_group", self.kv_group)):
                if count:
                    heads = f"whose {width // size} heads" if width >= size else "whose heads"
                    yield size * count, f"{heads} model.{key} {count} does not divide"
        if self.heads:
            yield self.heads, f"which model.heads {self.heads} does not divide"
            if self.positions == "rotary":
                odd = f"whose head size {width // self.heads} is odd"
                yield 2 * self.heads, f"{odd}, and rotary positions need an even one"
        ratio = Fraction(self.mlp_ratio)
        inner = f"{width * float(ratio):.6g}"
        yield (
            ratio.denominator,
            f"of which model.mlp_ratio {self.mlp_ratio} is not a whole size ({inner})",
        )


class TransformerSpec(Architecture):
    """The built-in proxy, a decoder transformer, whose width is swept while all options stay fixed.

    Ablations are from Lingle 2024 (arXiv 2404.05728), under mup; "said to" marks a result that was
    reported second-hand."""

    family: Literal["transformer"] = "transformer"
    """The kind of model: transformer."""
    preset: Literal["llama"] | None = None
    """`llama`: RMSNorm with vector gains, rotary positions, SwiGLU of mlp_ratio 3.5, four query
    heads per kv head (Grattafiori et al. 2024, arXiv 2407.21783); keys beside it take
    precedence."""
    attention_scale: AttentionScale | None = None
    """Factor on q.k. By default 1/d_head under mup (Yang et al. 2022, arXiv 2203.03466, where
    d_head grows; Lingle) and mean_field, which trains the same, and 1/sqrt(d_head) under standard
    and ntk. Lingle's 1/sqrt(d_head) is said to break transfer even at fixed d_head."""

    @model_validator(mode="before")
    @classmethod
    def with_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen = (keys for name, keys in PRESETS.items() if data.get("preset") == name)
        defaults = dict(next(chosen, {}))
        if data.get("kv_heads") is not None:
            defaults.pop("kv_group", None)
        if data.get("heads") is not None:
            defaults["head_size"] = None
        return defaults | data


class ModelProtocol(Architecture):
    """The built-in model as trained: the spec with every default resolved."""

    OPTIONAL: ClassVar = frozenset(Architecture.model_fields) - {"depth", "head_size"}

    family: str
    """The kind of model: transformer."""
    vocab: Count
    """Vocabulary size, that of the data."""
    attention_scale: AttentionScale
    """Factor on q.k."""

    def attention_factor_at(self, width: int) -> float:
        """The factor on q.k."""
        return attention_factor(self.attention_scale, self.head_size_at(width))

    @property
    def options(self) -> dict[str, str | int | bool]:
        """The options that differ from their default, without sizes of heads."""
        named = self.OPTIONAL - {"heads"}
        return {key: value for key, value in self.model_dump().items() if key in named}
