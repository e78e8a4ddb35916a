"""Writes token files as the tools of each format do."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "uint16": 8}


def tokens(count: int = 2000, vocab: int = 300, dtype: str = "uint16") -> Array:
    """Tokens with some structure; the largest is the last and occurs once."""
    found = (np.arange(count) ** 2 // 7 + np.arange(count)) % (vocab - 1)
    found[-2:] = 0, vocab - 1
    return found.astype(dtype)


def write_llmc(
    path: Path, ids: Array, version: int | None = None, count: int | None = None
) -> None:
    magic, known = (20240801, 7) if ids.dtype == np.uint32 else (20240520, 1)
    header = np.zeros(256, "<i4")
    header[:3] = magic, known if version is None else version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + ids.tobytes())


def write_megatron(
    path: Path,
    ids: Array,
    lengths: Sequence[int],
    pointers: Sequence[int] | None = None,
    code: int | None = None,
) -> None:
    path.write_bytes(ids.tobytes())
    starts = np.cumsum([0, *lengths[:-1]]) * ids.itemsize if pointers is None else pointers
    path.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, code or CODES[ids.dtype.name], len(lengths), len(lengths) + 1)
        + np.array(lengths, "<i4").tobytes()
        + np.array(starts, "<i8").tobytes()
        + np.arange(len(lengths) + 1, dtype="<i8").tobytes()
    )
