"""The built-in proxy: a plain pre-norm decoder transformer.

It knows nothing of parameterizations: multipliers, init and learning rates come from a plan.
Shape suffixes: B batch, S context, D width, F inner size of the MLP, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.files.transformer import Architecture, MlpName
from mutransfer_cli.proxies.attention import Attention, Rotary, rotary_tables
from mutransfer_cli.proxies.init import Init
from mutransfer_cli.proxies.norms import Norm

PLAIN = Architecture()
READOUT = "readout.weight"


def squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[MlpName, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "squared_relu": squared_relu,
    "swiglu": F.silu,
}


class Block(nn.Module):
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
        width: residual width D, one that `options.refuse_width` takes.
        vocab: V, number of tokens.
        context: longest sequence.
        attention_scale: factor on q.k, 1/d_head under muP (Lingle 2024, arXiv 2404.05728).
        options: what it is made of; by default RMSNorm without gains, rotary positions, GELU MLP
            x4, untied readout, no biases.
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
        """Of every parameter at this width: embeddings of std 1, matrices of fan_in^-1/2."""
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
        """What the readout reads, [B, S, D]."""
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
