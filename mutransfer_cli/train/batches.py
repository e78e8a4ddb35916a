"""Batches of trials side by side: where a step finds them.

Shapes: T slots, N batches, B sequences or samples of a batch, S context.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText, gather


class Resident:
    """Batches from a part of the text that lies on the device: a step gathers them itself.

    Attributes:
        offsets: where their sequences start, [T, N, B], on the device.
    """

    def __init__(self, part: Tensor, offsets: Tensor, context: int) -> None:
        self.part, self.offsets, self.context = part, offsets.to(part.device), context
        self.each = torch.arange(len(offsets), device=part.device)

    def load(self, index: Sequence[int]) -> None:
        """Nothing: the device has all it needs."""

    def read(self, index: Tensor) -> Tensor:
        """The batch of each slot, [T, B, S + 1], by its index [T]; without a word to the host."""
        return gather(self.part, self.offsets[self.each, index], self.context)


class Streamed:
    """Batches from a part of the text on the host, copied to one place on the device before the
    step that reads them there: to a captured step only what stands in that place is new.

    Attributes:
        offsets: where their sequences start, [T, N, B], on the host.
    """

    def __init__(self, part: Tensor, offsets: Tensor, context: int, device: torch.device) -> None:
        self.part, self.offsets, self.context = part, offsets, context
        self.each = torch.arange(len(offsets))
        self.place = self._gathered([0] * len(offsets)).to(device)

    def load(self, index: Sequence[int]) -> None:
        """Copies the batch of each slot by its index, behind the steps that are queued.

        Nothing waits: torch gives pinned memory out again only when the copy from it is done.
        """
        batch = self._gathered(index)
        if self.place.device.type == "cuda":
            batch = batch.pin_memory()
        self.place.copy_(batch, non_blocking=True)

    def read(self, index: Tensor) -> Tensor:
        """The batches that were loaded last, [T, B, S + 1]: the host knew the index."""
        return self.place

    def _gathered(self, index: Sequence[int]) -> Tensor:
        last = self.offsets.shape[1] - 1
        rows = self.offsets[self.each, torch.tensor(index).clamp(max=last)]
        return gather(self.part, rows, self.context)


def batches(text: DeviceText, part: Tensor, offsets: Tensor, context: int) -> Resident | Streamed:
    """Batches from one of the parts of the text, at offsets [T, N, B]."""
    if text.streamed:
        return Streamed(part, offsets, context, text.device)
    return Resident(part, offsets, context)
