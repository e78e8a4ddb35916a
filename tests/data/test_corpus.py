"""Placement of a corpus during training: on the device or on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from mutransfer_cli.data.corpus import DeviceText, gather, why_streamed
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU

GB = 10**9


def test_a_corpus_may_take_a_quarter_of_what_is_free_on_a_device() -> None:
    assert why_streamed(10 * GB, 40 * GB) == ""
    assert why_streamed(10 * GB + 1, 40 * GB) == (
        "the data stay on the host, because their 10.0 GB are more than 25% of the 40.0 GB free "
        "on the device: every step copies its batch there"
    )


def test_on_a_cpu_nothing_is_streamed(
    tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]
) -> None:
    text = DeviceText.on(CPU, prepare(tiny).corpus)
    assert (text.device, text.streamed, text.note) == (CPU, False, "")


def test_a_batch_of_a_text_on_the_host_is_on_the_device(
    tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]
) -> None:
    """The device `meta` stands for any device: its tensors have shapes and no values."""
    text = DeviceText.on(CPU, prepare(tiny).corpus)
    starts = torch.tensor([[3, 5], [8, 13]])
    assert torch.equal(text.batch(text.eval, starts, 4), gather(text.eval, starts, 4))
    elsewhere = replace(text, device=torch.device("meta"), streamed=True)
    batch = elsewhere.batch(elsewhere.eval, starts, 4)
    assert (batch.device.type, batch.shape) == ("meta", (2, 2, 5))
