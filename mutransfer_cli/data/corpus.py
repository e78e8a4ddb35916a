"""A corpus of tokens: mapped, never held as integers; train and eval parts are disjoint ranges."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.data import DataProtocol
from mutransfer_cli.files.spec import TrainSpec

Tokens = npt.NDArray[np.integer[Any]]
# the same bits: few of torch's kernels take unsigned integers of more than a byte
SIGNED = {np.uint16: np.int16, np.uint32: np.int32, np.uint64: np.int64}


@dataclass(frozen=True)
class Corpus:
    """Tokens split into a train part and, after it, an eval part.

    Attributes:
        train: [train tokens], integers of the file's own type, mapped.
        eval: [eval tokens], alike.
        vocab: of the model; no token is beyond it.
        protocol: what identifies the tokens.
        note: what the data were recognised as, for people; empty where nothing had to be.
    """

    train: Tokens
    eval: Tokens
    vocab: int
    protocol: DataProtocol
    note: str = ""

    @classmethod
    def split(cls, tokens: Tokens, vocab: int, protocol: DataProtocol, note: str = "") -> Corpus:
        split = tokens.size - int(tokens.size * protocol.eval_fraction)
        return cls(tokens[:split], tokens[split:], vocab, protocol, note)


@dataclass(frozen=True)
class DeviceText:
    """A corpus where it is trained on: on a CPU the mapping itself, on CUDA one copy of its bytes.

    Attributes:
        train, eval: tensors of both parts, of the tokens' own size; unsigned ones of more than a
            byte as signed ones of the same bits, which `gather` takes back.
    """

    corpus: Corpus
    train: Tensor
    eval: Tensor

    @classmethod
    def on(cls, device: torch.device, corpus: Corpus) -> DeviceText:
        parts = (tensor_of(part).to(device) for part in (corpus.train, corpus.eval))
        return cls(corpus, *parts)


def tensor_of(tokens: Tokens) -> Tensor:
    """A tensor on the tokens' own memory."""
    return torch.from_numpy(tokens.view(SIGNED.get(tokens.dtype.type, tokens.dtype.type)))


def check_size(corpus: Corpus, train: TrainSpec) -> None:
    """Refuses a corpus too small for one batch of each part.

    Raises:
        InputError: says what is needed.
    """
    unit = "bytes" if corpus.protocol.tokens is None else "tokens"
    parts = [
        ("train", corpus.train.size, train.batch * train.context + 1),
        ("eval", corpus.eval.size, train.eval_batches * train.batch * train.context + 1),
    ]
    for name, size, needed in parts:
        if size < needed:
            raise InputError(
                f"data: the {name} part has {size} {unit} and needs at least {needed} for "
                f"batch {train.batch} x context {train.context}; give more data, smaller batches, "
                "or another data.eval_fraction or train.eval_batches"
            )


def stream_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each (seed, purpose): the same numbers on every device."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def train_offsets(corpus: Corpus, train: TrainSpec, seed: int) -> Tensor:
    """Where each sequence starts in the train part, int64 [steps, batch]; a function of the seed.

    Trials of one seed read the same data in the same order, so that the difference between two
    learning rates is not noise of the data.
    """
    last = corpus.train.size - train.context
    shape = (train.steps, train.batch)
    return torch.randint(last, shape, generator=stream_generator(seed, "data"))


def eval_offsets(corpus: Corpus, train: TrainSpec) -> Tensor:
    """Evenly spread starts in the eval part, int64 [eval_batches, batch]: the same for all."""
    count = train.eval_batches * train.batch
    last = corpus.eval.size - train.context - 1
    return torch.linspace(0, last, count, dtype=torch.float64).long().view(-1, train.batch)


def gather(text: Tensor, offsets: Tensor, context: int) -> Tensor:
    """Sequences of context + 1 tokens, int64 [..., context + 1]."""
    positions = offsets.unsqueeze(-1) + torch.arange(context + 1, device=offsets.device)
    tokens = text[positions].long()
    # 32 and 64 bits need no such: no vocabulary reaches their sign
    return tokens & 0xFFFF if text.dtype == torch.int16 else tokens
