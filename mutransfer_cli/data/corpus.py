"""A corpus of tokens or samples, whose train and eval parts are disjoint ranges, and its batches.

Tokens are mapped and stay in the integers of their file. A batch takes sequences of tokens, or
rows of samples, by their offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mutransfer_cli.data.items import Items
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import Batch, leaves, mapped
from mutransfer_cli.proxies.example import SEQUENCES, Example
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.spec.data import AnyData, DataProtocol, LinearTeacherData, OwnDataProtocol
from mutransfer_cli.spec.model import FunctionSpec
from mutransfer_cli.spec.sweep import TrainSpec

Tokens = npt.NDArray[np.integer[Any]]
Data = npt.NDArray[np.number[Any]]
Shared = DataProtocol | LinearTeacherData  # data that the tool splits itself
Part = Any  # tokens, rows of samples, nested dicts and tuples of arrays of samples, or Items
# types with the same bits: few of torch's kernels take unsigned integers of more than a byte
SIGNED = {np.uint16: np.int16, np.uint32: np.int32, np.uint64: np.int64}
READ_BY_ITEM = "every step reads its batch from the Dataset, on the host"
MOST_OF_DEVICE = 0.25  # share of the free memory that a corpus may take


@dataclass(frozen=True)
class Corpus:
    """Data split into a train part and, after it, an eval part."""

    train: Part
    """[train tokens] in the file's integer type, mapped; or samples, [train samples, ...] each."""
    eval: Part
    """[eval tokens] or samples."""
    vocab: int | None
    """Vocabulary size of the model, above every token; None for samples."""
    protocol: AnyData
    """The record that identifies the data."""
    note: str = ""
    """How the data were recognised, for people; may be empty."""

    @classmethod
    def split(cls, data: Data, vocab: int | None, protocol: Shared, note: str = "") -> Corpus:
        """Split data so that the protocol's share at the end is the eval part."""
        split = len(data) - int(len(data) * protocol.eval_fraction)
        return cls(data[:split], data[split:], vocab, protocol, note)

    @property
    def of_samples(self) -> bool:
        """Whether the data are rows of samples, not tokens."""
        return self.vocab is None

    @property
    def of_items(self) -> bool:
        """Whether a part is read item by item on the host."""
        return any(isinstance(part, Items) for part in (self.train, self.eval))

    def example(self, context: int, loss: FunctionSpec | None = None) -> Example:
        """A small batch to run a model on, and the loss of samples."""
        if self.vocab is not None:
            return Example.of_tokens(context, self.vocab)
        first = torch.arange(min(SEQUENCES, size_of(self.eval)))
        return Example(rows(mapped(tensor_of, self.eval), first), None, loss)


@dataclass(frozen=True)
class DeviceText:
    """A corpus for training on a device, as tensors that share memory with its arrays, or copies.

    Unsigned types of more than a byte become signed ones with the same bits; `gather` undoes it.
    """

    corpus: Corpus
    device: torch.device
    """The device that trains."""
    train: Batch
    eval: Batch
    streamed: bool = False
    """Whether the parts stay on the host, and every batch is copied to the device."""
    note: str = ""
    """The reason for that, for people."""

    @classmethod
    def on(cls, device: torch.device, corpus: Corpus) -> DeviceText:
        """Share memory on a CPU, copy to CUDA, or stream if a copy would take too much memory."""
        train, held_out = mapped(tensor_of, (corpus.train, corpus.eval))
        if corpus.of_items:
            note = "" if device.type == "cpu" else READ_BY_ITEM
            return cls(corpus, device, train, held_out, streamed=True, note=note)
        if device.type == "cpu":
            return cls(corpus, device, train, held_out)
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        size = sum(x.nbytes for _, x in leaves((train, held_out)))
        if note := why_streamed(size, free):
            return cls(corpus, device, train, held_out, streamed=True, note=note)
        train, held_out = mapped(lambda x: x.to(device), (train, held_out))
        return cls(corpus, device, train, held_out)

    def gather(self, part: Batch, offsets: Tensor, context: int) -> Batch:
        """Gather a batch of one of the two parts where it lies, as are the offsets."""
        if self.corpus.of_samples:
            return rows(part, offsets)
        return gather(part, offsets, context)

    def batch(self, part: Batch, offsets: Tensor, context: int) -> Batch:
        """Gather a batch of one of the two parts on the device."""
        batch = self.gather(part, offsets.to(place_of(part)), context)
        return mapped(lambda x: x.to(self.device), batch)


