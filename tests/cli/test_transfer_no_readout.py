"""Models in which nothing trained is a readout go from sweep to recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from mutransfer_cli.recipe.loaded import load_recipe

Run = Callable[..., Any]
WriteSpec = Callable[[Any], Path]


class Adapted(nn.Module):
    """A frozen network with trained adapters of low rank, as LoRA makes it."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.up = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, vocab, bias=False)
        for module in (self.embed, self.up, self.head):
            module.weight.requires_grad_(False)
        self.down_a = nn.Linear(width, 4, bias=False)
        self.up_b = nn.Linear(4, width, bias=False)
        nn.init.zeros_(self.up_b.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + torch.tanh(self.up(x) + self.up_b(self.down_a(x)))
        logits: Tensor = self.head(x)
        return logits


def adapted(width: int, vocab: int) -> nn.Module:
    return Adapted(width, vocab)


@pytest.fixture
def spec(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    tiny["model"] = {"factory": f"{__name__}:adapted"}
    tiny["train"] |= {"steps": 20, "batch": 8, "eval_batches": 8}
    tiny["sweep"] |= {"axes": {"lr": {"from": "2^-8", "to": "2^-1"}}, "seeds": [0, 1]}
    return tiny


@pytest.mark.parametrize("gammas", [{}, {"lr_mult.readout": [1.0]}])
def test_adapters_of_a_frozen_network_get_a_recipe(
    spec: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path, gammas: dict[str, Any]
) -> None:
    """A factor of 1 for the readout, which is frozen, is nothing."""
    spec["sweep"]["axes"] |= gammas
    out = tmp_path / "out"
    swept = run("sweep-proxy", write_spec(spec), "-o", out)
    assert swept.exit_code == 0, swept.stderr
    again = run("sweep-proxy", write_spec(spec), "-o", out)
    assert (again.exit_code, again.stdout) == (0, swept.stdout)
    fitted = run("fit-exponents", out)
    assert fitted.exit_code in (0, 4), fitted.stderr
    result = run("transfer", "--width", 96, "--fold", "-o", "recipe.yaml", stdin=fitted.stdout)
    assert result.exit_code == 0, result.stderr
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    assert set(recipe["roles"]) == {"embedding", "hidden"}
    groups = load_recipe("recipe.yaml").param_groups(adapted(96, 256))
    assert {n for g in groups for n in g["param_names"]} == {"down_a.weight", "up_b.weight"}
    checked = run("check", "recipe.yaml", "--gates", "static")
    assert checked.exit_code == 0, checked.stderr


@pytest.mark.parametrize(
    "where", [{"axes": {"lr_mult.readout": [0.5, 1, 2]}}, {"fixed": {"readout": 2.0}}]
)
def test_another_factor_is_refused_before_anything_is_trained(
    spec: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path, where: dict[str, Any]
) -> None:
    spec["sweep"]["axes"] |= where.get("axes", {})
    spec["optimizer"] = {"lr_mult": where.get("fixed", {})}
    result = run("sweep-proxy", write_spec(spec), "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    error = result.stderr.splitlines()[-1]
    assert "lr_mult.readout: found" in error
    assert "the model has no readout parameter; its roles are embedding, hidden" in error
    assert not (tmp_path / "out").exists()


GPT = "tests.proxies.tied_gpts:gpt"


@pytest.mark.parametrize("model", [None, "tests.proxies.tied_gpts:wrapped"])
def test_a_tied_model_gets_a_folded_recipe_that_the_checks_accept(
    spec: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path, model: str | None
) -> None:
    spec["model"], out = {"factory": GPT}, tmp_path / "out"
    spec["sweep"] |= {"axes": {"lr": {"from": "2^-8", "to": "2^-2"}}, "seeds": [0]}
    assert run("sweep-proxy", write_spec(spec), "-o", out).exit_code == 0
    fitted = run("fit-exponents", out)
    assert fitted.exit_code in (0, 4), fitted.stderr
    named = ["--model", model] if model else []
    result = run(
        "transfer", "--width", 96, "--fold", *named, "-o", "recipe.yaml", stdin=fitted.stdout
    )
    assert result.exit_code == 0, result.stderr
    embedding = yaml.safe_load(Path("recipe.yaml").read_text())["roles"]["embedding"]
    (tied,) = (p for p in embedding["parameters"] if "output_multiplier" in p)
    assert tied["output_multiplier"]["value"] == 1.0
    checked = run("check", "recipe.yaml", "--gates", "static", "--model", model or GPT)
    assert checked.exit_code == 0, checked.stderr + checked.stdout
