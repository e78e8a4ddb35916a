"""Tokens in files: read once for their digest, then mapped. Several files are joined first.

Whatever is not one range of one file is written into an unnamed temporary file and mapped there.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mutransfer_cli.data.corpus import Tokens
from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.files.data import DataProtocol

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
