"""The emitted file with a stand-in of nanochat's names; tests/trainers has nanochat itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.schedule import schedule_factors
from tests.recipe.formats.conftest import (
    EXPECTED,
    INIT,
    SCHEDULES,
    WIDTH,
    Document,
    executed,
    without_protocol,
    written,
)

USUAL = {"attention_scale": "1/sqrt(d_head)"}
LAMBDAS = ("resid_lambdas", "x0_lambdas", "smear_lambda", "backout_lambda")


class MuonAdamW(torch.optim.Optimizer):
    """Holds its groups, as nanochat's, which has no defaults."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, defaults={})


def linear(rows: int, columns: int) -> nn.Linear:
    return nn.Linear(columns, rows, bias=False)


def gpt(layers: int = 2, width: int = 8) -> Any:
    """A module with the names of nanochat's GPT."""
    model, blocks = nn.Module(), [nn.Module() for _ in range(layers)]
    for n, block in enumerate(blocks):
        names = ("c_q", "c_k", "c_v", "c_proj")
        attention = nn.ModuleDict({name: linear(width, width) for name in names})
        if n == 1:
            attention["ve_gate"] = linear(2, 12)
        block.attn = attention
        block.mlp = nn.ModuleDict(
            {"c_fc": linear(4 * width, width), "c_proj": linear(width, 4 * width)}
        )
    model.transformer = nn.ModuleDict({"wte": nn.Embedding(16, width), "h": nn.ModuleList(blocks)})
    model.value_embeds = nn.ModuleDict({"1": nn.Embedding(16, width)})
    model.lm_head, model.smear_gate = linear(16, width), linear(1, 24)
    for name in LAMBDAS:
        model.register_parameter(name, nn.Parameter(torch.ones(2)))
    return model


def own(model: nn.Module) -> MuonAdamW:
    return MuonAdamW([{"params": list(model.parameters()), "kind": "adamw", "lr": 7.0}])


def by_name(emitted: dict[str, Any], model: nn.Module) -> dict[str, dict[str, Any]]:
    made = emitted["optimizer_of"](model, own(model))
    assert type(made) is MuonAdamW
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], group) for group in made.param_groups for p in group["params"]]
    assert len(found) == len(dict(found)) == len(names)
    return dict(found)


def role_of(name: str) -> str | None:
    if name == "lm_head.weight":
        return "readout"
    if name == "transformer.wte.weight":
        return "embedding"
    return "hidden" if ".c_" in name else None


def test_every_parameter_is_claimed_once_with_its_roles_values(document: Document) -> None:
    found = document(optimizer={"weight_decay": 0.1}, model=USUAL)
    for name, group in by_name(executed(written(found, "nanochat")), gpt()).items():
        role = role_of(name)
        if role is None:
            assert (group["lr"], group["initial_lr"], "role" in group) == (7.0, 7.0, False), name
            continue
        assert (group["kind"], group["role"]) == ("adamw", role)
        assert (group["lr"], group["weight_decay"]) == pytest.approx(EXPECTED[role], rel=1e-5)
        assert group["initial_lr"] == group["lr"]
        assert group["betas"] == (0.9, 0.95)


