"""Small models of many kinds over tokens, as users write them; `own_zoo_shapes` holds the rest.

Each function makes a model of a width. The roles that a human gives them are in
`test_reading_zoo`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 4  # size of an attention head that keeps its size
EXPERTS, BOTTLENECK, STATE = 4, 6, 3


class Net(nn.Module):
    """Parts and a function of them and of tokens [B, S], which makes logits [B, S, V]."""

    def __init__(self, run: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.run(self, tokens)


class LossNet(Net):
    """The function also takes targets [B, S], and makes the loss."""

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        return self.run(self, tokens, targets)


def drawn(*shape: int, fan_in: int = 1) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * fan_in**-0.5)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def ends(width: int, vocab: int) -> dict[str, nn.Module]:
    """The two ends of a language model."""
    return {"embed": nn.Embedding(vocab, width), "head": linear(width, vocab)}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def attend(q: Tensor, k: Tensor, v: Tensor, head: int, **options: Any) -> Tensor:
    """Causal attention in heads of one size; keys and values may have fewer heads."""
    q, k, v = (x.unflatten(-1, (-1, head)).transpose(1, 2) for x in (q, k, v))
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)
    return mixed.transpose(1, 2).flatten(2)


def scores_attend(q: Tensor, k: Tensor, v: Tensor, head: int, bias: Tensor | None) -> Tensor:
    """Attention written out, with a bias [heads, S, S] on its scores."""
    q, k, v = (x.unflatten(-1, (-1, head)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT * head**-0.5
    if bias is not None:
        scores = scores + bias
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    return (scores.masked_fill(~mask, -1e9).softmax(-1) @ v).transpose(1, 2).flatten(2)


# gates, and layers of one value


def gate_of_one(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        return m.head(x + torch.sigmoid(m.gate(x)) * m.a(x))

    return Net(run, **ends(width, vocab), gate=nn.Linear(width, 1), a=linear(width, width))


def from_one_number(width: int, vocab: int) -> nn.Module:
    """A number for each token, such as its age, becomes a vector."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens) + m.age(tokens[..., None].float() / 32)
        return m.head(F.gelu(m.a(x)))

    return Net(run, **ends(width, vocab), age=nn.Linear(1, width), a=linear(width, width))


def squeeze_excite(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.a(m.embed(tokens))
        seen = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return m.head(x * torch.sigmoid(m.excite(F.relu(m.squeeze(seen)))))

    return Net(
        run,
        **ends(width, vocab),
        a=linear(width, width),
        squeeze=nn.Linear(width, BOTTLENECK),
        excite=nn.Linear(BOTTLENECK, width),
    )


def highway(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        carry = torch.sigmoid(m.carry(x))
        return m.head(carry * x + (1 - carry) * torch.tanh(m.a(x)))

    return Net(run, **ends(width, vocab), carry=nn.Linear(width, width), a=nn.Linear(width, width))


def scales_of_layers(width: int, vocab: int) -> nn.Module:
    """LayerScale, ReZero, activations with slopes, and a temperature."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        x = x + m.layer_scale * m.slopes(m.a(x))
        x = x + m.rezero * m.slope(m.b(x))
        return m.head(x) / m.temperature.exp()

    return Net(
        run,
        **ends(width, vocab),
        a=linear(width, width),
        b=linear(width, width),
        layer_scale=nn.Parameter(torch.full((width,), 0.1)),
        rezero=nn.Parameter(torch.zeros(1)),
        slopes=RowPReLU(width),
        slope=nn.PReLU(),
        temperature=nn.Parameter(torch.zeros(())),
    )


class RowPReLU(nn.Module):
    """A slope for each channel, which lies last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.weight * x)


# several outputs


def value_head(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.gelu(m.a(m.embed(tokens)))
        value = m.value(x).squeeze(-1)
        return cross_entropy(m.head(x), targets) + 0.1 * (value - targets / 32).square().mean()

    return LossNet(run, **ends(width, vocab), a=linear(width, width), value=nn.Linear(width, 1))


def several_token_heads(width: int, vocab: int) -> nn.Module:
    """Each head predicts one token further, the second after a layer of its own."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.gelu(m.a(m.embed(tokens)))
        further = x + F.silu(m.own(x))
        return cross_entropy(m.heads[0](x), targets) + cross_entropy(
            m.heads[1](further)[:, :-1], targets[:, 1:]
        )

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        a=linear(width, width),
        own=linear(width, width),
        heads=nn.ModuleList(linear(width, vocab) for _ in range(2)),
    )


def head_in_the_middle(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.gelu(m.a(m.embed(tokens)))
        middle = m.aux(x)
        x = x + F.gelu(m.b(x))
        return cross_entropy(m.head(x), targets) + 0.1 * cross_entropy(middle, targets)

    return LossNet(
        run,
        **ends(width, vocab),
        a=linear(width, width),
        b=linear(width, width),
        aux=nn.Linear(width, vocab),
    )


def mixture_of_softmaxes(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.a(m.embed(tokens))
        prior = m.prior(x).softmax(-1)
        contexts = torch.tanh(m.latent(x)).unflatten(-1, (3, -1))
        mixed = (prior[..., None] * m.head(contexts).softmax(-1)).sum(2)
        return (mixed + 1e-8).log()

    return Net(
        run,
        **ends(width, vocab),
        a=linear(width, width),
        prior=linear(width, 3),
        latent=linear(width, 3 * width),
    )


def adaptive_softmax(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.gelu(m.a(m.embed(tokens)))
        return m.softmax(x.flatten(0, 1), targets.flatten()).loss

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        a=linear(width, width),
        softmax=nn.AdaptiveLogSoftmaxWithLoss(width, vocab, [vocab // 2], div_value=2.0),
    )


def low_rank_head(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.out(m.down(F.gelu(m.a(m.embed(tokens)))))

    return Net(
        run,
        embed=nn.Embedding(vocab, width),
        a=linear(width, width),
        down=linear(width, BOTTLENECK),
        out=linear(BOTTLENECK, vocab),
    )


def raw_ends(width: int, vocab: int) -> nn.Module:
    """One-hot tokens times a matrix, and a matrix whose input axis comes first."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = F.one_hot(tokens, vocab).float() @ m.table
        return F.gelu(x @ m.inner) @ m.out

    return Net(
        run,
        table=drawn(vocab, width),
        inner=drawn(width, 2 * width, fan_in=width),
        out=drawn(2 * width, vocab, fan_in=2 * width),
    )


# tied weights


def tied_by_module(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.embed(tokens))))

    parts = ends(width, vocab)
    parts["head"].weight = parts["embed"].weight
    return Net(run, **parts, a=linear(width, width))


