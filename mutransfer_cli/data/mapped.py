"""Tokens in files: read once for their digest, then mapped, never held as a whole.

Whatever is not one range of one file (several shards, tokenised text) is written into an unnamed
temporary file and mapped there. Another process on the machine receives a corpus as an open file
that both processes map.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mutransfer_cli.data.corpus import Corpus, Data, Tokens
from mutransfer_cli.data.items import Items
from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.proxies.batch import mapped
from mutransfer_cli.spec.data import DataProtocol

ALIGNED = 64  # bytes; a multiple of the size of every type
CHUNK = 1 << 20  # bytes; a multiple of the size of every token type


@dataclass(frozen=True)
class Piece:
    """A range of a file that holds only tokens; `offset` in bytes, `count` in tokens."""

    path: Path
    dtype: np.dtype[Any]
    offset: int
    count: int

    @property
    def end(self) -> int:
        """The byte after the last token."""
        return self.offset + self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Mapped:
    """Mapped tokens."""

    tokens: Tokens
    """Copy-on-write, because torch refuses to share memory that it may not write."""
    sha256: str
    """Hash of their bytes; hex."""
    largest: int
    """The largest token; -1 if there is none."""

    def protocol(
        self,
        source: str,
        eval_fraction: float,
        kind: str | None = None,
        tokenizer_sha256: str | None = None,
    ) -> DataProtocol:
        """The record that identifies these tokens as data."""
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


def spooled(parts: Iterable[npt.NDArray[Any]], dtype: npt.DTypeLike) -> Mapped:
    """Write parts of tokens, which fit into `dtype`, to an unnamed temporary file and map it.

    Raises:
        StorageError: the temporary folder is full.
    """
    dtype, digest, largest = np.dtype(dtype), hashlib.sha256(), -1
    with _temporary_file() as file:
        for part in parts:
            if part.size:
                largest = max(largest, int(part.max()))
                data = part.astype(dtype, copy=False).tobytes()
                digest.update(data)
                with _refusing_a_full_folder():
                    file.write(data)
        with _refusing_a_full_folder():
            file.flush()
        tokens = _map_range(file, dtype, 0, file.tell() // dtype.itemsize)
    return Mapped(tokens, digest.hexdigest(), largest)


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    with _refusing_a_full_folder():
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    try:
        yield file
    finally:
        # a full folder, which was reported, refuses what is still buffered once more
        with suppress(OSError):
            file.close()


@contextmanager
def _refusing_a_full_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"data: {tempfile.gettempdir()}: cannot hold the joined tokens ({error.strerror}); "
            "set TMPDIR to a folder with more space, or give one file of them"
        ) from error


def map_pieces(pieces: Sequence[Piece], vocab: int) -> Mapped:
    """Map pieces of one type in their order; a single one is mapped in its own file.

    Raises:
        InputError: a token outside the vocabulary, with its place, or a file that shrinks.
        StorageError: the temporary folder is full.
    """
    if len(pieces) > 1:
        return spooled((part for piece in pieces for part in read(piece, vocab)), pieces[0].dtype)
    (piece,), digest, largest = pieces, hashlib.sha256(), -1
    for part in read(piece, vocab):
        digest.update(part.data)
        largest = max(largest, int(part.max()))
    with piece.path.open("rb") as source:
        tokens = _map_range(source, piece.dtype, piece.offset, piece.count)
    return Mapped(tokens, digest.hexdigest(), largest)


def read(piece: Piece, vocab: int) -> Iterator[npt.NDArray[Any]]:
    """Read the tokens of a piece in chunks, checking that each is below `vocab`."""
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
    """The index of the first token outside a vocabulary, if there is one."""
    if not tokens.size or (tokens.max() < vocab and tokens.min() >= 0):
        return None
    return int(((tokens >= vocab) | (tokens < 0)).argmax())


def smallest_dtype(vocab: int) -> np.dtype[Any]:
    """The smaller of uint16 and uint32 that holds all tokens of a vocabulary."""
    return np.dtype(np.uint16 if vocab <= 1 << 16 else np.uint32)


def _map_range(source: IO[bytes], dtype: np.dtype[Any], offset: int, count: int) -> Tokens:
    if not count:
        return np.empty(0, dtype)
    return np.memmap(source, dtype, mode="c", offset=offset, shape=(count,))


@dataclass(frozen=True)
class Place:
    """Where an array is in a file; `offset` in bytes."""

    dtype: str
    offset: int
    shape: tuple[int, ...]

    def map(self, file: IO[bytes]) -> Data:
        """Map the array from the file, copy-on-write."""
        return np.memmap(file, self.dtype, "c", self.offset, self.shape)


@dataclass(frozen=True)
class Handover:
    """A corpus without its arrays, and their places in the file that is sent with it.

    The samples of a Dataset have no place: the other process makes them anew.
    """

    corpus: Corpus
    train: Any
    eval: Any

    def taken(self, descriptor: int) -> Corpus:
        """Map the corpus from an open file descriptor, and close it."""
        with os.fdopen(descriptor, "rb") as file:
            train, held_out = mapped(
                lambda place: place.map(file) if isinstance(place, Place) else place,
                (self.train, self.eval),
            )
            return replace(self.corpus, train=train, eval=held_out)


@contextmanager
def handed_over(corpus: Corpus) -> Iterator[tuple[Handover, IO[bytes]]]:
    """Yield a handover for another process, and the open file that is sent with it.

    That is the named file from which tokens are mapped, otherwise a temporary one with the train
    part before the eval part.

    Raises:
        StorageError: the temporary folder is full.
    """
    parts = (corpus.train, corpus.eval)
    nothing = np.empty(0, np.uint8)
    bare = replace(corpus, train=nothing, eval=nothing)
    # of samples each array may come from a file of its own
    path = None if corpus.of_samples else file_of(corpus.train)
    with path.open("rb") if path else _temporary_file() as file:

        def place(data: Data | Items) -> Place | Items:
            if isinstance(data, Items):
                return data
            if path:
                return Place(data.dtype.str, _offset_of(data), data.shape)
            with _refusing_a_full_folder():
                file.write(bytes(-file.tell() % ALIGNED))
                found = Place(data.dtype.str, file.tell(), data.shape)
                file.write(np.ascontiguousarray(data).data)
            return found

        train, held_out = mapped(place, parts)
        if not path:
            with _refusing_a_full_folder():
                file.flush()
        yield Handover(bare, train, held_out), file


def file_of(data: Any) -> Path | None:
    """The named file that an array is mapped from; None for other arrays."""
    name = data.filename if isinstance(data, np.memmap) else None
    return Path(name) if name else None


def _offset_of(data: Data) -> int:
    """The byte of its file at which a mapped array, or a slice of one, begins."""
    whole = data
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    assert isinstance(whole, np.memmap), "only mapped arrays have one"
    return int(whole.offset + data.ctypes.data - whole.ctypes.data)
