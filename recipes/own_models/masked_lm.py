"""A masked language model on the bytes of Python's own library.

The loss is a function of its own, given in the spec; the mask is drawn from the generator that the
forward asks for.
"""

import sysconfig
from pathlib import Path

import torch
import torch.nn.functional as F
from own_models.blocks import Block
from torch import Tensor, nn
from torch.utils.data import Dataset

LENGTH, MASK, SHARE = 8, 256, 0.15  # bytes of a sample, the token of a hidden byte


class Windows(Dataset):
    """Text cut into samples, a map-style Dataset."""

    def __init__(self, length: int) -> None:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
        text = b"".join(file.read_bytes() for file in files)
        self.bytes = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self.length = length

    def __len__(self) -> int:
        return len(self.bytes) // self.length

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        window = self.bytes[number * self.length : (number + 1) * self.length]
        return {"tokens": window.long()}


def windows(length: int = LENGTH) -> Dataset:
    return Windows(length)


class Encoder(nn.Module):
    def __init__(self, width: int, depth: int, length: int) -> None:
        super().__init__()
        self.token = nn.Embedding(257, width)
        self.position = nn.Parameter(torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits of every byte, and whether it was hidden."""
        hidden = torch.rand(tokens.shape, generator=generator, device=tokens.device) < SHARE
        x = self.token(torch.where(hidden, MASK, tokens)) + self.position
        return self.head(self.norm(self.blocks(x))), hidden


def hidden_bytes(outputs: tuple[Tensor, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy of the bytes that were hidden, in nats."""
    logits, hidden = outputs
    losses = F.cross_entropy(logits.flatten(0, 1), batch["tokens"].flatten(), reduction="none")
    return (losses * hidden.flatten()).sum() / hidden.sum().clamp(min=1)


def model(width: int, depth: int = 2, length: int = LENGTH) -> nn.Module:
    return Encoder(width, depth, length)
