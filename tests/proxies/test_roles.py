"""Roles from how a forward pass uses the parameters, on models small enough to check by eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.comparing import Watch
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.inits import read_inits
from mutransfer_cli.proxies.observations import Trace, Use
from mutransfer_cli.proxies.reading import Note, read_weights, silent
from mutransfer_cli.proxies.roles import base_plan, by_use
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import BaseParameter
from tests.proxies.own_models import logits_by_hand, sequential, tied_moe, token_mlp, untied_moe
from tests.proxies.test_reading import net

VOCAB = 11
Build = Callable[[int], nn.Module]


def planned(
    build: Build, note: Note = silent, roles: dict[str, Role] | None = None
) -> dict[str, BaseParameter]:
    base, wide = build(16), build(32)
    watch = Watch.of(base, wide, Example.of_tokens(8, VOCAB))
    weights, inits = read_weights(base, wide), read_inits(base)
    return {p.name: p for p in base_plan(weights, watch.trace, None, inits, roles or {}, note)}


class Gated(nn.Module):
    """A gate of one value per token, heads beside the main one, and a sum over pairs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.gate, self.inner = nn.Linear(width, 1), nn.Linear(width, width)
        self.scale, self.pair = nn.Linear(1, width), nn.Bilinear(width, width, width)
        self.mix = nn.Parameter(torch.randn(3, width, width))
        self.table = nn.Parameter(torch.randn(1, 8, width))
        self.decay = nn.Parameter(torch.rand(width, 4))
        self.head, self.other = nn.Linear(width, VOCAB), nn.Linear(width, VOCAB, bias=False)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embed(tokens) + self.table[:, : tokens.shape[1]]
        x = x + torch.sigmoid(self.gate(x)) * self.inner(x) + self.scale(x[..., :1].detach())
        x = x + torch.einsum("bsd,edf->bsf", x, self.mix) * self.decay.exp().mean(1)
        x = x + self.pair(x, x)
        main, aside = (F.cross_entropy(h(x).mT, targets) for h in (self.head, self.other))
        return main + 0.1 * aside


def test_roles_follow_from_use() -> None:
    found = planned(Gated)
    assert {name: (p.role, p.fan_in_axis) for name, p in found.items()} == {
        "mix": ("hidden", 1),
        "table": ("embedding", 1),
        "decay": ("vector", None),
        "embed.weight": ("embedding", 0),
        "gate.weight": ("hidden", 1),
        "gate.bias": ("scalar", None),
        "inner.weight": ("hidden", 1),
        "inner.bias": ("vector", None),
        "scale.weight": ("vector", None),
        "scale.bias": ("vector", None),
        "pair.weight": ("hidden", 1),
        "pair.bias": ("vector", None),
        "head.weight": ("readout", 1),
        "head.bias": ("scalar", None),
        "other.weight": ("readout", 1),
    }
    assert found["pair.weight"].further_fan_in_axes == (2,)
    assert {name for name, p in found.items() if p.keeps_draw} >= {"decay", "inner.bias"}
    assert not found["embed.weight"].keeps_draw


