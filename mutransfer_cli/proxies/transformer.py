"""The built-in proxy: a plain pre-norm decoder transformer.

It is independent of parameterizations: multipliers, init and learning rates come from a plan.
Shape suffixes: B batch, S context, D width, F inner size of the MLP, V vocabulary, H heads, G kv
heads, K head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.inits import Init
from mutransfer_cli.spec.decoder import Architecture, Gains, MlpName, NormName

NORM_EPS = 1e-6
ROTARY_BASE = 10_000.0
READOUT = "readout.weight"
PLAIN = Architecture()

Rotary = tuple[Tensor, Tensor]  # cosines and sines, each [S, K / 2]


def squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[MlpName, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "squared_relu": squared_relu,
    "swiglu": F.silu,
}


def normalised(x: Tensor, norm: NormName) -> Tensor:
    """x / rms(x) over the last axis; for LayerNorm the mean is subtracted first.

    It is written out because the fused functions' backward has no batching rule.
    """
    if norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)


class Norm(nn.Module):
    """RMSNorm or LayerNorm over the last axis.

    Args:
        gains: none, one per feature, or one for all; they are 1 at init.
    """

    gain: nn.Parameter | None

    def __init__(self, norm: NormName, gains: Gains, size: int) -> None:
        super().__init__()
        self.norm: NormName = norm
        count = {"none": 0, "vector": size, "scalar": 1}[gains]
        self.gain = nn.Parameter(torch.ones(count)) if count else None

    def forward(self, x: Tensor) -> Tensor:
        """The result has the type of x; sums are at least in float32."""
        exact = normalised(x.to(torch.promote_types(x.dtype, torch.float32)), self.norm)
        return (exact if self.gain is None else exact * self.gain).to(x.dtype)


def rotary_tables(context: int, head_size: int) -> Rotary:
    frequency = ROTARY_BASE ** -(torch.arange(0, head_size, 2) / head_size)
    angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x_BHSK: Tensor, rotary: Rotary) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864), the halves of a head as pairs."""
    first, second = x_BHSK.chunk(2, dim=-1)
    cos_SK, sin_SK = (table.to(x_BHSK.dtype) for table in rotary)
    return torch.cat((first * cos_SK - second * sin_SK, first * sin_SK + second * cos_SK), dim=-1)


def repeated(x_BGSK: Tensor, times: int) -> Tensor:
    """Each kv head once for each of the query heads that share it, [B, G * times, S, K]."""
    B, G, S, K = x_BGSK.shape
    return x_BGSK.unsqueeze(2).expand(B, G, times, S, K).reshape(B, G * times, S, K)


