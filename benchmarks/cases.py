"""Trials for the benchmarks: one width, on synthetic tokens that are free to generate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.proxies.build import read_model
from mutransfer_cli.spec.data import DataProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep, expand
from mutransfer_cli.train.device import DeviceName, choose_device
from mutransfer_cli.train.slots import Job

TOKENS = 1 << 20
MOST_STEPS = 5000  # per trial; no contender is timed for more in total
SEEDS = (0, 1)


@dataclass(frozen=True)
class Case:
    """A part of the benchmark: what all contenders train.

    At the base width every parameterization is the plain model, so an ordinary module with one
    rate is the same trial. The schedule is constant, so no contender has to compute one.

    Attributes:
        trials: number of trials, even, because each rate is trained with two seeds.
    """

    width: int
    vocab: int
    batch: int
    context: int
    trials: int
    depth: int
    head_size: int
    device_name: DeviceName

    @property
    def title(self) -> str:
        return f"vocab {self.vocab}, batch {self.batch} x {self.context}, width {self.width}"

    @property
    def precision(self) -> str:
        return "bf16" if self.device_name == "cuda" else "fp32"

    def device(self) -> torch.device:
        """Return the device and set its matrix precision for this process."""
        return choose_device(self.device_name, self.precision)

    def sweep(self) -> Sweep:
        corpus = zipf_corpus(self.vocab)
        spec = validated(SweepSpec, self._raw_spec(), "benchmark")
        protocol = Protocol.of(spec, corpus.protocol, self.vocab)
        found = read_model(protocol.model, self.context, self.width)
        return Sweep(protocol, corpus, found.base_plan, expand(spec.sweep, protocol.hash))

    def jobs(self, sweep: Sweep) -> list[Job]:
        return sweep.jobs(sweep.trials[self.width])

    def _raw_spec(self) -> dict[str, object]:
        rates = self.trials // len(SEEDS)
        # below the best rate, where rounding errors do not grow; it scales roughly as 1 / width
        lr = [2.0 ** (-k / rates) / (2 * self.width) for k in range(rates)]
        return {
            "schema": "mutransfer.sweep/1",
            "model": {"depth": self.depth, "head_size": self.head_size},
            "data": {"source": "stdlib"},
            "parameterization": {"name": "mup", "base_width": self.width},
            "train": {
                "steps": MOST_STEPS,
                "batch": self.batch,
                "context": self.context,
                "schedule": "constant",
                "precision": self.precision,
            },
            "sweep": {"widths": [self.width], "axes": {"lr": lr}, "seeds": SEEDS},
        }


def zipf_corpus(vocab: int) -> Corpus:
    """Independent Zipf tokens: the k-th is 1/k as frequent as the first; fixed seed."""
    chance = np.random.default_rng(0)
    weights = 1 / np.arange(1, vocab + 1)
    tokens = chance.choice(vocab, TOKENS, p=weights / weights.sum()).astype(np.int32)
    protocol = DataProtocol(source="zipf", sha256="", bytes=TOKENS, eval_fraction=0.1)
    split = TOKENS - TOKENS // 10
    return Corpus(tokens[:split], tokens[split:], vocab, protocol)