def tied_by_call(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return F.linear(F.gelu(m.a(m.wte(tokens))), m.wte.weight)

    return Net(run, wte=nn.Embedding(vocab, width), a=linear(width, width))


def tied_raw(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return F.gelu(m.a(m.table[tokens])) @ m.table.T

    return Net(run, table=drawn(vocab, width), a=linear(width, width))


def one_block_twice(width: int, vocab: int) -> nn.Module:
    """ALBERT's shared block."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        for _ in range(2):
            x = x + m.down(F.gelu(m.up(m.norm(x))))
        return m.head(x)

    return Net(
        run,
        **ends(width, vocab),
        norm=nn.LayerNorm(width),
        up=nn.Linear(width, 4 * width),
        down=nn.Linear(4 * width, width),
    )


def equilibrium(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.inject(m.embed(tokens))
        z = torch.zeros_like(x)
        for _ in range(4):
            z = torch.tanh(m.a(z) + x)
        return m.head(z)

    return Net(run, **ends(width, vocab), inject=linear(width, width), a=nn.Linear(width, width))


# low rank, and products of more than two


def lora(width: int, vocab: int) -> nn.Module:
    """Adapters of fixed rank on a frozen model."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        return m.head(F.gelu(m.base(x) + m.lora_b(m.lora_a(x))))

    model = Net(
        run,
        **ends(width, vocab),
        base=linear(width, width),
        lora_a=linear(width, BOTTLENECK),
        lora_b=linear(BOTTLENECK, width),
    )
    for part in (model.embed, model.head, model.base):
        part.requires_grad_(False)
    nn.init.zeros_(model.get_parameter("lora_b.weight"))
    return model


def latent_attention(width: int, vocab: int) -> nn.Module:
    """Keys and values through a latent of fixed rank, as DeepSeek's."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        k, v = m.up(m.norm(m.down(x))).chunk(2, -1)
        return m.head(x + m.out(attend(m.query(x), k, v, HEAD)))

    return Net(
        run,
        **ends(width, vocab),
        query=linear(width, width),
        down=linear(width, BOTTLENECK),
        norm=nn.RMSNorm(BOTTLENECK),
        up=linear(BOTTLENECK, 2 * width),
        out=linear(width, width),
    )


def factorised_embedding(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.project(m.small(tokens)))))

    return Net(
        run,
        small=nn.Embedding(vocab, BOTTLENECK),
        project=linear(BOTTLENECK, width),
        a=linear(width, width),
        head=linear(width, vocab),
    )


def bilinear(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        return m.head(x + m.mix(x, m.a(x)))

    return Net(
        run,
        **ends(width, vocab),
        a=linear(width, width),
        mix=nn.Bilinear(width, width, width),
    )


def hypernetwork(width: int, vocab: int) -> nn.Module:
    """A product with a matrix that the model makes itself."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        left, right = m.left(x), m.right(x)
        mixed = (left * x).sum(-1, keepdim=True) * right / x.shape[-1]
        return m.head(x + mixed)

    return Net(run, **ends(width, vocab), left=linear(width, width), right=linear(width, width))


# mixtures of experts


def _expert_parts(width: int, vocab: int) -> dict[str, Any]:
    inner = 2 * width
    return {
        **ends(width, vocab),
        "router": linear(width, EXPERTS),
        "up": drawn(EXPERTS, width, inner, fan_in=width),
        "down": drawn(EXPERTS, inner, width, fan_in=inner),
    }


def experts_by_bmm(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        shares = m.router(x).softmax(-1)
        flat = x.flatten(0, 1).expand(EXPERTS, -1, -1)
        found = torch.bmm(F.silu(torch.bmm(flat, m.up)), m.down).unflatten(1, x.shape[:2])
        return m.head(x + torch.einsum("ebsd,bse->bsd", found, shares))

    return Net(run, **_expert_parts(width, vocab))


def experts_by_einsum(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        shares = m.router(x).softmax(-1)
        inner = F.silu(torch.einsum("bsd,edf->bsef", x, m.up))
        return m.head(x + torch.einsum("bsef,efd,bse->bsd", inner, m.down, shares))

    return Net(run, **_expert_parts(width, vocab))


def experts_by_index(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        shares = m.router(x).softmax(-1)
        out = x
        for expert in range(EXPERTS):
            found = F.silu(x @ m.up[expert]) @ m.down[expert]
            out = out + shares[..., expert : expert + 1] * found
        return m.head(out)

    return Net(run, **_expert_parts(width, vocab))


def experts_by_token(width: int, vocab: int) -> nn.Module:
    """Each token goes to the expert of its best score, whose weights and biases are gathered."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        share, best = F.linear(x, m.router).softmax(-1).max(-1)
        up, down = m.up[best], m.down[best]
        inner = F.silu(torch.einsum("bsd,bsdf->bsf", x, up) + m.up_bias[best])
        return m.head(x + share[..., None] * torch.einsum("bsf,bsfd->bsd", inner, down))

    parts = _expert_parts(width, vocab)
    parts |= {"router": drawn(EXPERTS, width, fan_in=width), "up_bias": drawn(EXPERTS, 2 * width)}
    return Net(run, **parts)


def experts_as_modules(width: int, vocab: int) -> nn.Module:
    """The router's best two of modules, with a bias on its scores for each expert."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        scores = torch.sigmoid(m.router(x)) + m.bias
        kept = scores >= scores.topk(2, -1).values[..., -1:]
        out = x
        for number, expert in enumerate(m.experts):
            out = out + (scores * kept)[..., number : number + 1] * expert(x)
        return m.head(out)

    experts = [
        nn.Sequential(linear(width, 2 * width), nn.SiLU(), linear(2 * width, width))
        for _ in range(EXPERTS)
    ]
    return Net(
        run,
        **ends(width, vocab),
        router=linear(width, EXPERTS),
        bias=nn.Parameter(torch.zeros(EXPERTS)),
        experts=nn.ModuleList(experts),
    )


def soft_experts(width: int, vocab: int) -> nn.Module:
    """Slots are mixtures of tokens, by a matrix of a column for each slot."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        scores = x @ m.slots
        slots = scores.softmax(1).mT @ x
        return m.head(scores.softmax(-1) @ m.expert(slots))

    return Net(
        run,
        **ends(width, vocab),
        slots=drawn(width, EXPERTS, fan_in=width),
        expert=linear(width, width),
    )


def product_keys(width: int, vocab: int) -> nn.Module:
    """A memory: keys are multiplied with queries, values are looked up."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        scores, rows = (m.query(x) @ m.keys.T).topk(2, -1)
        return m.head(x + (scores.softmax(-1)[..., None] * m.values(rows)).sum(2))

    return Net(
        run,
        **ends(width, vocab),
        query=linear(width, width),
        keys=drawn(8, width, fan_in=width),
        values=nn.Embedding(8, width),
    )


# positions, attention and its biases


def raw_positions(width: int, vocab: int, context: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens) + m.position[: tokens.shape[1]]
        return m.head(F.gelu(m.a(x)))

    return Net(run, **ends(width, vocab), position=drawn(context, width), a=linear(width, width))


def fused_qkv(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q, k, v = m.qkv(m.norm(x)).chunk(3, -1)
        x = x + m.out(attend(q, k, v, HEAD))
        return m.head(x)

    return Net(
        run,
        **ends(width, vocab),
        norm=nn.RMSNorm(width),
        qkv=nn.Linear(width, 3 * width),
        out=nn.Linear(width, width),
    )


def few_kv_heads(width: int, vocab: int) -> nn.Module:
    """Two heads of keys and values at every width, and gains of queries and keys."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q = m.query_norm(m.query(x).unflatten(-1, (-1, HEAD))).flatten(2)
        return m.head(x + m.out(attend(q, m.key(x), m.value(x), HEAD)))

    return Net(
        run,
        **ends(width, vocab),
        query=linear(width, width),
        key=nn.Linear(width, 2 * HEAD),
        value=linear(width, 2 * HEAD),
        query_norm=nn.RMSNorm(HEAD),
        out=linear(width, width),
    )


def gains_of_heads(width: int, vocab: int) -> nn.Module:
    """A gain for each value of each head, and a sink for each head."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q, k, v = m.qkv(x).unflatten(-1, (3, -1, HEAD)).unbind(2)
        scores = torch.einsum("bshd,bthd->bhst", q * m.gain, k) / HEAD
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~mask, -1e9)
        sinks = m.sinks[None, :, None, None].expand(*scores.shape[:3], 1)
        shares = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        return m.head(x + m.out(torch.einsum("bhst,bthd->bshd", shares, v).flatten(2)))

    return Net(
        run,
        **ends(width, vocab),
        qkv=linear(width, 3 * width),
        gain=nn.Parameter(torch.ones(width // HEAD, HEAD)),
        sinks=nn.Parameter(torch.randn(width // HEAD)),
        out=linear(width, width),
    )


def _attention_parts(width: int, vocab: int) -> dict[str, nn.Module]:
    names = ("query", "key", "value", "out")
    return {**ends(width, vocab), **{name: linear(width, width) for name in names}}


def relative_biases(width: int, vocab: int, context: int) -> nn.Module:
    """A table of biases by distance and head; the number of heads grows."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        places = torch.arange(x.shape[1])
        bias = m.table[places[:, None] - places + context - 1].permute(2, 0, 1)
        mixed = scores_attend(m.query(x), m.key(x), m.value(x), HEAD, bias)
        return m.head(x + m.out(mixed))

    table = nn.Parameter(0.02 * torch.randn(2 * context - 1, width // HEAD))
    return Net(run, **_attention_parts(width, vocab), table=table)


def slopes_of_heads(width: int, vocab: int) -> nn.Module:
    """ALiBi with slopes that are trained."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        places = torch.arange(x.shape[1])
        bias = -m.slopes.exp()[:, None, None] * (places[:, None] - places)
        mixed = scores_attend(m.query(x), m.key(x), m.value(x), HEAD, bias)
        return m.head(x + m.out(mixed))

    slopes = nn.Parameter(-torch.arange(1.0, width // HEAD + 1))
    return Net(run, **_attention_parts(width, vocab), slopes=slopes)


def heads_that_grow(width: int, vocab: int) -> nn.Module:
    """Two heads at every width, a slope for each, and scores divided by the size of a head."""

    def run(m: Any, tokens: Tensor) -> Any:
        x, size = m.embed(tokens), width // 2
        q = m.query(x) * size**-0.5
        places = torch.arange(x.shape[1])
        bias = m.slopes[:, None, None] * (places[:, None] - places)
        mixed = scores_attend(q, m.key(x), m.value(x), size, bias)
        return m.head(x + m.out(mixed))

    return Net(run, **_attention_parts(width, vocab), slopes=nn.Parameter(torch.zeros(2)))


def torchs_attention(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return m.head(x + m.attention(x, x, x, attn_mask=mask, need_weights=False)[0])

    attention = nn.MultiheadAttention(width, width // HEAD, batch_first=True)
    return Net(run, **ends(width, vocab), attention=attention)


def torchs_block(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return m.head(m.block(m.embed(tokens), src_mask=mask))

    block = nn.TransformerEncoderLayer(width, width // HEAD, 2 * width, 0.0, batch_first=True)
    return Net(run, **ends(width, vocab), block=block)


# factors of the model's own code


def scaled_embedding(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.embed(tokens) * width**0.5)))

    return Net(run, **ends(width, vocab), a=linear(width, width))


def scaled_logits(width: int, vocab: int, base: int = 16) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.embed(tokens)))) * (base / width)

    return Net(run, **ends(width, vocab), a=linear(width, width))