def why_streamed(size: int, free: int) -> str:
    """Why a corpus of `size` bytes stays on the host; empty if it fits beside training."""
    if size <= MOST_OF_DEVICE * free:
        return ""
    return (
        f"the data stay on the host, because their {size / 1e9:.1f} GB are more than "
        f"{100 * MOST_OF_DEVICE:.0f}% of the {free / 1e9:.1f} GB free on the device: every step "
        "copies its batch there"
    )


def size_of(part: Part) -> int:
    """Number of tokens or samples of a part."""
    _, first = next(leaves(part))
    return len(first)


def place_of(part: Batch) -> torch.device:
    """The device that a part lies on."""
    _, first = next(leaves(part))
    device: torch.device = first.device
    return device


def rows(part: Batch, offsets: Tensor) -> Batch:
    """Samples by their indices, [*offsets, ...] each."""
    return mapped(lambda x: x.batch(offsets) if isinstance(x, Items) else x[offsets], part)


def tensor_of(data: Data | Items) -> Tensor | Items:
    """A tensor that shares the memory of the data; items as they are."""
    if isinstance(data, Items):
        return data
    return torch.from_numpy(data.view(SIGNED.get(data.dtype.type, data.dtype.type)))


def check_size(corpus: Corpus, train: TrainSpec) -> None:
    """Check that both parts hold a batch of tokens, or enough samples to be seen at most once.

    Raises:
        InputError: a part is too small; the message has the size that is needed.
    """
    protocol, eval_items = corpus.protocol, train.eval_batches * train.batch
    if isinstance(protocol, DataProtocol):
        unit, what = "bytes" if protocol.tokens is None else "tokens", "data"
        use = f"batch {train.batch} x context {train.context}"
        needed = train.batch * train.context + 1, eval_items * train.context + 1
    elif isinstance(protocol, OwnDataProtocol):
        unit, what, use = "samples", "samples", f"batches of {train.batch}"
        needed = train.batch, eval_items
    else:
        unit, what = "samples", "data.samples, fewer steps"
        use = f"{train.steps} steps of batch {train.batch}, in which none is seen twice"
        needed = train.steps * train.batch, eval_items
    sizes = {"train": (corpus.train, needed[0]), "eval": (corpus.eval, needed[1])}
    for name, (part, least) in sizes.items():
        if size_of(part) < least:
            raise InputError(
                f"data: the {name} part has {size_of(part)} {unit} and needs at least {least} for "
                f"{use}; give more {what}, smaller batches, "
                "or another data.eval_fraction or train.eval_batches"
            )


def train_offsets(corpus: Corpus, train: TrainSpec, seed: int) -> Tensor:
    """Starts of sequences, or indices of samples, in the train part, int64 [steps, batch].

    Trials of one seed read the same data in the same order, so that the difference between two
    learning rates is not noise of the data. Every sample is drawn once before any is drawn again.
    """
    generator, shape = stream_generator(seed, "data"), (train.steps, train.batch)
    if corpus.of_samples:
        size, count = size_of(corpus.train), train.steps * train.batch
        epochs = [torch.randperm(size, generator=generator) for _ in range(-(-count // size))]
        return torch.cat(epochs)[:count].view(shape)
    return torch.randint(size_of(corpus.train) - train.context, shape, generator=generator)


def eval_offsets(corpus: Corpus, train: TrainSpec) -> Tensor:
    """Evenly spaced starts in the eval part, int64 [eval_batches, batch], the same for all."""
    count = train.eval_batches * train.batch
    span = 1 if corpus.of_samples else train.context + 1
    last = size_of(corpus.eval) - span
    return torch.linspace(0, last, count, dtype=torch.float64).long().view(-1, train.batch)


def gather(data: Tensor, offsets: Tensor, context: int) -> Tensor:
    """Sequences of context + 1 tokens, int64 [..., context + 1]."""
    positions = offsets.unsqueeze(-1) + torch.arange(context + 1, device=offsets.device)
    tokens = data[positions].long()
    # no vocabulary reaches the sign bit of 32 and 64 bits
    return tokens & 0xFFFF if data.dtype == torch.int16 else tokens