def test_init_is_absolute_and_leaves_what_the_recipe_does_not_know(document: Document) -> None:
    emitted, model = executed(written(document(model=USUAL), "nanochat", folded=True)), gpt()
    assert emitted["INIT"] == {role: INIT[role] for role in ("embedding", "readout", "hidden")}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(0)
    emitted["init_"](model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (role_of(name) is None)
    wide = gpt(width=128)
    emitted["init_"](wide)
    assert wide.transformer.h[0].mlp.c_proj.weight.std().item() == pytest.approx(
        512**-0.5, rel=0.05
    )


def test_an_unusual_attention_scale_is_refused(document: Document) -> None:
    """Queries are normalised, so that no factor on them reaches q.k."""
    with pytest.raises(NotExpressible, match=r"attention scale 1/d_head .* without a norm"):
        emit(document(), Target(WIDTH, {}), "nanochat")
    lossy = emit(document(), Target(WIDTH, {}), "nanochat", allow_lossy=True)
    assert "query" not in executed(lossy.text)["GROUPS"]
    assert not emit(document(model=USUAL), Target(WIDTH, {}), "nanochat").dropped


@pytest.mark.parametrize(
    ("adjustment", "factors"),
    [
        ("original", {(8, 8): 1, (32, 8): 2, (8, 32): 1}),
        ("match_rms_adamw", {(8, 8): 0.2 * 8**0.5, (32, 8): 0.2 * 32**0.5, (8, 32): 0.2 * 32**0.5}),
    ],
)
def test_muon_undoes_its_own_factor(
    document: Document, adjustment: str, factors: dict[tuple[int, int], float]
) -> None:
    """MuonAdamW multiplies rate and decay of A x B by sqrt(max(1, A / B))."""
    muon = {"name": "muon", "weight_decay": 0.1, "lr_adjustment": adjustment}
    found, model = document(optimizer=muon, model=USUAL), gpt()
    emitted = emit(found, Target(WIDTH, {}), "nanochat", allow_lossy=True)
    recipe, shapes = emitted.recipe, {name: p.shape for name, p in model.named_parameters()}
    values, seen = recipe.roles["hidden"].values(), set()
    assert values.weight_decay is not None
    for name, group in by_name(executed(emitted.text), model).items():
        if role_of(name) != "hidden":
            assert group["kind"] == "adamw"
            continue
        rows, columns = shapes[name]
        there = max(1, rows / columns) ** 0.5
        assert group["lr"] * there == pytest.approx(values.lr * factors[rows, columns])
        decay = group["lr"] * there * group["weight_decay"]
        assert decay == pytest.approx(values.lr * values.weight_decay)
        assert (group["kind"], group["role"], group["momentum"]) == ("muon", "hidden", 0.95)
        seen.add((rows, columns))
    assert seen == set(factors)


def test_its_muon_is_another_than_that_of_a_sweep(document: Document) -> None:
    found = document(optimizer={"name": "muon"}, model=USUAL)
    with pytest.raises(NotExpressible, match=r"Muon as it was swept \(nanochat's equalises"):
        emit(found, Target(WIDTH, {}), "nanochat")
    text = emit(found, Target(WIDTH, {}), "nanochat", allow_lossy=True).text
    assert "# DROPPED, set it by hand: Muon as it was swept" in text
    assert "group['kind'] == 'muon' and 'role' not in group" in text.replace("\n#   ", " ")


@pytest.mark.parametrize("train", SCHEDULES)
def test_the_schedule_is_that_of_the_fit(document: Document, train: dict[str, Any]) -> None:
    emitted = executed(written(document(model=USUAL, train=train), "nanochat"))
    warmup = train.get("warmup", 2)
    expected = schedule_factors(40, warmup, train["schedule"], train.get("decay_fraction"))
    assert [emitted["lr_multiplier"](step, 40) for step in range(40)] == pytest.approx(expected)


def test_gradients_are_clipped_where_those_of_the_fit_were(document: Document) -> None:
    emitted, model = executed(written(document(model=USUAL), "nanochat")), gpt()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    emitted["clip_"](model)
    norm = sum(p.grad.square().sum() for p in model.parameters()) ** 0.5
    assert norm.item() == pytest.approx(1.0, rel=1e-4)
    assert "clip_" not in executed(written(document(train={"clip": None}), "nanochat"))


def test_another_model_is_an_error(document: Document) -> None:
    emitted, model = executed(written(document(model=USUAL), "nanochat")), gpt()
    model.gain = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"gain: claimed by 0 patterns \[\]; correct PATTERNS"):
        emitted["optimizer_of"](model, own(model))
    del model.gain
    model.lm_head.weight = model.transformer["wte"].weight
    with pytest.raises(ValueError, match=r"no parameter matches \['\^lm_head"):
        emitted["init_"](model)


def test_one_rate_for_all_parameters(document: Document) -> None:
    known = without_protocol(document(), weight_decay=0.1)
    model = gpt()
    groups = by_name(executed(emit(known, Target(WIDTH, {}), "nanochat").text), model)
    for group in groups.values():
        assert group["lr"] == pytest.approx(2**-6)
        assert (group["weight_decay"], group["kind"]) == (0.1, "adamw")
    unknown = without_protocol(document(), weight_decay=None)
    emitted = executed(emit(unknown, Target(WIDTH, {}), "nanochat").text)
    with pytest.raises(ValueError, match="weight decay is not known; write that of your runs"):
        emitted["optimizer_of"](model, own(model))
