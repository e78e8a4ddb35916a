"""Synthetic data with a known lowest loss: samples of a linear teacher, tokens of a Markov chain.

Samples are drawn on the CPU, so that they are the same for every training device. In the
first-order chain the successors of every token have the same probabilities, proportional to
1/rank^2, ranked in a different order, so that the entropy rate is exactly that of these
probabilities. Tokens are drawn with integers, so that they are the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.mapped import smallest_dtype, spooled
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.spec.data import LinearTeacherData, MarkovData

SAMPLES_AT_ONCE = 1 << 12  # fixed, so that more samples begin with the same ones
TOKENS_AT_ONCE = 1 << 16
FINENESS = 1 << 32


def linear_teacher_corpus(spec: LinearTeacherData) -> Corpus:
    """The corpus of `linear_teacher_samples`."""
    note = (
        f"data: linear teacher, {spec.samples:,} samples of {spec.inputs} inputs and "
        f"{spec.outputs} outputs; no mean squared error stays below that of its noise, "
        f"{spec.noise**2:.4g}"
    )
    return Corpus.split(linear_teacher_samples(spec).numpy(), None, spec, note)


def teacher(spec: LinearTeacherData) -> Tensor:
    """The fixed matrix W, float64 [outputs, inputs]."""
    weights_OI = torch.randn(
        spec.outputs,
        spec.inputs,
        generator=stream_generator(spec.seed, "teacher"),
        dtype=torch.float64,
    )
    return weights_OI.mul_(spec.inputs**-0.5)


def linear_teacher_samples(spec: LinearTeacherData) -> Tensor:
    """Draw rows of inputs and then targets, float32 [samples, inputs + outputs]."""
    generator, weights_OI = stream_generator(spec.seed, "samples"), teacher(spec)
    inputs = spec.inputs
    rows = torch.empty(spec.samples, inputs + spec.outputs)
    for start in range(0, spec.samples, SAMPLES_AT_ONCE):
        block = rows[start : start + SAMPLES_AT_ONCE]
        # always draw a whole block, so that a shorter last one begins with the same samples
        block.copy_(torch.randn(SAMPLES_AT_ONCE, rows.shape[1], generator=generator)[: len(block)])
        x_BI, noise_BO = block[:, :inputs].double(), block[:, inputs:].double()
        block[:, inputs:] = x_BI @ weights_OI.mT + spec.noise * noise_BO
    return rows


def markov_corpus(spec: MarkovData) -> Corpus:
    """The corpus of `markov_tokens`, in a temporary file."""
    mapped = spooled(markov_tokens(spec), smallest_dtype(spec.vocab))
    protocol = mapped.protocol(spec.source, spec.eval_fraction)
    note = (
        f"data: markov, {spec.length:,} tokens, vocabulary {spec.vocab}; no loss stays below its "
        f"entropy rate, {entropy_rate(spec.vocab):.4f} nats"
    )
    return Corpus.split(mapped.tokens, spec.vocab, protocol, note)


def weights(vocab: int) -> npt.NDArray[np.uint64]:
    """Unnormalised probabilities of the next token by rank, uint64 [vocab]."""
    ranks = np.arange(1, vocab + 1, dtype=np.uint64)
    return np.uint64(FINENESS) // (ranks * ranks)


def entropy_rate(vocab: int) -> float:
    """The entropy rate in nats per token."""
    shares = weights(vocab) / weights(vocab).sum()
    return float(-(shares * np.log(shares)).sum())


def markov_tokens(spec: MarkovData) -> Iterator[npt.NDArray[Any]]:
    """Draw `length` tokens, a block at a time."""
    digest = hashlib.sha256(f"markov:{spec.seed}".encode()).digest()
    bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))
    raw = bits.random_raw(spec.vocab * spec.vocab).reshape(spec.vocab, spec.vocab)
    followers = raw.argsort(axis=1, kind="stable").tolist()
    ends = weights(spec.vocab).cumsum()
    token = 0
    for start in range(0, spec.length, TOKENS_AT_ONCE):
        count = min(TOKENS_AT_ONCE, spec.length - start)
        ranks = np.searchsorted(ends, bits.random_raw(count) % ends[-1], side="right")
        block = []
        for rank in ranks.tolist():
            token = followers[token][rank]
            block.append(token)
        yield np.array(block)