class Attention(nn.Module):
    """Causal self-attention.

    Args:
        scale: factor on q.k.
    """

    def __init__(self, options: Architecture, width: int, scale: float) -> None:
        super().__init__()
        self.heads, self.kv_heads = options.heads_at(width), options.kv_heads_at(width)
        self.head_size, self.scale = options.head_size_at(width), scale
        self.qkv = self.query = self.kv = None
        if options.has_fused_qkv:
            self.qkv = nn.Linear(width, 3 * width, bias=options.biases)
        else:
            self.query = nn.Linear(width, width, bias=options.biases)
            self.kv = nn.Linear(width, 2 * self.kv_heads * self.head_size, bias=options.biases)
        self.out = nn.Linear(width, width, bias=options.biases)
        self.query_norm = self.key_norm = None
        if options.qk_norm:
            self.query_norm = Norm(options.norm, options.gains, self.head_size)
            self.key_norm = Norm(options.norm, options.gains, self.head_size)

    def forward(self, x_BSD: Tensor, rotary: Rotary | None) -> Tensor:
        B, S, D = x_BSD.shape
        q_BHSK, k_BGSK, v_BGSK = self.projections(x_BSD)
        if self.query_norm is not None and self.key_norm is not None:
            q_BHSK, k_BGSK = self.query_norm(q_BHSK), self.key_norm(k_BGSK)
        if rotary is not None:
            q_BHSK, k_BGSK = rotate(q_BHSK, rotary), rotate(k_BGSK, rotary)
        if self.kv_heads < self.heads:
            times = self.heads // self.kv_heads
            k_BGSK, v_BGSK = repeated(k_BGSK, times), repeated(v_BGSK, times)
        mixed_BHSK = F.scaled_dot_product_attention(
            q_BHSK, k_BGSK, v_BGSK, is_causal=True, scale=self.scale
        )
        out: Tensor = self.out(mixed_BHSK.transpose(1, 2).reshape(B, S, D))
        return out

    def projections(self, x_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, S, K], keys and values [B, G, S, K]."""
        B, S, _ = x_BSD.shape
        if self.qkv is not None:
            qkv = self.qkv(x_BSD).view(B, S, 3, self.heads, self.head_size)
            q_BHSK, k_BHSK, v_BHSK = qkv.permute(2, 0, 3, 1, 4)
            return q_BHSK, k_BHSK, v_BHSK
        assert self.query is not None
        assert self.kv is not None
        q_BSHK = self.query(x_BSD).view(B, S, self.heads, self.head_size)
        kv = self.kv(x_BSD).view(B, S, 2, self.kv_heads, self.head_size)
        k_BGSK, v_BGSK = kv.permute(2, 0, 3, 1, 4)
        return q_BSHK.transpose(1, 2), k_BGSK, v_BGSK


class Block(nn.Module):
    """Attention and MLP, each added to the residual stream."""

    def __init__(self, options: Architecture, width: int, scale: float) -> None:
        super().__init__()
        inner, biases = options.inner_size_at(width), options.biases
        self.attention_norm = Norm(options.norm, options.gains, width)
        self.attention = Attention(options, width, scale)
        self.mlp_norm = Norm(options.norm, options.gains, width)
        self.activation = ACTIVATIONS[options.mlp]
        self.gate = nn.Linear(width, inner, bias=biases) if options.mlp == "swiglu" else None
        self.up = nn.Linear(width, inner, bias=biases)
        self.down = nn.Linear(inner, width, bias=biases)

    def forward(self, x_BSD: Tensor, rotary: Rotary | None) -> Tensor:
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), rotary)
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))

    def mlp(self, x_BSD: Tensor) -> Tensor:
        up_BSF = self.up(x_BSD)
        if self.gate is None:
            inner_BSF = self.activation(up_BSF)
        else:
            inner_BSF = self.activation(self.gate(x_BSD)) * up_BSF
        mlp_BSD: Tensor = self.down(inner_BSF)
        return mlp_BSD


class Transformer(nn.Module):
    """Pre-norm decoder: embedding, blocks of attention and MLP, a final norm, readout.

    Args:
        width: residual width D, which `options.refuse_width` must accept.
        vocab: V, number of tokens.
        context: longest sequence.
        attention_scale: factor on q.k, 1/d_head under muP (Lingle 2024, arXiv 2404.05728).
        options: its parts; by default RMSNorm without gains, rotary positions, GELU MLP x4, untied
            readout, no biases.
    """

    cos_SK: Tensor
    sin_SK: Tensor

    def __init__(
        self,
        width: int,
        vocab: int,
        context: int,
        attention_scale: float,
        options: Architecture = PLAIN,
    ) -> None:
        super().__init__()
        self.options = options
        readout = nn.Linear(width, vocab, bias=False)
        if options.tied_embeddings:
            self.readout = readout  # first: to the rules the shared weight is the readout's
        self.embedding = nn.Embedding(vocab, width)
        if options.tied_embeddings:
            self.embedding.weight = readout.weight
        self.positions = None
        if options.positions == "learned":
            self.positions = nn.Embedding(context, width)
        else:
            cos_SK, sin_SK = rotary_tables(context, options.head_size_at(width))
            self.register_buffer("cos_SK", cos_SK, persistent=False)
            self.register_buffer("sin_SK", sin_SK, persistent=False)
        self.embedding_norm = None
        if options.embedding_norm:
            self.embedding_norm = Norm(options.norm, options.gains, width)
        blocks = (Block(options, width, attention_scale) for _ in range(options.depth))
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = Norm(options.norm, options.gains, width)
        self.readout = readout

    def inits(self) -> dict[str, Init]:
        """Every parameter's init at this width: std 1 for embeddings, fan_in^-1/2 for matrices."""
        zero = {"query": self.options.query_init, "readout": self.options.readout_init}
        found = {}
        for name, parameter in self.named_parameters():
            *_, module, kind = name.split(".")
            if kind == "gain":
                found[name] = Init(1.0, 0.0)
            elif kind == "bias" or zero.get(module) == "zero":
                found[name] = Init(0.0, 0.0)
            elif module in ("embedding", "positions"):
                found[name] = Init(0.0, 1.0)
            else:
                found[name] = Init(0.0, parameter.shape[1] ** -0.5)
        return found

    def before_readout(self, tokens_BS: Tensor) -> Tensor:
        """The input of the readout, [B, S, D]."""
        S = tokens_BS.shape[1]
        x_BSD = self.embedding(tokens_BS)
        rotary = None
        if self.positions is not None:
            # rows by a slice: looking them up would copy the table under vmap
            x_BSD = x_BSD + self.positions.weight[:S]
        else:
            rotary = self.cos_SK[:S], self.sin_SK[:S]
        if self.embedding_norm is not None:
            x_BSD = self.embedding_norm(x_BSD)
        for block in self.blocks:
            x_BSD = block(x_BSD, rotary)
        normed_BSD: Tensor = self.final_norm(x_BSD)
        return normed_BSD

    def forward(self, tokens_BS: Tensor) -> Tensor:
        """Logits [B, S, V]."""
        logits_BSV: Tensor = self.readout(self.before_readout(tokens_BS))
        return logits_BSV
