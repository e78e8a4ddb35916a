"""A first spec: which widths suit a model, and what is written for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.sweep.starter import document_of, starter, suitable

HERE = "tests.sweep.test_starter"
CONFIG = Path(__file__).parents[2] / "recipes" / "hf-llama-tiny" / "config.json"


class Attending(nn.Module):
    """One block with `heads` heads; the code does not mind if they have another size."""

    def __init__(self, width: int, vocab: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(vocab, width)
        self.qkv, self.readout = nn.Linear(width, 3 * width), nn.Linear(width, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        B, S, D = x.shape
        q, k, v = (
            part.view(B, S, self.heads, D // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(D, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits: Tensor = self.readout(x + mixed.transpose(1, 2).reshape(B, S, D))
        return logits


def of_head_size_48(width: int, vocab: int) -> nn.Module:
    return Attending(width, vocab, max(1, width // 48))


def of_twenty_heads(width: int, vocab: int) -> nn.Module:
    return Attending(width, vocab, 20)


def of_any_width(width: int, vocab: int) -> nn.Module:
    return nn.Sequential(nn.Embedding(vocab, width), nn.Linear(width, vocab))


def of_images(width: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.readout = nn.Linear(16, width), nn.Linear(width, 4)

        def forward(self, image: Tensor, label: Tensor) -> Tensor:
            return F.cross_entropy(self.readout(torch.relu(self.inner(image))), label)

    return Net()


def images() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(512, 16, generator=generator)
    return {"image": image, "label": image[:, :4].argmax(1)}


@pytest.mark.parametrize(
    ("function", "widths"),
    [
        ("of_any_width", (32, 48, 64, 96, 128, 192)),
        ("of_head_size_48", (48, 96, 144, 192, 288, 384)),
        ("of_twenty_heads", (40, 80, 120, 160, 240, 320)),
    ],
)
def test_heads_are_alike_at_all_widths(function: str, widths: tuple[int, ...]) -> None:
    document = document_of({"factory": f"{HERE}:{function}"}, None)
    assert suitable(document, Path()).widths == widths


def test_a_config_has_the_widths_that_its_heads_allow() -> None:
    found = suitable(document_of({"hf": str(CONFIG)}, None), Path())
    assert (found.base_width, found.widths[0]) == (32, 32)


def test_a_spec_of_own_samples_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notes: list[str] = []
    target = Path("spec.yaml")
    found = starter(f"{HERE}:of_images", f"{HERE}:images", None, target, notes.append)
    target.write_text(found.text)
    spec = load_spec(str(target))[0]
    assert (spec.sweep.size, spec.sweep.widths) == (found.size.trials, found.size.widths)
    assert spec.train.steps == found.size.steps
    low, *_, high = spec.sweep.axes["lr"]
    assert high / low == 16
    raw = yaml.safe_load(found.text)
    assert raw["data"] == {"factory": f"{HERE}:images"}
    assert "context" not in raw["train"]
    held_out = {key: raw["train"][key] for key in ("batch", "eval_batches")}
    assert held_out == {"batch": 32, "eval_batches": 1}, "51 samples are held out"
    assert max(map(len, found.text.splitlines())) <= 100
    assert [note for note in notes if note.startswith("timing steps of 6 widths")]


def test_samples_that_nobody_named_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutransfer_cli.sweep.starter.UNITS", (16, 24))
    with pytest.raises(InputError, match="cannot be run on text, as tokens") as caught:
        starter(f"{HERE}:of_images", None, None, None)
    assert caught.value.remedy == "data"
    assert "\n" not in str(caught.value)


def broken(width: int) -> Any:
    raise RuntimeError("no such layer")


def test_a_model_that_cannot_be_used_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutransfer_cli.sweep.starter.UNITS", (16, 24))
    with pytest.raises(InputError, match=r"no such layer \(test_starter.py:\d+\)"):
        starter(f"{HERE}:broken", None, None, None)
    with pytest.raises(InputError, match="has no function gone"):
        starter(f"{HERE}:gone", None, None, None)
    with pytest.raises(InputError, match="cannot be read"):
        starter(None, None, Path("gone.json"), None)
