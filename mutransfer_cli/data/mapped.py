"""Tokens in files: read once for their digest, then mapped. Several files are joined first.

Whatever is not one range of one file is written into an unnamed temporary file and mapped there.

MERGED:
A corpus for another process of this machine: a file that both map, whatever its size.

The file is passed on open, not by name, so that a temporary one needs no name and no clean-up.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mutransfer_cli.data.corpus import Corpus, Data, Tokens
from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.spec.data import DataProtocol

CHUNK = 1 << 20  # bytes; whole tokens of every type


@dataclass(frozen=True)
class Piece:
    """A range of a file that is nothing but tokens."""

    path: Path
    dtype: np.dtype[Any]
    offset: int
    count: int

    @property
    def end(self) -> int:
        return self.offset + self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Mapped:
    """
    Attributes:
        tokens: copy-on-write, as torch refuses to share memory that it may not write.
        sha256: of their bytes.
        largest: token; -1 where there is none.
    """

    tokens: Tokens
    sha256: str
    largest: int

    def protocol(
        self,
        source: str,
        eval_fraction: float,
        kind: str | None = None,
        tokenizer_sha256: str | None = None,
    ) -> DataProtocol:
        """What identifies these tokens as data."""
        return DataProtocol(
            source=source,
            sha256=self.sha256,
            bytes=self.tokens.nbytes,
            eval_fraction=eval_fraction,
            kind=kind,
            tokens=self.tokens.size,
            dtype=self.tokens.dtype.name,
            tokenizer_sha256=tokenizer_sha256,
        )


class Spool:
    """Tokens written one after another into an unnamed temporary file, then mapped there."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.largest = -1
        self._digest = hashlib.sha256()
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise temporary_folder_full(error) from error

    def write(self, tokens: npt.NDArray[Any]) -> None:
        """Adds tokens that are known to fit the type."""
        if not tokens.size:
            return
        self.largest = max(self.largest, int(tokens.max()))
        data = tokens.astype(self.dtype, copy=False).tobytes()
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise temporary_folder_full(error) from error

    def mapped(self) -> Mapped:
        try:
            self._file.flush()
        except OSError as error:
            raise temporary_folder_full(error) from error
        count = self._file.tell() // self.dtype.itemsize
        tokens = map_range(self._file, self.dtype, 0, count)
        return Mapped(tokens, self._digest.hexdigest(), self.largest)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk refuses the rest at closing too, and has been told of
            if error is None:
                raise


def spooled(parts: Iterable[npt.NDArray[Any]], dtype: npt.DTypeLike) -> Mapped:
    with Spool(dtype) as spool:
        for part in parts:
            spool.write(part)
        return spool.mapped()


def map_pieces(pieces: Sequence[Piece], vocab: int) -> Mapped:
    """All pieces in order, which are of one type; one is mapped where it lies.

    Raises:
        InputError: a token beyond the vocabulary, with its place; a file that shrinks meanwhile.
    """
    if len(pieces) > 1:
        return spooled((part for piece in pieces for part in read(piece, vocab)), pieces[0].dtype)
    digest, largest = hashlib.sha256(), -1
    for part in read(pieces[0], vocab):
        digest.update(part.data)
        largest = max(largest, int(part.max()))
    with pieces[0].path.open("rb") as source:
        tokens = map_range(source, pieces[0].dtype, pieces[0].offset, pieces[0].count)
    return Mapped(tokens, digest.hexdigest(), largest)


def read(piece: Piece, vocab: int) -> Iterator[npt.NDArray[Any]]:
    """The tokens of a piece a chunk at a time, each found to be below `vocab`."""
    with piece.path.open("rb") as source:
        source.seek(piece.offset)
        while (at := source.tell()) < piece.end:
            data = source.read(min(CHUNK, piece.end - at))
            if len(data) % piece.dtype.itemsize or not data:
                raise InputError(
                    f"data: {piece.path} ends at byte {at + len(data)} and had {piece.end} bytes "
                    "a moment ago; wait until it is written"
                )
            part = np.frombuffer(data, piece.dtype)
            place = outside(part, vocab)
            if place is not None:
                byte = at + place * piece.dtype.itemsize
                raise InputError(
                    f"data: {piece.path}: token {part[place]} at position "
                    f"{(byte - piece.offset) // piece.dtype.itemsize} (byte {byte}) is not in a "
                    f"vocabulary of {vocab}; give the data.vocab that the tokens were made with, "
                    f"or their data.dtype if they are not {piece.dtype.name}"
                )
            yield part


def outside(tokens: npt.NDArray[Any], vocab: int) -> int | None:
    """Where the first token outside a vocabulary stands."""
    if not tokens.size or (tokens.max() < vocab and tokens.min() >= 0):
        return None
    return int(((tokens >= vocab) | (tokens < 0)).argmax())


def smallest_dtype(vocab: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if vocab <= 1 << 16 else np.uint32)


def map_range(source: IO[bytes], dtype: np.dtype[Any], offset: int, count: int) -> Tokens:
    if not count:
        return np.empty(0, dtype)
    return np.memmap(source, dtype, mode="c", offset=offset, shape=(count,))


def temporary_folder_full(error: OSError) -> StorageError:
    return StorageError(
        f"data: {tempfile.gettempdir()}: cannot hold the joined tokens ({error.strerror}); "
        "set TMPDIR to a folder with more space, or give one file of them"
    )


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
