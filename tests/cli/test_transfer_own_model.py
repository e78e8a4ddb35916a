"""A user's own model through the commands, correct and faulty."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
import yaml
from torch import nn

from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.spec.decoder import Architecture
from mutransfer_cli.spec.records import SweepHeader
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import trial_cost
from tests.conftest import CPU
from tests.proxies.own_models import TokenMlp

WriteSpec = Callable[[Any], Path]
Prepare = Callable[[dict[str, Any]], Sweep]
Run = Callable[..., Any]

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, vocab, ratio):
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(nn.Linear(width, ratio * width) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(ratio * width, width) for _ in range(2))
        self.norm = nn.RMSNorm(width)
        self.to_words = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        x = self.words(tokens)
        for up, down in zip(self.blocks, self.back):
            x = x + down(torch.relu(up(self.norm(x))))
        return self.to_words(x)

def build(width, vocab, ratio=2):
    return Net(width, vocab, ratio)
"""


@pytest.fixture
def own(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A sweep of a model in the current folder."""
    (tmp_path / "models_of_mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    tiny["model"] = {"factory": "models_of_mine:build", "args": {"ratio": 3}}
    return tiny


def test_from_a_factory_to_a_recipe_with_its_own_names(
    own: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    own["train"] |= {"steps": 20, "batch": 8, "eval_batches": 8}
    own["sweep"] |= {"axes": {"lr": {"from": "2^-8", "to": "2^-1"}}, "seeds": [0, 1]}
    out = tmp_path / "out"
    swept = run("sweep-proxy", write_spec(own), "-o", out)
    assert swept.exit_code == 0, swept.stderr
    assert "cannot be batched" not in swept.stderr
    fitted = run("fit-exponents", out)
    assert fitted.exit_code == 0, fitted.stderr
    result = run("transfer", "--width", 96, stdin=fitted.stdout)
    assert result.exit_code == 0, result.stderr
    recipe = yaml.safe_load(result.stdout)
    patterns = {
        role: {p["pattern"]: p.get("init_std", {}).get("value") for p in found["parameters"]}
        for role, found in recipe["roles"].items()
    }
    assert set(patterns["hidden"]) == {r"^blocks\.\d+\.weight$", r"^back\.\d+\.weight$"}
    assert set(patterns["readout"]) == {r"^to_words\.weight$"}
    assert set(patterns["embedding"]) == {r"^words\.weight$"}
    assert r"^norm\.weight$" in patterns["vector"]
    of_back = patterns["hidden"][r"^back\.\d+\.weight$"]
    assert of_back == pytest.approx((3 * 3 * 96) ** -0.5, rel=0.05), "torch's own, at the target"
    gains = [p for p in recipe["roles"]["vector"]["parameters"] if "norm" in p["pattern"]]
    assert [(p["init_mean"], p["init_std"]["value"]) for p in gains] == [(1.0, 0.0)]
    biases = [p for p in recipe["roles"]["vector"]["parameters"] if "bias" in p["pattern"]]
    assert [p["keeps_draw"] for p in biases] == [True, True], "torch draws them"
    assert recipe["attention_scale"] is None
    assert recipe["holds_for"]["depth"] is None
    again = run("sweep-proxy", write_spec(own), "-o", out)
    assert (again.exit_code, again.stdout) == (0, swept.stdout), "resumed: nothing is left to do"


def test_a_folder_of_another_model_is_refused(
    own: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    """The code behind a factory may change without its name."""
    own["sweep"] = {"widths": [16], "axes": {"lr": [0.01]}}
    module = "tests.cli.test_transfer_own_model:changing"
    own["model"] = {"factory": module}
    assert run("sweep-proxy", write_spec(own), "-o", "out").exit_code == 0
    LAYERS.append(1)
    try:
        result = run("sweep-proxy", write_spec(own), "-o", "out")
    finally:
        LAYERS.clear()
    assert result.exit_code == 2
    assert (
        "out holds another model: 2.bias was 256 (scalar) and is now 16 (vector)" in result.stderr
    )


LAYERS: list[int] = []


def changing(width: int, vocab: int) -> Any:
    more = [nn.Linear(width, width) for _ in LAYERS]
    first = nn.Linear(width, width)
    return nn.Sequential(nn.Embedding(vocab, width), first, *more, nn.Linear(width, vocab))


def test_its_plan_is_printed_with_what_the_user_declared(
    own: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    own["model"]["roles"] = {r"to_words\.weight": "hidden"}
    result = run("rules", write_spec(own), "--width", 48, "--json")
    assert result.exit_code == 0, result.stderr
    assert "to_words.weight: hidden, as model.roles says" in result.stderr
    shapes = {p["name"]: p["shape"] for p in json.loads(result.stdout)["parameters"]}
    assert shapes["back.1.weight"] == [48, 144]


def test_what_it_will_cost_is_estimated(
    own: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    result = run("sweep-proxy", write_spec(own), "--dry-run")
    assert result.exit_code == 0, result.stderr
    matrices = sum(2 * 2 * 3 * width**2 + 256 * width for width in (16, 24, 32))
    assert f"{6 * matrices * 2 * 16 * 10 * 7:.3g}" in result.stdout
    assert "attention is not counted" in result.stderr


def test_the_estimate_is_near_the_formula_of_the_built_in_model(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    built_in = trial_cost(prepare(tiny).protocol, 32)
    tiny["model"] = {"factory": "tests.cli.test_transfer_own_model:built_in"}
    estimate = prepare(tiny).cost(32)
    assert estimate.parameters == built_in.parameters
    assert 0.9 < estimate.flops / built_in.flops < 1
    assert 0.5 < estimate.memory(1) / built_in.memory(1) < 2


def built_in(width: int, vocab: int, context: int) -> Any:
    return Transformer(width, vocab, context, 1 / 8, Architecture(depth=1, head_size=8))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"factory": "no.such.module:build"}, "cannot be imported: ModuleNotFoundError: No module"),
        ({"factory": "models_of_mine:bild"}, "models_of_mine.py has no function bild"),
        ({"factory": "models_of_mine"}, "model.factory: expected package.module:function, found"),
        ({"factory": "tests.proxies.own_models:without_width"}, "takes size; it needs a parameter"),
        ({"factory": "tests.proxies.own_models:no_module"}, "returned str, expected an nn.Module"),
        ({"factory": "tests.proxies.own_models:other_names"}, "hold different parameters (of_16."),
        ({"factory": "tests.proxies.own_models:stays"}, "the model does not grow: 0.weight is"),
        (
            {"factory": "tests.proxies.own_models:last_token_only"},
            "have shape [2, 1, 256], expected",
        ),
        ({"factory": "tests.proxies.own_models:small_vocab"}, "[2, 16, 256 or more]"),
        ({"factory": "tests.proxies.own_models:image_net"}, "cannot be run on tokens of shape"),
        (
            {"factory": "models_of_mine:build", "roles": {"(": "hidden"}},
            "is not a regular expression",
        ),
        (
            {"factory": "models_of_mine:build", "roles": {"a": "matrix"}},
            "model.roles.a: unknown 'matrix'",
        ),
        ({"factory": "models_of_mine:build", "arg": {}}, "unknown key 'arg'; did you mean 'args'?"),
    ],
)
def test_bad_input_is_one_sentence(
    own: dict[str, Any], write_spec: WriteSpec, run: Run, model: dict[str, Any], sentence: str
) -> None:
    result = run("sweep-proxy", write_spec(own | {"model": model}), "-o", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    *before, error = result.stderr.splitlines()
    assert before[:1] in ([], ["spec: 21 trials at 3 widths in all"])
    assert sentence in error


def test_muon_does_not_take_convolutions(
    own: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    own |= {
        "model": {"factory": "tests.proxies.own_models:conv_net"},
        "optimizer": {"name": "muon"},
    }
    result = run("sweep-proxy", write_spec(own), "-o", "out")
    assert result.exit_code == 2
    assert "mix.weight: is a convolution, and muon orthogonalises matrices" in result.stderr


def test_z_loss_needs_logits(own: dict[str, Any], write_spec: WriteSpec, run: Run) -> None:
    own["train"]["z_loss"] = 1e-4
    own["model"] = {"factory": "tests.proxies.own_models:with_loss"}
    result = run("sweep-proxy", write_spec(own), "-o", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "train.z_loss: needs logits, but the model's forward returns only its" in result.stderr


def test_random_numbers_in_the_forward_pass_are_refused(
    own: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    own["model"] = {"factory": "tests.cli.test_transfer_own_model:noisy"}
    result = run("sweep-proxy", write_spec(own), "-o", "out")
    assert result.exit_code == 2, result.stderr
    assert "draws random numbers in its forward pass" in result.stderr


def noisy(width: int, vocab: int) -> Any:
    class Noisy(TokenMlp):
        def forward(self, tokens: Any) -> Any:
            return F.dropout(super().forward(tokens), 0.1)

    return Noisy(width, vocab)


def test_a_header_is_read_back(own: dict[str, Any], prepare: Prepare) -> None:
    header = prepare(own).header(CPU)
    assert SweepHeader.model_validate(header.model_dump(mode="json", by_alias=True)) == header


def test_another_argument_is_another_protocol(own: dict[str, Any], prepare: Prepare) -> None:
    before = prepare(own).protocol.hash
    own["model"]["args"] = {"ratio": 4}
    assert prepare(own).protocol.hash != before
