"""The zoo's models whose code is harder to follow: constants that depend on width, memory that is
written in place, weights of unusual shapes, and parts that are frozen.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.proxies.own_zoo import (
    BOTTLENECK,
    EXPERTS,
    HEAD,
    STATE,
    LossNet,
    Net,
    attend,
    cross_entropy,
    drawn,
    ends,
    linear,
    scores_attend,
)
from tests.proxies.own_zoo_shapes import CLASSES, class_loss, image_of


def waves(places: Tensor, size: int) -> Tensor:
    """Sines and cosines of `places` [...], in turn, as [..., size]."""
    frequencies = 10_000.0 ** (-torch.arange(0, size, 2) / size)
    angles = places[..., None].float() * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


# constants that depend on width


def sinusoidal_positions(width: int, vocab: int, context: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens) + m.positions
        return m.head(x + m.down(F.relu(m.up(x))))

    model = Net(
        run, **ends(width, vocab), up=linear(width, 4 * width), down=linear(4 * width, width)
    )
    model.register_buffer("positions", waves(torch.arange(context), width))
    return model


def embedded_times(width: int) -> nn.Module:
    """A denoiser whose time becomes as many waves as the model is wide."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        image, time = image_of(tokens), tokens[:, 0].float()
        x = m.inward(image) + m.time(waves(time, width))[..., None, None]
        return (m.outward(F.silu(m.body(F.silu(x)))) - image_of(targets)).square().mean()

    return LossNet(
        run,
        inward=nn.Conv2d(1, width, 3, padding=1, bias=False),
        time=nn.Sequential(linear(width, width), nn.SiLU(), linear(width, width)),
        body=nn.Conv2d(width, width, 3, padding=1, bias=False),
        outward=nn.Conv2d(width, 1, 3, padding=1, bias=False),
    )


def random_features(width: int) -> nn.Module:
    """Numbers become random waves that are not trained."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        angles = tokens.float() / 32 @ m.frequencies
        x = torch.cat([angles.cos(), angles.sin()], -1)
        return class_loss(m.head(F.relu(m.a(x))), targets)

    model = LossNet(run, a=nn.Linear(2 * width, width), head=linear(width, CLASSES))
    model.register_buffer("frequencies", torch.randn(16, width))
    return model


def rotary(width: int, vocab: int) -> nn.Module:
    """Two heads at every width, of rotated queries and keys."""

    def run(m: Any, tokens: Tensor) -> Any:
        x, size = m.embed(tokens), width // 2
        angles = torch.arange(x.shape[1])[:, None] * 100.0 ** (
            -torch.arange(size // 2) / (size // 2)
        )
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]

        def rotated(of: Tensor) -> Tensor:
            left, right = of.unflatten(-1, (2, size)).chunk(2, -1)
            return torch.cat([left * cos - right * sin, right * cos + left * sin], -1).flatten(2)

        mixed = scores_attend(rotated(m.query(x)), rotated(m.key(x)), m.value(x), size, None)
        return m.head(x + m.out(mixed))

    names = ("query", "key", "value", "out")
    return Net(run, **ends(width, vocab), **{name: linear(width, width) for name in names})


def retention(width: int, vocab: int) -> nn.Module:
    """Heads forget at rates of their own, which are fixed."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q, k, v = m.qkv(x).unflatten(-1, (3, -1, HEAD)).unbind(2)
        places = torch.arange(x.shape[1])
        distance = places[:, None] - places
        decay = torch.where(distance >= 0, m.rates[:, None, None] ** distance.clamp(min=0), 0)
        scores = torch.einsum("bshd,bthd->bhst", q, k) * HEAD**-0.5 * decay
        mixed = torch.einsum("bhst,bthd->bshd", scores, v).flatten(2)
        return m.head(x + m.out(F.silu(m.gate(x)) * m.norm(mixed)))

    model = Net(
        run,
        **ends(width, vocab),
        qkv=linear(width, 3 * width),
        gate=linear(width, width),
        norm=nn.LayerNorm(width, elementwise_affine=False),
        out=linear(width, width),
    )
    heads = width // HEAD
    model.register_buffer("rates", 1 - 2.0 ** (-1 - 6 * torch.arange(heads) / heads))
    return model


# memory that is written in place, and recomputed


