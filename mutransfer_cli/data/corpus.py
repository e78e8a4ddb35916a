"""A corpus, tokens in a row or samples row by row: train and eval parts are disjoint ranges.

Tokens are mapped, never held as integers. Samples are independent: a batch takes rows of them as it
takes sequences of tokens, by their offsets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import AnyData, DataProtocol
from mutransfer_cli.spec.sweep import TrainSpec

Tokens = npt.NDArray[np.integer[Any]]
Data = npt.NDArray[np.number[Any]]  # tokens or samples
# the same bits: few of torch's kernels take unsigned integers of more than a byte
SIGNED = {np.uint16: np.int16, np.uint32: np.int32, np.uint64: np.int64}
MOST_OF_DEVICE = 0.25  # of its free memory, that a corpus may take


@dataclass(frozen=True)
class Corpus:
    """Data split into a train part and, after it, an eval part.

    Attributes:
        train: [train tokens], integers of the file's own type, mapped; or [train samples, values].
        eval: [eval tokens] or [eval samples, values], alike.
        vocab: of the model, no token is beyond it; None for samples.
        protocol: what identifies the data.
        note: what the data were recognised as, for people; empty where nothing had to be.
    """

    train: Data
    eval: Data
    vocab: int | None
    protocol: AnyData
    note: str = ""

    @classmethod
    def split(cls, data: Data, vocab: int | None, protocol: AnyData, note: str = "") -> Corpus:
        split = len(data) - int(len(data) * protocol.eval_fraction)
        return cls(data[:split], data[split:], vocab, protocol, note)

    @property
    def of_samples(self) -> bool:
        return self.train.ndim == 2


@dataclass(frozen=True)
class DeviceText:
    """A corpus for a device that trains on it: on a CPU the arrays themselves, on CUDA one copy of
    them there, or, where that would fill the device, the arrays on the host.

    Attributes:
        device: that trains, wherever the text lies.
        train, eval: tensors of both parts, of the data's own size; unsigned ones of more than a
            byte as signed ones of the same bits, which `gather` takes back.
        streamed: the parts lie on the host, and every batch is copied to the device by itself.
        note: why, a sentence for people; empty where nothing is streamed.
    """

    corpus: Corpus
    device: torch.device
    train: Tensor
    eval: Tensor
    streamed: bool = False
    note: str = ""

    @classmethod
    def on(cls, device: torch.device, corpus: Corpus) -> DeviceText:
        train, held_out = tensor_of(corpus.train), tensor_of(corpus.eval)
        if device.type == "cpu":
            return cls(corpus, device, train, held_out)
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        if note := why_streamed(train.nbytes + held_out.nbytes, free):
            return cls(corpus, device, train, held_out, streamed=True, note=note)
        return cls(corpus, device, train.to(device), held_out.to(device))

    def batch(self, part: Tensor, offsets: Tensor, context: int) -> Tensor:
        """`gather` of one of the two parts, wherever they lie, on the device."""
        return gather(part, offsets.to(part.device), context).to(self.device)


def why_streamed(size: int, free: int) -> str:
    """Empty where a corpus fits beside what training needs.

    Args:
        size: of the corpus, free: on the device, bytes.
    """
    if size <= MOST_OF_DEVICE * free:
        return ""
    return (
        f"the data stay on the host, for their {size / 1e9:.1f} GB are more than "
        f"{100 * MOST_OF_DEVICE:.0f} % of the {free / 1e9:.1f} GB free on the device: every step "
        "copies its batch there"
    )


def tensor_of(data: Data) -> Tensor:
    """A tensor on the data's own memory."""
    return torch.from_numpy(data.view(SIGNED.get(data.dtype.type, data.dtype.type)))


def check_size(corpus: Corpus, train: TrainSpec) -> None:
    """Refuses a corpus too small for one batch of tokens of each part, or with too few samples for
    every one to be seen once at most.

    Raises:
        InputError: says what is needed.
    """
    protocol, eval_items = corpus.protocol, train.eval_batches * train.batch
    if isinstance(protocol, DataProtocol):
        unit, what = "bytes" if protocol.tokens is None else "tokens", "data"
        use = f"batch {train.batch} x context {train.context}"
        needed = train.batch * train.context + 1, eval_items * train.context + 1
    else:
        unit, what = "samples", "data.samples, fewer steps"
        use = f"{train.steps} steps of batch {train.batch}, in which none is seen twice"
        needed = train.steps * train.batch, eval_items
    sizes = {"train": (corpus.train, needed[0]), "eval": (corpus.eval, needed[1])}
    for name, (part, least) in sizes.items():
        if len(part) < least:
            raise InputError(
                f"data: the {name} part has {len(part)} {unit} and needs at least {least} for "
                f"{use}; give more {what}, smaller batches, "
                "or another data.eval_fraction or train.eval_batches"
            )


def stream_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each (seed, purpose): the same numbers on every device."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def train_offsets(corpus: Corpus, train: TrainSpec, seed: int) -> Tensor:
    """Where each sequence or sample starts in the train part, int64 [steps, batch]; a function of
    the seed.

    Trials of one seed read the same data in the same order, so that the difference between two
    learning rates is not noise of the data. No sample is drawn twice.
    """
    generator, shape = stream_generator(seed, "data"), (train.steps, train.batch)
    if corpus.of_samples:
        order = torch.randperm(len(corpus.train), generator=generator)
        return order[: train.steps * train.batch].view(shape)
    return torch.randint(len(corpus.train) - train.context, shape, generator=generator)


def eval_offsets(corpus: Corpus, train: TrainSpec) -> Tensor:
    """Evenly spread starts in the eval part, int64 [eval_batches, batch]: the same for all."""
    count = train.eval_batches * train.batch
    span = 1 if corpus.of_samples else train.context + 1
    last = len(corpus.eval) - span
    return torch.linspace(0, last, count, dtype=torch.float64).long().view(-1, train.batch)


def gather(data: Tensor, offsets: Tensor, context: int) -> Tensor:
    """Sequences of context + 1 tokens, int64 [..., context + 1]; of samples their rows."""
    if data.dim() == 2:
        return data[offsets]
    positions = offsets.unsqueeze(-1) + torch.arange(context + 1, device=offsets.device)
    tokens = data[positions].long()
    # 32 and 64 bits need no such: no vocabulary reaches their sign
    return tokens & 0xFFFF if data.dtype == torch.int16 else tokens
