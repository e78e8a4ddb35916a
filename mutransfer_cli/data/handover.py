"""A corpus for another process of this machine: a file that both map, whatever its size.

The file is passed on open, not by name, so that a temporary one needs no name and no clean-up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from mutransfer_cli.data.corpus import Corpus, Data
from mutransfer_cli.data.mapped import temporary_folder_full


@dataclass(frozen=True)
class Place:
    """Where an array lies in a file; `offset` in bytes."""

    dtype: str
    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Handover:
    """All of a corpus but its file.

    Attributes:
        corpus: without its arrays.
    """

    corpus: Corpus
    train: Place
    eval: Place

    def taken(self, descriptor: int) -> Corpus:
        """The corpus, mapped from the file of this descriptor, which is closed."""
        with os.fdopen(descriptor, "rb") as file:
            train, eval_ = (
                np.memmap(file, place.dtype, "c", place.offset, place.shape)
                for place in (self.train, self.eval)
            )
        return replace(self.corpus, train=train, eval=eval_)


@contextmanager
def handed_over(corpus: Corpus) -> Iterator[tuple[Handover, IO[bytes]]]:
    """Yields all that another process needs, and the open file that goes with it.

    Tokens that are mapped from a file stay there; all else is written into a temporary one.

    Raises:
        StorageError: the temporary folder is full.
    """
    nothing = corpus.train[:0].copy()
    bare = replace(corpus, train=nothing, eval=nothing)
    path = file_of(corpus.train)
    with path.open("rb") if path else temporary(corpus) as file:
        train = place_of(corpus.train, offset_of(corpus.train) if path else 0)
        behind = offset_of(corpus.eval) if path else corpus.train.nbytes
        yield Handover(bare, train, place_of(corpus.eval, behind)), file


def place_of(data: Data, offset: int) -> Place:
    return Place(data.dtype.str, offset, data.shape)


def file_of(data: Data) -> Path | None:
    """The file that an array is mapped from; None for one in memory or in a file without a name."""
    name = data.filename if isinstance(data, np.memmap) else None
    return Path(name) if name else None


def offset_of(data: Data) -> int:
    """The byte of its file at which a mapped array, or a slice of one, begins."""
    whole = data
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    assert isinstance(whole, np.memmap), "called with mapped arrays"
    return int(whole.offset + data.ctypes.data - whole.ctypes.data)


def temporary(corpus: Corpus) -> IO[bytes]:
    """Both arrays, one behind the other, in a file without a name."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
        for data in (corpus.train, corpus.eval):
            file.write(np.ascontiguousarray(data).data)
        file.flush()
    except OSError as error:
        raise temporary_folder_full(error) from error
    return file
