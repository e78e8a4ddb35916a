from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.decoder import Architecture
from tests.recipe.formats.conftest import WIDTH, Document, executed, written


class Wrapper(nn.Module):
    """A wrapper that holds its model as DDP, compile, FSDP and activation checkpoints do."""

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.add_module(name, model)


# the built-in proxies apply both by themselves
TOLD = {"multipliers": "in_model", "attention_scale": "in_model"}


def proxy() -> Any:
    return Transformer(WIDTH, 64, 16, 1 / 8, Architecture(depth=3, head_size=8))


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_parameter_gets_what_the_recipe_says(document: Document, wrapped: bool) -> None:
    found = document(optimizer={"weight_decay": 0.1})
    emitted, model = executed(written(found, "pytorch")), proxy()
    recipe = build_recipe(found, Target(WIDTH, {}))
    names = [name for name, _ in model.named_parameters()]
    parameters, given = list(model.parameters()), model
    if wrapped:
        model.blocks[1] = Wrapper("_fsdp_wrapped_module", model.blocks[1])
        model.blocks[2].up = Wrapper("_checkpoint_wrapped_module", model.blocks[2].up)
        given = Wrapper("module", Wrapper("_orig_mod", model))
    (optimizer,) = emitted["optimizers"](given, **TOLD)
    assert type(optimizer) is torch.optim.AdamW
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in zip(names, parameters, strict=True):
        first = name.split(".")[0]
        role = "hidden" if first == "blocks" else first
        group, values = groups.pop(id(parameter)), recipe.roles[role]  # type: ignore[index]
        assert values.eps is not None
        assert values.betas is not None
        assert group["role"] == role
        assert group["betas"] == values.betas.value
        expected = (values.lr.value, values.weight_decay.value, values.eps.value)
        held = (group["lr"], group["weight_decay"], group["eps"])
        assert held == expected, "to the last digit"
        assert emitted["multipliers"][role] == values.multiplier.value
    assert not groups
    assert emitted["attention_scale"] == 1 / 8


@pytest.mark.parametrize("function", ["param_groups", "optimizers", "init_"])
def test_a_model_that_applies_no_factors_is_refused_until_told(
    document: Document, function: str
) -> None:
    unfolded = executed(written(document(), "pytorch"))[function]
    with pytest.raises(ValueError, match=r"multipliers \{'embedding': 4.0, 'readout': 0.25\}"):
        unfolded(proxy(), attention_scale="in_model")
    with pytest.raises(ValueError, match="apply `multipliers` there and pass multipliers='in_m"):
        unfolded(proxy(), multipliers=True)
    with pytest.raises(ValueError, match=r"q.k by 0.125, and not by 1/sqrt\(d_head\)"):
        unfolded(proxy(), multipliers="in_model")
    unfolded(proxy(), **TOLD)
    folded = executed(written(document(), "pytorch", folded=True))[function]
    with pytest.raises(ValueError, match="pass attention_scale='in_model'"):
        folded(proxy())
    folded(proxy(), attention_scale="in_model")


@pytest.mark.parametrize("function", ["param_groups", "optimizers", "init_"])
def test_where_nothing_is_to_be_applied_nothing_is_asked(document: Document, function: str) -> None:
    found = document(model={"attention_scale": "1/sqrt(d_head)"})
    executed(written(found, "pytorch", folded=True))[function](proxy())


def test_schedules_that_want_one_rate_find_that_of_hidden_matrices(document: Document) -> None:
    """So that a floor as a rate becomes the same ratio for all groups of both optimizers."""
    transformers = pytest.importorskip("transformers")
    text = written(document(optimizer={"name": "muon"}), "pytorch")
    emitted = executed(text)
    hidden = emitted["GROUPS"]["hidden"]["lr"]
    for optimizer in emitted["optimizers"](proxy(), **TOLD):
        schedule = transformers.get_scheduler(
            "cosine_with_min_lr",
            optimizer,
            num_warmup_steps=1,
            num_training_steps=4,
            scheduler_specific_kwargs={"min_lr": hidden / 10},
        )
        for _ in range(4):
            optimizer.step()
            schedule.step()
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(emitted["GROUPS"][group["role"]]["lr"] / 10)


