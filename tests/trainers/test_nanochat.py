"""The emitted file with nanochat's own GPT and MuonAdamW, on one CPU.

nanochat is no package: set NANOCHAT to a checkout of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.schedule import schedule_factors
from tests.recipe.formats.conftest import executed
from tests.trainers.compare import Arrived, compared
from tests.trainers.conftest import DEPTH, HEADS, VOCAB, WIDTH, Emit, Plan
from tests.trainers.outside import commit

SOURCE = os.environ.get("NANOCHAT")
pytestmark = pytest.mark.skipif(SOURCE is None, reason="set NANOCHAT to a checkout of nanochat")

STEPS = 10
USUAL = {"attention_scale": "1/sqrt(d_head)"}  # others are refused: queries are normalised
TOKENS = torch.randint(0, VOCAB, (2, 17), generator=torch.Generator().manual_seed(0))
NAMES = {
    "transformer.wte": "model.embed_tokens",
    "lm_head": "lm_head",
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}
# what setup_optimizer takes, as scripts/base_train.py gives it
RATES = {"unembedding_lr": 0.008, "embedding_lr": 0.3, "matrix_lr": 0.02, "weight_decay": 0.28}


@pytest.fixture
def gpt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPT made as scripts/base_train.py makes it, in float32 and without compiled kernels."""
    assert SOURCE is not None
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    monkeypatch.syspath_prepend(SOURCE)
    module = import_module("nanochat.gpt")
    torch.manual_seed(0)
    sizes = {"n_layer": DEPTH, "n_head": HEADS, "n_kv_head": HEADS, "n_embd": WIDTH}
    with torch.device("meta"):
        model = module.GPT(
            module.GPTConfig(sequence_len=16, vocab_size=VOCAB, window_pattern="L", **sizes)
        )
    model.to_empty(device="cpu")
    model.init_weights()
    with torch.compiler.set_stance("force_eager"):
        yield model


def llama_name(name: str) -> str | None:
    """The name in transformers of a parameter that the recipe knows."""
    stem = name.removesuffix(".weight")
    block = stem.removeprefix("transformer.h.").partition(".")
    if block[0].isdigit() and block[2] in NAMES:
        return f"model.layers.{block[0]}.{NAMES[block[2]]}.weight"
    return f"{NAMES[stem]}.weight" if stem in NAMES else None


