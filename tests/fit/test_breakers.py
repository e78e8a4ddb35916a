"""Choices known to break transfer are reported before and after a sweep, each with a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.fit.breakers import ModelSeen, axes_of, breakers, too_short
from mutransfer_cli.spec.records import AttentionSeen
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import Result

Prepare = Callable[[dict[str, Any]], Sweep]

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "gains": ({"model": {"gains": "vector"}}, "gains: none avoids it"),
    "attention": ({"model": {"attention_scale": "1/sqrt(d_head)"}}, "attention_scale: 1/d_head"),
    "decay": (
        {"optimizer": {"weight_decay": 1}, "parameterization": {"weight_decay": "constant"}},
        "linear_width, theirs, or sqrt_width",
    ),
    "tied": (
        {
            "model": {"tied_embeddings": True},
            "parameterization": {"name": "standard", "lr_rule": "global"},
        },
        "tied_embeddings: false avoids it",
    ),
    "outputs": (
        {"parameterization": {"name": "standard"}, "sweep": {"widths": [16, 320]}},
        "256 outputs, fewer than the width 320",
    ),
}


def said(sweep: Sweep) -> tuple[str, ...]:
    axes = axes_of(trial.axes for trials in sweep.trials.values() for trial in trials)
    seen = ModelSeen(sweep.base_plan, sweep.attention)
    return breakers(sweep.protocol, sweep.trials, axes, seen)


def changed(tiny: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return tiny | {key: tiny.get(key, {}) | change for key, change in changes.items()}


@pytest.mark.parametrize("name", CASES)
def test_each_is_named_with_what_avoids_it(
    tiny: dict[str, Any], prepare: Prepare, name: str
) -> None:
    changes, avoids = CASES[name]
    (sentence,) = said(prepare(changed(tiny, changes)))
    assert avoids in sentence
    assert "arXiv" in sentence


def test_a_config_is_not_told_to_set_what_it_has_not(
    tiny: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    """Heads of a fixed size make 1/sqrt(d_head) a constant times 1/d_head."""
    pytest.importorskip("transformers")
    config = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2}
    config |= {"num_hidden_layers": 1, "tie_word_embeddings": False, "intermediate_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    gains, attention = said(prepare(tiny | {"model": {"hf": "config.json"}}))
    assert "model.layers.0.input_layernorm.weight (16) and 2 more: trainable gains" in gains
    assert "with heads of one size it differs from 1/d_head by a constant factor" in attention
    assert "avoids it" not in gains + attention


def test_the_default_has_none(tiny: dict[str, Any], prepare: Prepare) -> None:
    assert said(prepare(tiny)) == ()
    standard = changed(tiny, {"parameterization": {"name": "standard"}})
    assert said(prepare(standard)) == (), "1/sqrt(d_head) and wide enough outputs"


def test_gains_are_for_mup_to_mind(tiny: dict[str, Any], prepare: Prepare) -> None:
    changes = {"model": {"gains": "vector"}, "parameterization": {"name": "standard"}}
    assert said(prepare(changed(tiny, changes))) == ()


@pytest.mark.parametrize(("decay", "short"), [(0.0, False), (0.1, True), (1e4, False)])
def test_a_horizon_below_1_is_said(
    tiny: dict[str, Any], prepare: Prepare, decay: float, short: bool
) -> None:
    sweep = prepare(changed(tiny, {"optimizer": {"weight_decay": decay}}))
    assert bool(too_short(sweep.protocol, [16], {"lr": [0.01]})) == short


def test_dry_run_and_fit_say_them(
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    run: Callable[..., Result],
    tmp_path: Path,
) -> None:
    path = write_spec(changed(tiny, CASES["gains"][0] | {"optimizer": {"weight_decay": 0.1}}))
    assert run("sweep-proxy", path, "-o", tmp_path / "out").exit_code == 0
    for args in (("sweep-proxy", path, "--dry-run"), ("fit-exponents", tmp_path / "out")):
        stderr = run(*args).stderr
        assert "warning: model.gains vector: trainable gains break transfer" in stderr
        assert "warning: horizon " in stderr


OWN = {"factory": "tests.proxies.tied_gpts:gpt"}


def test_a_model_that_is_not_built_in_has_them_by_what_was_seen(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    """No key is named that its section of a spec lacks."""
    tiny["model"] = OWN
    sweep = prepare(tiny)
    assert sweep.attention == AttentionSeen(head_size=8, factor=8**-0.5, exponent=0.0)
    gains, attention, tied = said(sweep)
    assert "transformer.h.0.ln_1.weight (16) and 2 more: trainable gains break" in gains
    assert "multiplies q.k by 0.3536 at head size 8, 1/sqrt(d_head), which breaks" in attention
    assert "differs from 1/d_head by a constant factor" in attention
    assert "transformer.wte.weight (256 x 16): is embedding and readout" in tied
    assert not any("avoids it" in sentence for sentence in (gains, attention, tied))


class Wide(nn.Module):
    """One head as wide as the model, and attention written out."""

    def __init__(self, width: int, vocab: int, power: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.head = nn.Linear(width, vocab, bias=False)
        self.scale = width**-power

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        scores = self.q(x) @ self.k(x).mT * self.scale
        there = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).tril()
        weights = scores.masked_fill(~there, -torch.inf).softmax(-1)
        logits: Tensor = self.head(x + weights @ self.v(x))
        return logits


def wide(width: int, vocab: int, power: float) -> nn.Module:
    return Wide(width, vocab, power)


@pytest.mark.parametrize(("power", "sentences"), [(0.5, 1), (1.0, 0)])
def test_written_out_attention_is_seen_by_its_power_of_width(
    tiny: dict[str, Any], prepare: Prepare, power: float, sentences: int
) -> None:
    tiny["model"] = {"factory": f"{__name__}:wide", "args": {"power": power}}
    found = said(prepare(tiny))
    assert len(found) == sentences, found
    assert all("grow as width^0.5" in sentence for sentence in found)


def test_the_fit_of_a_model_that_is_not_built_in_says_them(
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    run: Callable[..., Result],
    tmp_path: Path,
) -> None:
    path = write_spec(tiny | {"model": OWN})
    assert run("sweep-proxy", path, "-o", tmp_path / "out").exit_code == 0
    for args in (("sweep-proxy", path, "--dry-run"), ("fit-exponents", tmp_path / "out")):
        stderr = run(*args).stderr
        assert "warning: transformer.h.0.ln_1.weight (16) and 2 more: trainable gains" in stderr
        assert "warning: attention multiplies q.k by 0.3536" in stderr


def test_a_standard_model_has_none_but_the_tie(tiny: dict[str, Any], prepare: Prepare) -> None:
    rule = {"parameterization": {"name": "standard", "lr_rule": "global"}}
    (sentence,) = said(prepare(changed(tiny, rule) | {"model": OWN}))
    assert "is embedding and readout" in sentence