def test_init_is_the_proxies(document: Document) -> None:
    emitted, model = executed(written(document(), "pytorch", folded=True)), proxy()
    torch.manual_seed(0)
    emitted["init_"](model, **TOLD)
    stds = {name: p.std().item() for name, p in model.named_parameters()}
    assert stds["embedding.weight"] == pytest.approx(1, rel=0.05)
    assert stds["blocks.2.up.weight"] == pytest.approx(1 / 16, rel=0.05)
    assert stds["blocks.2.down.weight"] == pytest.approx(1 / 32, rel=0.05)
    assert stds["readout.weight"] == pytest.approx(1 / 64, rel=0.05)


def test_gains_begin_at_their_constant_and_frozen_parameters_stay(document: Document) -> None:
    found = document()
    one = {"init_std": 0.0, "init_mean": 1.0, "shape": (16,), "growing_axes": (0,)}
    gain = found.base_plan[0].model_copy(update={"name": "norm.weight", "role": "vector", **one})
    with_gain = found.model_copy(update={"base_plan": (*found.base_plan, gain)})
    emitted, model = executed(written(with_gain, "pytorch")), proxy()
    model.norm = nn.RMSNorm(WIDTH)
    model.positions = nn.Parameter(torch.full((16, WIDTH), 3.0), requires_grad=False)
    with torch.no_grad():
        model.norm.weight.fill_(7.0)
    emitted["init_"](model, **TOLD)
    assert (model.norm.weight == 1).all()
    assert (model.positions == 3).all()
    held = [p for group in emitted["param_groups"](model, **TOLD) for p in group["params"]]
    assert any(p is model.norm.weight for p in held)
    assert not any(p is model.positions for p in held)


def test_a_parameter_too_many_and_a_pattern_too_many_are_errors(document: Document) -> None:
    emitted, model = executed(written(document(), "pytorch")), proxy()
    model.register_parameter("gain", nn.Parameter(torch.ones(3)))
    with pytest.raises(ValueError, match="gain: claimed by 0 patterns"):
        emitted["param_groups"](model, **TOLD)
    tied = proxy()
    tied.readout.weight = tied.embedding.weight
    with pytest.raises(ValueError, match=r"no parameter matches .*readout"):
        emitted["param_groups"](tied, **TOLD)


def test_muon_and_sgd_are_torchs_own(document: Document) -> None:
    text = written(document(optimizer={"name": "muon", "weight_decay": 0.1}), "pytorch")
    found = {type(o): o for o in executed(text)["optimizers"](proxy(), **TOLD)}
    assert set(found) == {torch.optim.Muon, torch.optim.AdamW}
    (muon,) = found[torch.optim.Muon].param_groups
    assert (muon["role"], muon["momentum"], muon["adjust_lr_fn"]) == ("hidden", 0.95, "original")


def test_sgd_keeps_its_momentum(document: Document) -> None:
    text = written(document(optimizer={"name": "sgd", "momentum": 0.8}), "pytorch")
    (sgd,) = executed(text)["optimizers"](proxy(), **TOLD)
    assert isinstance(sgd, torch.optim.SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.8}


def test_without_names_it_is_written_for_llamas(document: Document) -> None:
    found = document().model_copy(update={"base_plan": ()})
    text = written(found, "pytorch")
    assert "# the recipe names no parameters: written for those of transformers' Llama" in text
    emitted = executed(text)
    assert emitted["PATTERNS"][r"^model\.embed_tokens\.weight$"] == "embedding"
    assert "INIT" not in emitted, "nor does it know how the runs started"


def test_one_rate_for_all_parameters(document: Document) -> None:
    found = document()
    unknown: Exponents = found.model_copy(
        update={"protocol": None, "base_plan": (), "weight_decay": None, "decay_convention": None}
    )
    text = written(unknown, "pytorch")
    (optimizer,) = executed(text)["optimizers"](proxy(), **TOLD)
    (group,) = optimizer.param_groups
    assert group["lr"] == pytest.approx(2**-6)
    assert "weight decay not known" in text
