"""Models and losses of samples, as users write them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUTS, CLASSES = 8, 3


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(INPUTS, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, CLASSES)

    def logits(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.hidden(F.relu(self.inner(x)))))
        return out


class Classifier(Net):
    """Returns its loss."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(x), label)


class Plain(Net):
    """Returns its logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class Holder(Net):
    """Returns an object with its loss, and takes whatever there is."""

    def forward(self, **batch: Tensor) -> Any:
        return SimpleNamespace(loss=F.cross_entropy(self.logits(batch["x"]), batch["label"]))


class Denoiser(Net):
    """Draws noise by the generator that it asks for."""

    def forward(self, x: Tensor, label: Tensor, *, generator: torch.Generator) -> Tensor:
        size = torch.rand(len(x), 1, device=x.device, generator=generator)
        noise = torch.randn(x.shape, device=x.device, generator=generator)
        masked = torch.randint(0, 2, x.shape, generator=generator).to(x.device)
        logits = self.logits((x + size * noise) * (1 - masked))
        return F.cross_entropy(logits, label)


class Unlike(Net):
    """Asks for other numbers on every batch."""

    def forward(self, x: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(x), 1 + int(torch.rand(1) * 1000), generator=generator)
        return F.cross_entropy(self.logits(x + noise[:, :1]), label)


class Bernoulli(Net):
    def forward(self, x: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
        kept = torch.bernoulli(torch.full_like(x, 0.5), generator=generator)
        return F.cross_entropy(self.logits(x * kept), label)


class OwnDraw(Net):
    """Draws without the generator."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(x + torch.randn_like(x)), label)


class Branching(Net):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        logits = self.logits(x)
        return F.cross_entropy(logits if logits.sum() > 0 else 2 * logits, label)


class Raising(Net):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        raise ValueError("of the user")


KINDS = {
    kind.__name__: kind
    for kind in (
        Classifier,
        Plain,
        Holder,
        Denoiser,
        Unlike,
        Bernoulli,
        OwnDraw,
        Branching,
        Raising,
    )
}


def net(width: int, kind: str = "Classifier") -> nn.Module:
    return KINDS[kind](width)


def smoothed(output: Tensor, batch: Any, smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of logits; the labels are the last of a tuple, or named."""
    label = batch["label"] if isinstance(batch, dict) else batch[-1]
    return F.cross_entropy(output, label, label_smoothing=smoothing)


def mixed(output: Tensor, batch: Any, generator: torch.Generator) -> Tensor:
    """A loss that weights its samples at random."""
    weights = torch.rand(len(output), device=output.device, generator=generator)
    each: Tensor = F.cross_entropy(output, batch["label"], reduction="none")
    return (weights * each).mean()


def by_sample(output: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(output, batch["label"], reduction="none")
