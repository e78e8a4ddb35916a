"""Samples as users make them, each by a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

SIZE, CLASSES = 240, 3


def columns(size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Points around three centres, and the numbers of these."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    centres = 2 * torch.randn(CLASSES, 8, generator=generator)
    return centres[labels] + 0.3 * torch.randn(size, 8, generator=generator), labels


class Pair(NamedTuple):
    x: Tensor
    label: Tensor


class Points(Dataset[Any]):
    """The same as a Dataset whose samples are computed."""

    def __init__(self, size: int = SIZE, form: str = "dict") -> None:
        self.points, self.form = columns(size), form

    def __len__(self) -> int:
        return len(self.points[0])

    def __getitem__(self, number: int) -> Any:
        x, label = (column[number] for column in self.points)
        if self.form == "tuple":
            return x.numpy(), int(label)
        return {"x": x, "label": label, "number": number}


def as_tuple(size: int = SIZE) -> Any:
    return columns(size)


def as_dict(size: int = SIZE) -> Any:
    x, label = columns(size)
    return {"x": x.numpy(), "label": label}


def as_tensor() -> Any:
    return columns()[0]


def named() -> Any:
    return Pair(*columns())


def nested() -> Any:
    x, label = columns()
    return {"x": (x[:, :4], [x[:, 4:]]), "label": label}


def as_tensor_dataset() -> Any:
    return TensorDataset(*columns())


def as_dataset(form: str = "dict") -> Any:
    return Points(form=form)


def datasets() -> Any:
    return Points(200), Points(40)


def parts() -> Any:
    return {"train": as_dict(200), "eval": as_dict(40)}


def unsigned() -> Any:
    return {"x": np.full((SIZE, 2), 60000, np.uint16), "label": torch.ones(SIZE).bfloat16()}


def mapped_file(folder: str) -> Any:
    path = Path(folder) / "x.npy"
    if not path.exists():
        np.save(path, columns()[0].numpy())
    return np.load(path, mmap_mode="r")


# what cannot be read


def text() -> Any:
    return "a text"


def nothing() -> Any:
    return torch.zeros(0, 3)


def of_other_sizes() -> Any:
    return {"x": torch.zeros(5, 2), "label": torch.zeros(4)}


def of_other_parts() -> Any:
    return {"train": torch.zeros(5, 2), "eval": torch.zeros(5, 3)}


def raises() -> Any:
    raise KeyError("no such file")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


def stream() -> Any:
    return Stream()


class Bad(Points):
    """A Dataset that goes wrong in one way."""

    def __getitem__(self, number: int) -> Any:
        if self.form == "ragged":
            return torch.zeros(3 + number % 2)
        if self.form == "other keys":
            return {"x": 0.0} if number % 2 else {"y": 0.0}
        if self.form == "random":
            return torch.rand(3)
        if self.form == "text":
            return {"caption": "a text"}
        return [0][number + 1]


def bad(form: str) -> Any:
    return Bad(form=form)
