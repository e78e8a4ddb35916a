"""The zoo's convolutions, recurrences, state spaces, images and sets; `own_zoo` has the rest.

Images are made of 16 tokens: 4 x 4 values.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tests.proxies.own_zoo import (
    BOTTLENECK,
    HEAD,
    STATE,
    LossNet,
    Net,
    cross_entropy,
    drawn,
    ends,
    linear,
)

CLASSES, PIXELS = 5, 4


def image_of(tokens: Tensor) -> Tensor:
    """[B, 16] tokens as images [B, 1, 4, 4]."""
    return tokens.float().unflatten(-1, (1, PIXELS, PIXELS)) / 16 - 1


def class_loss(logits_BC: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits_BC, targets[:, 0] % CLASSES)


# convolutions over tokens


def conv_stem(width: int, vocab: int) -> nn.Module:
    """A stem over one-hot tokens, a depthwise convolution, a grouped one, and norms."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.stem(F.pad(F.one_hot(tokens, vocab).float().mT, (2, 0)))
        x = x + m.depthwise(F.pad(m.norm(x), (2, 0)))
        x = x + m.mix(F.gelu(m.grouped(x)))
        return m.head(x).mT

    return Net(
        run,
        stem=nn.Conv1d(vocab, width, 3),
        norm=nn.GroupNorm(2, width),
        depthwise=nn.Conv1d(width, width, 3, groups=width),
        grouped=nn.Conv1d(width, 2 * width, 1, groups=2, bias=False),
        mix=nn.Conv1d(2 * width, width, 1),
        head=nn.Conv1d(width, vocab, 1),
    )


def growing_groups(width: int, vocab: int) -> nn.Module:
    """Groups of four channels: their number grows, what each sums over does not."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        return m.head(x + m.mix(F.pad(x.mT, (2, 0))).mT)

    mix = nn.Conv1d(width, width, 3, groups=width // HEAD, bias=False)
    return Net(run, **ends(width, vocab), mix=mix)


def u_net(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens).mT
        low = F.gelu(m.down(F.gelu(x)))
        up = m.up(m.bottom(low))
        return m.head(F.gelu(m.join(torch.cat([x, up], 1)))).mT

    return Net(
        run,
        embed=nn.Embedding(vocab, width),
        down=nn.Conv1d(width, 2 * width, 2, stride=2),
        bottom=nn.Conv1d(2 * width, 2 * width, 3, padding=1),
        up=nn.ConvTranspose1d(2 * width, width, 2, stride=2),
        join=nn.Conv1d(2 * width, width, 3, padding=1),
        head=nn.Conv1d(width, vocab, 1),
    )


def long_filter(width: int, vocab: int, context: int) -> nn.Module:
    """A filter over the whole context for each channel, by Fourier transforms."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.norm(m.embed(tokens))
        size = 2 * context
        spectrum = torch.fft.rfft(x, n=size, dim=1) * torch.fft.rfft(m.filter.T, n=size, dim=0)
        mixed = torch.fft.irfft(spectrum, n=size, dim=1)[:, : x.shape[1]]
        return m.head(m.a(x) * mixed)

    return Net(
        run,
        **ends(width, vocab),
        norm=nn.LayerNorm(width),
        filter=drawn(width, context, fan_in=context),
        a=linear(width, width),
    )