class Bottleneck(nn.Module):
    """Fixed sizes inside: down to four values, up again; experts that few tokens reach."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.down = nn.Linear(width, 4, bias=False)
        self.up = nn.Linear(4, width, bias=False)
        self.router = nn.Parameter(torch.randn(3, width))
        self.experts = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.head = nn.Linear(width, VOCAB, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.up(torch.relu(self.down(x)))
        x = x + self.experts[0](x) * F.linear(x, self.router).softmax(-1)[..., :1]
        logits: Tensor = self.head(x)
        return logits


def test_a_matrix_of_fixed_fan_in_lies_inside_unless_it_reads_the_data() -> None:
    notes: list[str] = []
    found = planned(Bottleneck, notes.append)
    roles = {name: (p.role, p.in_block) for name, p in found.items()}
    assert roles["embed.weight"] == ("embedding", False)
    assert roles["down.weight"] == ("hidden", False)
    assert roles["up.weight"] == ("embedding", True)
    assert roles["router"] == ("hidden", False), "it reaches the loss through the head"
    assert roles["experts.2.weight"] == ("hidden", False)
    assert notes == [
        "fan-ins that stay fixed: up.weight 4; such matrices have the rates of embeddings and the "
        "weight decay of hidden matrices",
        "not used in the forward pass, so that roles are guessed: experts.1.weight hidden as in "
        "other blocks, experts.2.weight hidden as in other blocks",
    ]


@pytest.mark.parametrize("build", [tied_moe, logits_by_hand])
def test_a_tied_weight_is_an_embedding_that_is_the_readout(build: Callable[..., nn.Module]) -> None:
    extra = {"context": 8} if build is tied_moe else {}
    found = planned(lambda width: build(width, VOCAB, **extra))
    assert [name for name, p in found.items() if p.is_tied_readout] in (
        ["token.weight"],
        ["embed.weight"],
    )
    assert all(p.role == "embedding" for p in found.values() if p.is_tied_readout)
    assert all(p.role != "readout" for p in found.values())


def test_experts_routers_and_raw_tables_need_no_patterns() -> None:
    found = planned(lambda width: untied_moe(width, VOCAB, 8))
    roles = {name: p.role for name, p in found.items()}
    assert roles["experts.0.router.weight"] == "hidden"
    assert roles["experts.1.up"] == roles["experts.1.down"] == "hidden"
    assert (found["experts.1.up"].fan_in_axis, found["experts.1.down"].fan_in_axis) == (1, 1)
    assert roles["position"] == "embedding"
    assert roles["head.weight"] == "readout"
    assert roles["attention.0.query_gain"] == "scalar"


def test_a_weight_that_is_embedding_and_hidden_is_refused_unless_declared() -> None:
    class Odd(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCAB, width)
            self.back = nn.Linear(VOCAB, width, bias=False)
            self.head = nn.Linear(width, VOCAB, bias=False)

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embed(tokens)
            logits: Tensor = self.head(x + self.back(x @ self.embed.weight.T))
            return logits

    with pytest.raises(InputError, match=r"embed\.weight: 11 x 16 at the base width and 11 x 32"):
        planned(Odd)
    assert planned(Odd, roles={"embed.*": "embedding"})["embed.weight"].role == "embedding"


def test_declared_roles_replace_those_found_and_are_said() -> None:
    notes: list[str] = []
    found = planned(lambda width: token_mlp(width, VOCAB), notes.append, {"up.weight": "embedding"})
    assert (found["up.weight"].role, found["up.weight"].fan_in_axis) == ("embedding", 1)
    assert notes[0] == "up.weight: embedding, as model.roles says"


def test_without_a_pass_the_types_of_modules_tell() -> None:
    base = net(4)
    weights = read_weights(base, net(8))
    plan = base_plan(weights, None, "head.weight", read_inits(base), {})
    assert {p.name: (p.role, p.growing_axes, p.fan_in_axis) for p in plan} == {
        "embed.weight": ("embedding", (1,), 0),
        "up.weight": ("hidden", (0, 1), 1),
        "up.bias": ("vector", (0,), None),
        "head.weight": ("readout", (1,), 1),
    }


@pytest.mark.parametrize(
    ("uses", "role"),
    [
        ([Use("product", (1,), (0, 1))], "readout"),
        ([Use("lookup", (0,), (0, 1))], "embedding"),
        ([Use("elementwise", (), (1,))], "vector"),
    ],
)
def test_a_use_decides_the_role(uses: Sequence[Use], role: Role) -> None:
    base, wide = sequential(4, 7), sequential(8, 7)
    names = next(names for names in read_weights(base, wide) if names[0].shape == (7, 4))
    trace = Trace(outer=frozenset({names[0].name}))
    assert by_use(names[0], uses, trace).role == role