def trained(model: Any, emitted: dict[str, Any], optimizer: Any, steps: int) -> list[float]:
    """Losses of the loop of scripts/base_train.py, changed as the file says."""
    losses = []
    for step in range(steps):
        loss = model(TOKENS[:, :-1], TOKENS[:, 1:].contiguous())
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * emitted["lr_multiplier"](step, STEPS)
            if group["kind"] == "muon" and "role" not in group:
                group["momentum"] = 0.85
        emitted["clip_"](model)
        optimizer.step()
        model.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def test_the_trainer_has_the_recipes_values(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, gpt: Any
) -> None:
    found = fitted(model=USUAL)
    emitted = executed(written(found, "nanochat"))
    emitted["init_"](gpt)
    known = {name: p for name, p in gpt.named_parameters() if llama_name(name) is not None}
    inits = {name: (p.mean().item(), p.std().item()) for name, p in known.items()}
    optimizer = emitted["optimizer_of"](gpt, gpt.setup_optimizer(**RATES))
    losses = trained(gpt, emitted, optimizer, 3)
    assert losses[2] < losses[0] - 0.1
    groups = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    arrived = {}
    for name, parameter in gpt.named_parameters():
        group, there = groups.pop(id(parameter)), llama_name(name)
        if there is None:
            assert "role" not in group
            continue
        assert group["kind"] == "adamw"
        arrived[there] = Arrived(
            lr=group["initial_lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            betas=group["betas"],
            mean=inits[name][0],
            std=inits[name][1],
            count=parameter.numel(),
        )
    assert not groups
    plan = {name: values for name, values in wanted(found).items() if name in arrived}
    assert len(plan) == 2 + 6 * DEPTH
    steps = f"loss {losses[0]:.3f}, {losses[1]:.3f}, {losses[2]:.3f}"
    name = f"nanochat {commit(str(SOURCE))}, GPT, AdamW"
    row = compared(name, arrived, plan, steps)
    assert (row.lr, row.weight_decay, row.eps, row.betas) == (0, 0, 0, 0)


def test_what_a_recipe_does_not_know_keeps_nanochats_values(
    fitted: Callable[..., Exponents], written: Emit, gpt: Any
) -> None:
    emitted = executed(written(fitted(model=USUAL), "nanochat"))
    names = {id(p): name for name, p in gpt.named_parameters()}
    own = gpt.setup_optimizer(**RATES)
    made = emitted["optimizer_of"](gpt, own)
    kept = [group for group in made.param_groups if "role" not in group]
    given = [
        {**group, "params": rest}
        for group in own.param_groups
        if (rest := [p for p in group["params"] if llama_name(names[id(p)]) is None])
    ]
    assert len(kept) == len(given) == 5
    for one, other in zip(kept, given, strict=True):
        assert [id(p) for p in one.pop("params")] == [id(p) for p in other.pop("params")]
        assert one == other
    (values,) = [g for g in own.param_groups if g["params"][0] is gpt.value_embeds["1"].weight]
    assert values["lr"] == pytest.approx(0.3 * 0.5 * (WIDTH / 768) ** -0.5), "its own factor"


def test_updates_are_those_of_torch(
    fitted: Callable[..., Exponents], written: Emit, wanted: Plan, gpt: Any
) -> None:
    """Two steps of AdamW on the same gradients, parameter by parameter."""
    found = fitted(model=USUAL)
    emitted, plan = executed(written(found, "nanochat")), wanted(found)
    optimizer = emitted["optimizer_of"](gpt, gpt.setup_optimizer(**RATES))
    rates = schedule_factors(STEPS, 2, "linear")
    twins, groups = {}, []
    for name, parameter in gpt.named_parameters():
        if (there := llama_name(name)) is not None:
            twins[name] = torch.nn.Parameter(parameter.detach().clone())
            keys = ("lr", "weight_decay", "eps", "betas")
            values = {key: getattr(plan[there], key) for key in keys}
            groups.append({"params": [twins[name]], "peak": values["lr"], **values})
    twin = torch.optim.AdamW(groups)
    for step in range(2):
        for name, parameter in gpt.named_parameters():
            parameter.grad = torch.randn_like(parameter) * 1e-3
            if name in twins:
                twins[name].grad = parameter.grad.clone()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * emitted["lr_multiplier"](step, STEPS)
        for group in twin.param_groups:
            group["lr"] = group["peak"] * rates[step]
        optimizer.step()
        twin.step()
    parameters = dict(gpt.named_parameters())
    for name, weight in twins.items():
        torch.testing.assert_close(parameters[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adjustment", ["original", "match_rms_adamw"])
def test_muon_moves_by_the_recipes_rates(
    fitted: Callable[..., Exponents], wanted: Plan, gpt: Any, adjustment: str
) -> None:
    """Updates have the norm of an orthogonal matrix; without a gradient weights decay alone."""
    muon = {"name": "muon", "lr_adjustment": adjustment, "weight_decay": 0.1}
    found = fitted(model=USUAL, optimizer=muon)
    emitted = executed(emit(found, Target(WIDTH, {}), "nanochat", allow_lossy=True).text)
    emitted["init_"](gpt)
    plan, names = wanted(found), {id(p): name for name, p in gpt.named_parameters()}
    for has_gradient in (True, False):
        optimizer = emitted["optimizer_of"](gpt, gpt.setup_optimizer(**RATES))
        before = {name: p.detach().clone() for name, p in gpt.named_parameters()}
        for parameter in gpt.parameters():
            parameter.grad = torch.randn_like(parameter) * has_gradient
            if has_gradient:
                parameter.data.zero_()
        optimizer.step()
        seen = 0
        for group in optimizer.param_groups:
            for parameter in group["params"] if group.get("kind") == "muon" else ():
                there = llama_name(names[id(parameter)])
                if there is None:
                    continue
                seen += 1
                values, (rows, columns) = plan[there], parameter.shape
                factor = {
                    "original": max(1.0, rows / columns) ** 0.5,
                    "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
                }[adjustment]
                assert group["momentum"] == 0.95
                if has_gradient:
                    norm = values.lr * factor * math.sqrt(min(rows, columns))
                    assert parameter.norm().item() == pytest.approx(norm, rel=1e-3)
                else:
                    assert values.weight_decay is not None
                    left = before[names[id(parameter)]] * (1 - values.lr * values.weight_decay)
                    torch.testing.assert_close(parameter.data, left)
        assert seen == 6 * DEPTH
        emitted["init_"](gpt)
    losses = trained(gpt, emitted, optimizer, 3)
    assert losses[2] < losses[0] - 0.1


def test_another_model_is_an_error(
    fitted: Callable[..., Exponents], written: Emit, gpt: Any
) -> None:
    emitted = executed(written(fitted(model=USUAL), "nanochat"))
    gpt.gain = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"gain: claimed by 0 patterns \[\]; correct PATTERNS"):
        emitted["optimizer_of"](gpt, gpt.setup_optimizer)
    del gpt.gain
    gpt.lm_head = None
    with pytest.raises(ValueError, match=r"no parameter matches \['\^lm_head"):
        emitted["init_"](gpt)


def test_the_lines_that_the_file_changes_are_there() -> None:
    script = (Path(str(SOURCE)) / "scripts/base_train.py").read_text()
    for line in (
        "model.init_weights()",
        "optimizer = model.setup_optimizer(",
        "lrm = get_lr_multiplier(step)",
        "if group['kind'] == 'muon':",
        "scaler.unscale_(optimizer)",
    ):
        assert script.count(line) == 1, line