def mixer(width: int, vocab: int, context: int) -> nn.Module:
    """Mixes positions by matrices whose inner size is fixed, and then by ones whose grows."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        x = x + m.fixed(x.mT).mT
        x = x + m.narrow(F.gelu(m.widen(x.mT))).mT
        return m.head(x + m.channels(x))

    return Net(
        run,
        **ends(width, vocab),
        fixed=linear(context, context),
        widen=linear(context, 2 * width),
        narrow=linear(2 * width, context),
        channels=nn.Linear(width, width),
    )


# reparametrised weights


def weight_norm(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.embed(tokens))))

    return Net(run, **ends(width, vocab), a=parametrizations.weight_norm(nn.Linear(width, width)))


class UnitRows(nn.Module):
    """Rows of length 1."""

    def forward(self, weight: Tensor) -> Tensor:
        return F.normalize(weight, dim=1)


def unit_rows(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(m.gain * m.a(m.embed(tokens)))

    a = linear(width, width)
    parametrize.register_parametrization(a, "weight", UnitRows())
    return Net(run, **ends(width, vocab), a=a, gain=nn.Parameter(torch.ones(width)))


def spectral_norm(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(F.gelu(m.a(m.embed(tokens))))

    model = Net(run, **ends(width, vocab), a=parametrizations.spectral_norm(linear(width, width)))
    return model.eval()  # in training it changes its vectors in place


# recurrences and state spaces


def gru(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(m.rnn(m.embed(tokens))[0])

    return Net(run, **ends(width, vocab), rnn=nn.GRU(width, width, batch_first=True))


def lstm_of_small_inputs(width: int, vocab: int) -> nn.Module:
    """Tokens of a fixed size, a recurrence that grows, and two layers of it."""

    def run(m: Any, tokens: Tensor) -> Any:
        return m.head(m.rnn(m.small(tokens))[0])

    return Net(
        run,
        small=nn.Embedding(vocab, BOTTLENECK),
        rnn=nn.LSTM(BOTTLENECK, width, 2, batch_first=True),
        head=linear(width, vocab),
    )


def gru_cell(width: int, vocab: int) -> nn.Module:
    """A recurrence written out, with a first state that is trained."""

    def run(m: Any, tokens: Tensor) -> Any:
        x, states = m.embed(tokens), []
        state = m.start.expand(len(tokens), -1)
        for position in range(x.shape[1]):
            state = m.cell(x[:, position], state)
            states.append(state)
        return m.head(torch.stack(states, 1))

    return Net(run, **ends(width, vocab), cell=nn.GRUCell(width, width), start=drawn(width))


def mamba(width: int, vocab: int) -> nn.Module:
    """A selective state space with time steps of a rank that grows."""
    inner, rank = 2 * width, width // 4

    def run(m: Any, tokens: Tensor) -> Any:
        x, gate = m.inward(m.norm(m.embed(tokens))).chunk(2, -1)
        x = F.silu(m.conv(F.pad(x.mT, (3, 0))).mT)
        step, B, C = m.select(x).split([rank, STATE, STATE], -1)
        step = F.softplus(m.step(step))
        decay = torch.exp(step[..., None] * -m.A_log.exp())
        state, found = torch.zeros_like(decay[:, 0]), []
        for position in range(x.shape[1]):
            added = (step * x)[:, position, :, None] * B[:, position, None]
            state = decay[:, position] * state + added
            found.append((state * C[:, position, None]).sum(-1))
        y = torch.stack(found, 1) + m.D * x
        return m.head(m.out(y * F.silu(gate)))

    A_log = torch.arange(1.0, STATE + 1).log().repeat(inner, 1)
    return Net(
        run,
        **ends(width, vocab),
        norm=nn.RMSNorm(width),
        inward=linear(width, 2 * inner),
        conv=nn.Conv1d(inner, inner, 4, groups=inner),
        select=linear(inner, rank + 2 * STATE),
        step=nn.Linear(rank, inner),
        A_log=nn.Parameter(A_log),
        D=nn.Parameter(torch.ones(inner)),
        out=linear(inner, width),
    )


def decaying_sum(width: int, vocab: int) -> nn.Module:
    """A decay for each channel, mixed with the token before, as in RWKV."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        x = x + m.mix * (before - x)
        value, decay = m.value(x), torch.sigmoid(m.decay)
        state, found = torch.zeros_like(x[:, 0]), []
        for position in range(x.shape[1]):
            state = decay * state + value[:, position]
            found.append(state)
        return m.head(torch.sigmoid(m.gate(x)) * torch.stack(found, 1))

    return Net(
        run,
        **ends(width, vocab),
        mix=nn.Parameter(torch.linspace(0, 1, width).view(1, 1, width)),
        decay=nn.Parameter(torch.linspace(-2, 2, width)),
        value=linear(width, width),
        gate=linear(width, width),
    )


# images