def in_place(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = F.layer_norm(m.embed(tokens), (width,))
        for layer in m.layers:
            x = x + F.relu(layer(x), inplace=True)
            x += m.shift
        out = torch.empty(*tokens.shape, vocab)
        out[:, :] = m.head(x)
        return out

    return Net(
        run,
        **ends(width, vocab),
        layers=nn.ModuleList(linear(width, width) for _ in range(2)),
        shift=nn.Parameter(torch.zeros(width)),
    )


def checkpointed(width: int, vocab: int) -> nn.Module:
    from torch.utils.checkpoint import checkpoint

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        x = x + checkpoint(lambda x: m.down(F.gelu(m.up(x))), x, use_reentrant=False)
        return m.head(x)

    return Net(
        run, **ends(width, vocab), up=linear(width, 4 * width), down=linear(4 * width, width)
    )


def experts_by_dispatch(width: int, vocab: int) -> nn.Module:
    """Tokens are collected for each expert and added back."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        flat = x.flatten(0, 1)
        shares, chosen = m.router(flat).softmax(-1).topk(2, -1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(m.experts):
            rows, place = torch.where(chosen == number)
            if len(rows):
                out.index_add_(0, rows, expert(flat[rows]) * shares[rows, place, None])
        return m.head(x + out.view_as(x))

    experts = [nn.Sequential(linear(width, width), nn.SiLU()) for _ in range(EXPERTS)]
    return Net(
        run,
        **ends(width, vocab),
        router=linear(width, EXPERTS),
        experts=nn.ModuleList(experts),
    )


# weights of unusual shapes


def transposed_layers(width: int, vocab: int) -> nn.Module:
    """Weights [inputs, outputs], as in GPT-2's first code."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        inner = torch.addmm(m.up_bias, x.flatten(0, 1), m.up)
        return m.head(x + (F.gelu(inner) @ m.down).view_as(x))

    return Net(
        run,
        **ends(width, vocab),
        up=drawn(width, 4 * width, fan_in=width),
        up_bias=nn.Parameter(torch.zeros(4 * width)),
        down=drawn(4 * width, width, fan_in=4 * width),
    )


def matrices_of_heads(width: int, vocab: int) -> nn.Module:
    """Weights [heads, width, head size], and back."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q, k, v = (torch.einsum("bsn,hnd->bshd", x, w).flatten(2) for w in (m.q, m.k, m.v))
        mixed = attend(q, k, v, HEAD).unflatten(-1, (-1, HEAD))
        return m.head(x + torch.einsum("bshd,hdn->bsn", mixed, m.o))

    heads = width // HEAD
    inward = {name: drawn(heads, width, HEAD, fan_in=width) for name in "qkv"}
    return Net(run, **ends(width, vocab), **inward, o=drawn(heads, HEAD, width, fan_in=width))


def splines(width: int, vocab: int) -> nn.Module:
    """A Kolmogorov-Arnold layer: weights [inputs, basis, outputs]."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        basis = torch.exp(-((x[..., None] - torch.linspace(-1, 1, STATE)) ** 2))
        return m.head(torch.einsum("bsig,igo->bso", basis, m.weights))

    return Net(run, **ends(width, vocab), weights=drawn(width, STATE, width, fan_in=STATE * width))


def pooling_query(width: int, vocab: int) -> nn.Module:
    """A product with one row makes the shares in which tokens are pooled."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = m.a(m.embed(tokens))
        shares = (torch.tanh(x) @ m.query).softmax(-1)
        return class_loss(m.head(torch.einsum("bs,bsn->bn", shares, x)), targets)

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        a=linear(width, width),
        query=drawn(width, fan_in=width),
        head=linear(width, CLASSES),
    )


def bidirectional(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        return cross_entropy(m.head(m.rnn(m.embed(tokens))[0]), targets)

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        rnn=nn.LSTM(width, width, bias=False, batch_first=True, bidirectional=True),
        head=linear(2 * width, vocab),
    )


def mamba_of_heads(width: int, vocab: int) -> nn.Module:
    """Sizes that grow with an offset: one projection makes gate, values, states and time steps."""
    heads = width // HEAD

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        gate, values, step = m.inward(x).split([width, width + 2 * STATE, heads], -1)
        values = F.silu(m.conv(F.pad(values.mT, (2, 0))).mT)
        values, B, C = values.split([width, STATE, STATE], -1)
        values = values.unflatten(-1, (heads, HEAD))
        step = F.softplus(step + m.step_bias)
        decay = torch.exp(-step * m.A_log.exp())
        state, found = torch.zeros(len(x), heads, HEAD, STATE), []
        for place in range(x.shape[1]):
            added = (step[..., None] * values)[:, place, :, :, None] * B[:, place, None, None]
            state = decay[:, place, :, None, None] * state + added
            found.append((state * C[:, place, None, None]).sum(-1))
        y = torch.stack(found, 1) + m.D[:, None] * values
        return m.head(x + m.out(m.norm(y.flatten(2) * F.silu(gate))))

    channels = width + 2 * STATE
    return Net(
        run,
        **ends(width, vocab),
        inward=linear(width, width + channels + heads),
        conv=nn.Conv1d(channels, channels, 3, groups=channels, bias=False),
        step_bias=nn.Parameter(torch.linspace(-3, 0, heads)),
        A_log=nn.Parameter(torch.linspace(1, 2, heads).log()),
        D=nn.Parameter(torch.ones(heads)),
        norm=nn.RMSNorm(width),
        out=linear(width, width),
    )


def speedrun(width: int, vocab: int) -> nn.Module:
    """Mixes with the first stream by trained numbers, and values from a table of their own."""

    def run(m: Any, tokens: Tensor) -> Any:
        first = x = F.rms_norm(m.embed(tokens), (width,))
        for number, layer in enumerate(m.layers):
            x = m.lambdas[number, 0] * x + m.lambdas[number, 1] * first
            q, k, v = layer(F.rms_norm(x, (width,))).chunk(3, -1)
            v = m.shares[0] * v + m.shares[1] * m.values(tokens)
            x = x + m.out(attend(q, k, v, HEAD))
        return 15 * torch.tanh(m.head(F.rms_norm(x, (width,))) / 15)

    return Net(
        run,
        **ends(width, vocab),
        values=nn.Embedding(vocab, width),
        layers=nn.ModuleList(linear(width, 3 * width) for _ in range(2)),
        out=linear(width, width),
        lambdas=nn.Parameter(torch.tensor([[1.0, 0.0], [1.0, 0.5]])),
        shares=nn.Parameter(torch.tensor([0.5, 0.5])),
    )


# outputs without a matrix, and norms of scores


def two_towers(width: int, vocab: int) -> nn.Module:
    """Scores of users and items are products of their features."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        user = F.normalize(m.of_user(F.relu(m.user(tokens[:, 0]))), dim=-1)
        item = F.normalize(m.of_item(F.relu(m.item(targets[:, 0]))), dim=-1)
        scores = user @ item.T * m.temperature.exp()
        return F.cross_entropy(scores, torch.arange(len(scores)))

    return LossNet(
        run,
        user=nn.Embedding(vocab, width),
        item=nn.Embedding(vocab, width),
        of_user=linear(width, width),
        of_item=linear(width, width),
        temperature=nn.Parameter(torch.ones(())),
    )


def cosine_attention(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q, k, v = m.qkv(x).unflatten(-1, (3, -1, HEAD)).transpose(1, 3).unbind(2)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * m.scale.exp()
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        mixed = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        return m.head(x + m.out(mixed.transpose(1, 2).flatten(2)))

    return Net(
        run,
        **ends(width, vocab),
        qkv=linear(width, 3 * width),
        scale=nn.Parameter(torch.ones(width // HEAD, 1, 1)),
        out=linear(width, width),
    )


# rows beside the tokens, and parts that are frozen


def registers(width: int, vocab: int) -> nn.Module:
    """Rows that stand before the tokens and are dropped in the end."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        x = torch.cat([m.rows.expand(len(x), -1, -1), x], 1)
        q, k, v = m.qkv(x).chunk(3, -1)
        x = x + m.out(attend(q, k, v, HEAD))
        return m.head(x[:, m.rows.shape[1] :])

    return Net(
        run,
        **ends(width, vocab),
        rows=nn.Parameter(0.02 * torch.randn(1, 3, width)),
        qkv=linear(width, 3 * width),
        out=linear(width, width),
    )


def soft_prompt(width: int, vocab: int) -> nn.Module:
    """Rows before the tokens are all that is trained."""
    model = registers(width, vocab)
    model.requires_grad_(False)
    model.get_parameter("rows").requires_grad_(True)
    return model


def only_biases(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        return m.head(x + m.down(F.gelu(m.up(m.norm(x)))))

    model = Net(
        run,
        **ends(width, vocab),
        norm=nn.LayerNorm(width),
        up=nn.Linear(width, 2 * width),
        down=nn.Linear(2 * width, width),
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return model


def batch_norm(width: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.relu(m.norm(m.stem(image_of(tokens))))
        return class_loss(m.head(m.squeeze(x).mean((2, 3))), targets)

    return LossNet(
        run,
        stem=nn.Conv2d(1, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width, track_running_stats=False),
        squeeze=nn.Conv2d(width, BOTTLENECK, 1, bias=False),
        head=nn.Linear(BOTTLENECK, CLASSES),
    )


def torchs_decoder(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        source, x = m.embed(tokens), m.embed(F.pad(targets, (1, 0))[:, :-1])
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return cross_entropy(m.head(m.block(x, source, tgt_mask=mask)), targets)

    block = nn.TransformerDecoderLayer(
        width, width // HEAD, 2 * width, 0.0, batch_first=True, norm_first=True, bias=False
    )
    return LossNet(run, **ends(width, vocab), block=block)


# factors of width beside the two ends


def scaled_stream(width: int, vocab: int) -> nn.Module:
    """The embedding is scaled, and read by a norm and by the residual stream."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens) * width**0.5
        x = x + m.down(F.gelu(m.up(m.norm(x))))
        return m.head(F.rms_norm(x, (width,)))

    return Net(
        run,
        **ends(width, vocab),
        norm=nn.RMSNorm(width),
        up=linear(width, 4 * width),
        down=linear(4 * width, width),
    )


def scaled_branch(width: int, vocab: int, base: int = 16) -> nn.Module:
    """The output of a block is divided by the square root of the width."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        x = x + m.down(F.gelu(m.up(x))) * (base / width) ** 0.5
        return m.head(x)

    return Net(
        run, **ends(width, vocab), up=linear(width, 4 * width), down=linear(4 * width, width)
    )


def scaled_tied_logits(width: int, vocab: int, base: int = 16) -> nn.Module:
    """mup's output multiplier for tied weights, in the model's own code."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        return F.linear(x + F.gelu(m.a(x)), m.embed.weight) * (base / width)

    return Net(run, embed=nn.Embedding(vocab, width), a=linear(width, width))


# weights made of other weights, and products written as sums


def merged_adapters(width: int, vocab: int) -> nn.Module:
    """A product of two trained matrices is added to a third, and then multiplied with."""

    def run(m: Any, tokens: Tensor) -> Any:
        weight = m.base.weight + m.up @ m.down
        return m.head(F.gelu(F.linear(m.embed(tokens), weight)))

    return Net(
        run,
        **ends(width, vocab),
        base=linear(width, width),
        down=drawn(BOTTLENECK, width, fan_in=width),
        up=drawn(width, BOTTLENECK),
    )


def kronecker(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.embed(tokens) @ torch.kron(m.fixed, m.growing)))

    return Net(
        run,
        **ends(width, vocab),
        fixed=drawn(HEAD, HEAD, fan_in=HEAD),
        growing=drawn(width // HEAD, width // HEAD, fan_in=width // HEAD),
    )


def there_and_back(width: int, vocab: int) -> nn.Module:
    """One matrix is multiplied with, and then its transpose."""

    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.embed(tokens) @ m.w) @ m.w.T)

    return Net(run, **ends(width, vocab), w=drawn(width, width, fan_in=width))


def mapped_experts(width: int, vocab: int) -> nn.Module:
    """A stack of matrices under the model's own vmap."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        each = torch.vmap(lambda weight: torch.tanh(x @ weight))(m.weights)
        return m.head(x + each.mean(0))

    return Net(run, **ends(width, vocab), weights=drawn(EXPERTS, width, width, fan_in=width))


def additive_attention(width: int, vocab: int) -> nn.Module:
    """Scores are sums over features times a row, as in graph attention."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = m.a(m.embed(tokens))
        shares = (torch.tanh(x) * m.row).sum(-1).softmax(-1)
        return class_loss(m.head((shares[..., None] * x).sum(1)), targets)

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        a=linear(width, width),
        row=drawn(width, fan_in=width),
        head=linear(width, CLASSES),
    )


def summed_readout(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = F.gelu(m.a(m.embed(tokens)))
        return (x[..., None] * m.out).sum(-2)

    return Net(
        run,
        embed=nn.Embedding(vocab, width),
        a=linear(width, width),
        out=drawn(width, vocab, fan_in=width),
    )


def blocks_of_four(width: int, vocab: int) -> nn.Module:
    """A block-diagonal matrix of blocks that do not grow, and one of four blocks that do."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        small = torch.einsum("bsgi,gij->bsgj", x.unflatten(-1, (-1, HEAD)), m.small)
        large = torch.einsum("bsgi,gij->bsgj", x.unflatten(-1, (HEAD, -1)), m.large)
        return m.head(x + small.flatten(2) + large.transpose(2, 3).flatten(2))

    size = width // HEAD
    return Net(
        run,
        **ends(width, vocab),
        small=drawn(size, HEAD, HEAD, fan_in=HEAD),
        large=drawn(HEAD, size, size, fan_in=size),
    )


def half_the_kv_heads(width: int, vocab: int) -> nn.Module:
    """Keys and values have half the heads, which torch's attention repeats."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        q, k, v = (w(x).unflatten(-1, (-1, HEAD)).transpose(1, 2) for w in (m.q, m.k, m.v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return m.head(x + m.out(mixed.transpose(1, 2).flatten(2)))

    return Net(
        run,
        **ends(width, vocab),
        q=linear(width, width),
        k=linear(width, width // 2),
        v=linear(width, width // 2),
        out=linear(width, width),
    )


def unused(width: int, vocab: int) -> nn.Module:
    """Layers that the forward pass does not call."""

    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.embed(tokens))))

    return Net(run, **ends(width, vocab), a=linear(width, width), spare=nn.Linear(width, width))
