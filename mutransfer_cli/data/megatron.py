"""Megatron's .idx, which says where the sequences lie in the .bin beside it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from mutransfer_cli.data.mapped import Piece
from mutransfer_cli.errors import InputError

MAGIC = b"MMIDIDX\x00\x00"
LAYOUT = struct.Struct("<9sQBQQ")  # magic, version, type, sequences, document ends
VERSION = 1
TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
FLOATS = {6: "float64", 7: "float32"}
AT_ONCE = 1 << 17  # sequences


def index_of(path: Path) -> Path:
    return path.with_suffix(".idx")


def indexed_piece(path: Path) -> Piece:
    """The tokens of a .bin: its sequences must lie in it one after another, as Megatron writes
    them.

    Raises:
        InputError: an index of another kind, cut short, or that does not fit the .bin.
    """
    index = index_of(path)
    where, size = f"data: {index} (Megatron)", index.stat().st_size
    with index.open("rb") as source:
        start = source.read(LAYOUT.size)
    if not start.startswith(MAGIC):
        raise InputError(
            f"data: {index} beside {path.name} begins with {start[:9]!r} and not with Megatron's "
            f"{MAGIC!r}; write both again, or take the .idx away and give data.dtype"
        )
    if size < LAYOUT.size:
        raise InputError(
            f"{where} ends at byte {size} within its header of {LAYOUT.size}; write it again"
        )
    _, version, code, sequences, documents = LAYOUT.unpack(start)
    if version != VERSION:
        raise InputError(f"{where} has version {version} at byte 9, and {VERSION} is known")
    if code not in TYPES:
        found = f"{code} ({FLOATS[code]})" if code in FLOATS else code
        raise InputError(
            f"{where} has the type code {found} at byte 17; whole numbers are "
            f"{', '.join(str(known) for known in TYPES)}: write it again"
        )
    end = LAYOUT.size + 12 * sequences + 8 * documents
    if size < end:
        raise InputError(
            f"{where} says {sequences} sequences and {documents} document ends, up to byte {end}, "
            f"and ends at byte {size}; it is cut short: write it again"
        )
    dtype = np.dtype(TYPES[code])
    return Piece(path, dtype, 0, _tokens(path, index, sequences, dtype.itemsize))


def _tokens(path: Path, index: Path, sequences: int, itemsize: int) -> int:
    """How many; the pointers are held against the lengths and the size of the .bin."""
    size, at = path.stat().st_size, 0
    with index.open("rb") as source:
        for first in range(0, sequences, AT_ONCE):
            count = min(AT_ONCE, sequences - first)
            source.seek(LAYOUT.size + 4 * first)
            lengths = np.frombuffer(source.read(4 * count), "<i4").astype(np.int64)
            source.seek(LAYOUT.size + 4 * sequences + 8 * first)
            pointers = np.frombuffer(source.read(8 * count), "<i8")
            ends = at + lengths.cumsum() * itemsize
            starts = ends - lengths * itemsize
            wrong = (pointers != starts) | (pointers + lengths * itemsize > size) | (lengths < 0)
            if wrong.any():
                _refuse(path, index, sequences, first + int(wrong.argmax()), itemsize, at_end=size)
            at = int(ends[-1])
    if at != size:
        raise InputError(
            f"data: {index} (Megatron) ends its sequences at byte {at} of {path.name}, which has "
            f"{size}; write both again"
        )
    return size // itemsize


def _refuse(
    path: Path, index: Path, sequences: int, sequence: int, itemsize: int, at_end: int
) -> None:
    at_length = LAYOUT.size + 4 * sequence
    at_pointer = LAYOUT.size + 4 * sequences + 8 * sequence
    with index.open("rb") as source:
        source.seek(at_length)
        (length,) = struct.unpack("<i", source.read(4))
        source.seek(at_pointer)
        (pointer,) = struct.unpack("<q", source.read(8))
    beyond = pointer + length * itemsize > at_end
    what = (
        f"up to byte {pointer + length * itemsize} of {path.name}, which has {at_end}"
        if beyond
        else f"at byte {pointer} of {path.name}, not after the one before it"
    )
    raise InputError(
        f"data: {index} (Megatron) puts sequence {sequence} (length {length} at byte {at_length}, "
        f"pointer at byte {at_pointer}) {what}; write both again"
    )