def conv_classifier(width: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.relu(m.norm(m.stem(image_of(tokens))))
        x = F.relu(m.body(x) + m.shortcut(x))
        return class_loss(m.head(x.mean((2, 3))), targets)

    return LossNet(
        run,
        stem=nn.Conv2d(1, width, 3, padding=1, bias=False),
        norm=nn.GroupNorm(4, width),
        body=nn.Conv2d(width, 2 * width, 3, padding=1),
        shortcut=nn.Conv2d(width, 2 * width, 1, bias=False),
        head=nn.Linear(2 * width, CLASSES),
    )


def flattened_image(width: int) -> nn.Module:
    """A classifier that sees all places of all channels."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.relu(m.body(F.relu(m.stem(image_of(tokens)))))
        return class_loss(m.head(x.flatten(1)), targets)

    return LossNet(
        run,
        stem=nn.Conv2d(1, width, 3, padding=1),
        body=nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
        head=nn.Linear(4 * width, CLASSES),
    )


def vision_transformer(width: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = m.patch(image_of(tokens)).flatten(2).mT
        x = torch.cat([m.class_token.expand(len(x), -1, -1), x], 1) + m.position
        return class_loss(m.head(m.norm(m.block(x))[:, 0]), targets)

    block = nn.TransformerEncoderLayer(
        width, width // HEAD, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
    )
    return LossNet(
        run,
        patch=nn.Conv2d(1, width, 2, stride=2),
        class_token=nn.Parameter(torch.zeros(1, 1, width)),
        position=nn.Parameter(0.02 * torch.randn(1, 5, width)),
        block=block,
        norm=nn.LayerNorm(width),
        head=nn.Linear(width, CLASSES),
    )


def pooled_classifier(width: int, vocab: int) -> nn.Module:
    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.gelu(m.a(m.embed(tokens)))
        return class_loss(m.head(x.mean(1)), targets)

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        a=nn.Linear(width, width),
        head=nn.Linear(width, CLASSES),
    )


def sub_pixels(width: int) -> nn.Module:
    """Twice the resolution, from channels."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = F.gelu(m.encode(image_of(tokens)))
        x = F.gelu(F.pixel_shuffle(m.widen(x), 2))
        return (m.decode(x) - F.interpolate(image_of(targets), scale_factor=2)).square().mean()

    return LossNet(
        run,
        encode=nn.Conv2d(1, width, 3, padding=1),
        widen=nn.Conv2d(width, 4 * width, 1),
        decode=nn.Conv2d(width, 1, 3, padding=1),
    )


def auto_encoder(width: int) -> nn.Module:
    """Down to a code of fixed size, and up by transposed convolutions."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        image = image_of(tokens)
        code = m.code(F.gelu(m.down(image)).flatten(1))
        x = F.gelu(m.decode(code)).unflatten(1, (-1, 2, 2))
        return (m.up(x) - image).square().mean()

    return LossNet(
        run,
        down=nn.Conv2d(1, width, 2, stride=2),
        code=nn.Linear(4 * width, BOTTLENECK),
        decode=nn.Linear(BOTTLENECK, 4 * width),
        up=nn.ConvTranspose2d(width, 1, 2, stride=2),
    )


def diffusion_transformer(width: int) -> nn.Module:
    """One block of a DiT, with norms that time and class steer."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        image, noise = image_of(tokens), image_of(targets)
        time = tokens[:, :1].float() / 32
        waves = torch.cat([(time * 2.0**k).sin() for k in range(4)], -1)
        given = F.silu(m.time_out(F.silu(m.time_in(waves))) + m.label(targets[:, 0] % CLASSES))
        x = m.patch((1 - time[..., None, None]) * image + time[..., None, None] * noise)
        x = x.flatten(2).mT
        shift, scale, gate = m.steer(given)[:, None].chunk(3, -1)
        x = x + gate * m.down(F.gelu(m.up(m.norm(x) * (1 + scale) + shift)))
        last_shift, last_scale = m.last_steer(given)[:, None].chunk(2, -1)
        out = m.out(m.norm(x) * (1 + last_scale) + last_shift)
        wanted = F.unfold(noise - image, 2, stride=2).mT
        return (out - wanted).square().mean()

    return LossNet(
        run,
        patch=nn.Conv2d(1, width, 2, stride=2),
        time_in=nn.Linear(4, width),
        time_out=nn.Linear(width, width),
        label=nn.Embedding(CLASSES, width),
        norm=nn.LayerNorm(width, elementwise_affine=False),
        steer=nn.Linear(width, 3 * width),
        up=nn.Linear(width, 4 * width),
        down=nn.Linear(4 * width, width),
        last_steer=nn.Linear(width, 2 * width),
        out=nn.Linear(width, 4),
    )


# sets, queries and features


def perceiver(width: int, vocab: int) -> nn.Module:
    """A fixed number of latents reads the tokens."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = m.embed(tokens)
        latents = m.latents.expand(len(x), -1, -1)
        latents = latents + m.read(latents, x, x, need_weights=False)[0]
        latents = latents + m.think(m.norm(latents))
        return class_loss(m.head(latents.mean(1)), targets)

    return LossNet(
        run,
        embed=nn.Embedding(vocab, width),
        latents=drawn(3, width),
        read=nn.MultiheadAttention(width, width // HEAD, bias=False, batch_first=True),
        norm=nn.LayerNorm(width),
        think=linear(width, width),
        head=linear(width, CLASSES),
    )


def queries_of_places(width: int, vocab: int, context: int) -> nn.Module:
    """A query for each place, in an embedding, looks up what it needs."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.embed(tokens)
        queries = m.query(m.places.weight).expand(len(x), -1, -1)
        mask = torch.ones(x.shape[1], x.shape[1]).tril().bool()
        found = F.scaled_dot_product_attention(queries, m.key(x), x, mask)
        return m.head(found)

    return Net(
        run,
        **ends(width, vocab),
        places=nn.Embedding(context, width),
        query=linear(width, width),
        key=linear(width, width),
    )


def hashed_features(width: int, vocab: int) -> nn.Module:
    """Two small tables for each token, one multiplied with the other, and a bag of its class."""

    def run(m: Any, tokens: Tensor) -> Any:
        x = m.quotient(tokens // 8) * m.rest(tokens % 8)
        pairs = torch.stack([tokens % 5, tokens % 7], -1)
        x = x + m.bag(pairs.flatten(0, 1)).unflatten(0, tokens.shape)
        return m.head(F.gelu(m.a(x)))

    return Net(
        run,
        quotient=nn.Embedding(vocab // 8, width),
        rest=nn.Embedding(8, width),
        bag=nn.EmbeddingBag(7, width),
        a=linear(width, width),
        head=linear(width, vocab),
    )


def features_beside_tokens(width: int, vocab: int, context: int) -> nn.Module:
    """Two features of a place lie beside the token's values, so that a fan-in is width + 2."""

    def run(m: Any, tokens: Tensor) -> Any:
        angle = torch.arange(tokens.shape[1]) / context
        place = torch.stack([angle.sin(), angle.cos()], -1).expand(len(tokens), -1, -1)
        return m.head(F.gelu(m.a(torch.cat([m.embed(tokens), place], -1))))

    return Net(run, **ends(width, vocab), a=linear(width + 2, width))


def encoder_decoder(width: int, vocab: int) -> nn.Module:
    """The decoder attends to the encoder; both share one embedding."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        source = m.encode(m.embed(tokens))
        x = m.embed(F.pad(targets, (1, 0))[:, :-1])
        x = x + m.cross(x, source, source, need_weights=False)[0]
        return cross_entropy(m.head(x), targets)

    return LossNet(
        run,
        **ends(width, vocab),
        encode=nn.Sequential(nn.LayerNorm(width), linear(width, width), nn.GELU()),
        cross=nn.MultiheadAttention(
            width, width // HEAD, bias=False, kdim=width, vdim=width, batch_first=True
        ),
    )


def regression(width: int) -> nn.Module:
    """Numbers to a number, through a net that is normalised after each layer."""

    def run(m: Any, tokens: Tensor, targets: Tensor) -> Any:
        x = m.body(tokens.float() / 16 - 1)
        return (m.head(x).squeeze(-1) - targets.float().mean(-1) / 16).square().mean()

    body = nn.Sequential(
        nn.Linear(PIXELS**2, width),
        nn.LayerNorm(width),
        nn.GELU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.GELU(),
    )
    return LossNet(run, body=body, head=nn.Linear(width, 1))
