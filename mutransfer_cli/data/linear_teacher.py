"""Synthetic samples of a linear teacher: a task whose best loss is known, for an mlp.

Drawn on the CPU: the same numbers whatever device trains on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mutransfer_cli.data.corpus import Corpus, stream_generator
from mutransfer_cli.files.data import LinearTeacherData

DRAWN_AT_ONCE = 1 << 12  # a larger `samples` begins with the same ones


def linear_teacher_corpus(spec: LinearTeacherData) -> Corpus:
    """Rows of inputs and then targets, float32 [samples, inputs + outputs]."""
    note = (
        f"data: linear teacher, {spec.samples:,} samples of {spec.inputs} inputs and "
        f"{spec.outputs} outputs; no mean squared error stays below that of its noise, "
        f"{spec.noise**2:.4g}"
    )
    return Corpus.split(linear_teacher_samples(spec).numpy(), None, spec, note)


def teacher(spec: LinearTeacherData) -> Tensor:
    """W [outputs, inputs], float64."""
    weights_OI = torch.randn(
        spec.outputs,
        spec.inputs,
        generator=stream_generator(spec.seed, "teacher"),
        dtype=torch.float64,
    )
    return weights_OI.mul_(spec.inputs**-0.5)


def linear_teacher_samples(spec: LinearTeacherData) -> Tensor:
    generator, weights_OI = stream_generator(spec.seed, "samples"), teacher(spec)
    inputs = spec.inputs
    rows = torch.empty(spec.samples, inputs + spec.outputs)
    for start in range(0, spec.samples, DRAWN_AT_ONCE):
        block = rows[start : start + DRAWN_AT_ONCE]
        # drawn whole, so that a shorter last block does not change what is in it
        block.copy_(torch.randn(DRAWN_AT_ONCE, rows.shape[1], generator=generator)[: len(block)])
        x_BI, noise_BO = block[:, :inputs].double(), block[:, inputs:].double()
        block[:, inputs:] = x_BI @ weights_OI.mT + spec.noise * noise_BO
    return rows
