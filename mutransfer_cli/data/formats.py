"""Token files of other tools: recognise them by content, check them, and find their tokens.

The kinds are Parquet, llm.c's .bin, Megatron's .bin with its .idx, NumPy's .npy, and tokens alone.
"""

from __future__ import annotations

import struct
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mutransfer_cli.data.mapped import Piece, outside
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import PARQUET_MAGIC, DtypeName

Kind = Literal["llm.c", "megatron", "numpy", "parquet", "raw"]
NUMPY_MAGIC = b"\x93NUMPY"
START = 12  # bytes that distinguish the kinds
ROWS = 256  # of Parquet, read at once

MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
LAYOUT = struct.Struct("<9sQBQQ")  # magic, version, type, sequences, document ends
VERSION = 1
TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
FLOATS = {6: "float64", 7: "float32"}
AT_ONCE = 1 << 17  # sequences


@dataclass(frozen=True)
class Header:
    """The header of llm.c, 256 int32: magic, version, token count; the others are unused."""

    version: int
    dtype: np.dtype[Any]
    size = 1024  # bytes


HEADERS = {20240520: Header(1, np.dtype("<u2")), 20240801: Header(7, np.dtype("<u4"))}


def kind_of(path: Path) -> Kind:
    """Recognise a file by its first bytes.

    Raises:
        InputError: the file is empty.
    """
    with path.open("rb") as source:
        start = source.read(START)
    if not start:
        raise InputError(f"data: {path} is empty; give a file of tokens")
    if start.startswith(PARQUET_MAGIC):
        return "parquet"
    if start.startswith(NUMPY_MAGIC):
        return "numpy"
    if start[:4] in (struct.pack("<i", magic) for magic in HEADERS):
        return "llm.c"
    return "megatron" if path.suffix == ".bin" and index_of(path).is_file() else "raw"


def piece_of(path: Path, kind: Kind, dtype: DtypeName | None) -> Piece:
    """Find the tokens of a file.

    Args:
        dtype: the type given in the spec; None if the file states it.

    Raises:
        InputError: the file is malformed, cut short, or of another type than given.
    """
    if kind == "raw":
        return _raw_piece(path, dtype)
    readers = {"llm.c": _llmc_piece, "numpy": _numpy_piece, "megatron": _megatron_piece}
    piece = readers[kind](path)
    if dtype is not None and piece.dtype != np.dtype(dtype):
        raise InputError(
            f"data.dtype: {dtype} is given and {path} ({kind}) holds {piece.dtype.name}; "
            "leave data.dtype out"
        )
    return piece


def token_lists(
    files: Sequence[Path], column: str, vocab: int
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """Read the token ids of a column of lists, a batch of rows at a time.

    Raises:
        InputError: the column is missing or holds something else; a token outside the vocabulary.
    """
    for file in files:
        for first, rows in _batches(file, column, _holds_tokens, "lists of token ids"):
            values = rows.flatten()
            lengths = rows.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            place = None
            if values.null_count:
                place, found = values.is_null().to_pylist().index(True), "none"
            else:
                tokens = values.to_numpy(zero_copy_only=False)
                place = outside(tokens, vocab)
                found = "" if place is None else str(tokens[place])
            if place is not None:
                row = int(np.searchsorted(lengths.cumsum(), place, side="right"))
                position = place - int(lengths[:row].sum())
                raise InputError(
                    f"data: {file}: token {found} at position {position} of row {first + row} "
                    f"(from 0) of {column} is not in a vocabulary of {vocab}; give the data.vocab "
                    "that the tokens were made with"
                )
            yield tokens


def texts(files: Sequence[Path], column: str) -> Iterator[str]:
    """Read the texts of a column, without empty rows.

    Raises:
        InputError: the column is missing or holds something else.
    """
    for file in files:
        for _, rows in _batches(file, column, _holds_text, "text"):
            yield from (text for text in rows.to_pylist() if text)


def _batches(
    file: Path, column: str, fits: Callable[[Any], bool], what: str
) -> Iterator[tuple[int, Any]]:
    """Yield Arrow arrays of a column, each with the number of its first row."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"data: {file}: reading Parquet needs pyarrow; run `pip install pyarrow`"
        ) from error
    row = 0
    try:
        with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as source:
            schema = source.schema_arrow
            if column not in schema.names:
                raise InputError(
                    f"data.column: {file} has no column {column}; it has {', '.join(schema.names)}"
                )
            found = schema.field(column).type
            if not fits(found):
                raise InputError(
                    f"data.column: {column} of {file} holds {found}; give a column of {what}"
                )
            for batch in source.iter_batches(ROWS, columns=[column]):
                yield row, batch.column(0)
                row += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"data: {file}: is damaged after row {row} ({reason}); fetch or write it again"
        ) from error


def _holds_tokens(found: Any) -> bool:
    import pyarrow.types as types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(fits(found) for fits in lists) and types.is_integer(found.value_type)


def _holds_text(found: Any) -> bool:
    import pyarrow.types as types

    kinds = (types.is_string, types.is_large_string, types.is_string_view)
    return any(fits(found) for fits in kinds)


def index_of(path: Path) -> Path:
    """The .idx of Megatron's .bin."""
    return path.with_suffix(".idx")


def _megatron_piece(path: Path) -> Piece:
    """Find the tokens of Megatron's .bin, whose sequences must follow one another."""
    index = index_of(path)
    where, size = f"data: {index} (Megatron)", index.stat().st_size
    with index.open("rb") as source:
        start = source.read(LAYOUT.size)
    if not start.startswith(MEGATRON_MAGIC):
        raise InputError(
            f"data: {index} beside {path.name} begins with {start[:9]!r} and not with Megatron's "
            f"{MEGATRON_MAGIC!r}; write both again, or take the .idx away and give data.dtype"
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
    return Piece(path, dtype, 0, _megatron_tokens(path, index, sequences, dtype.itemsize))


def _megatron_tokens(path: Path, index: Path, sequences: int, itemsize: int) -> int:
    """The number of tokens, after checking every pointer and length against the .bin."""
    size, at = path.stat().st_size, 0
    with index.open("rb") as source:
        for first in range(0, sequences, AT_ONCE):
            count = min(AT_ONCE, sequences - first)
            at_lengths = LAYOUT.size + 4 * first
            at_pointers = LAYOUT.size + 4 * sequences + 8 * first
            source.seek(at_lengths)
            lengths = np.frombuffer(source.read(4 * count), "<i4").astype(np.int64)
            source.seek(at_pointers)
            pointers = np.frombuffer(source.read(8 * count), "<i8")
            ends = at + lengths.cumsum() * itemsize
            beyond = pointers + lengths * itemsize > size
            wrong = (pointers != ends - lengths * itemsize) | beyond | (lengths < 0)
            if wrong.any():
                i = int(wrong.argmax())
                what = (
                    f"up to byte {pointers[i] + lengths[i] * itemsize} of {path.name}, which has "
                    f"{size}"
                    if beyond[i]
                    else f"at byte {pointers[i]} of {path.name}, not after the one before it"
                )
                raise InputError(
                    f"data: {index} (Megatron) puts sequence {first + i} (length {lengths[i]} at "
                    f"byte {at_lengths + 4 * i}, pointer at byte {at_pointers + 8 * i}) {what}; "
                    "write both again"
                )
            at = int(ends[-1])
    if at != size:
        raise InputError(
            f"data: {index} (Megatron) ends its sequences at byte {at} of {path.name}, which has "
            f"{size}; write both again"
        )
    return size // itemsize


def _raw_piece(path: Path, name: DtypeName | None) -> Piece:
    """A file of tokens alone: nanoGPT's .bin, OLMo's .npy."""
    if name is None:
        *others, last = get_args(DtypeName)
        raise InputError(
            f"data.dtype is missing: {path} begins like no known format (llm.c, Megatron, NumPy, "
            f"Parquet), so it must be tokens alone; give {', '.join(others)} or {last} (nanoGPT "
            "and OLMo write uint16 for vocabularies up to 65536, otherwise uint32)"
        )
    dtype, size = np.dtype(name), path.stat().st_size
    if over := size % dtype.itemsize:
        raise InputError(
            f"data: {path} has {size} bytes, not a whole number of {name}: the last whole token "
            f"ends at byte {size - over}; the file is cut short, or give another data.dtype"
        )
    return Piece(path, dtype, 0, size // dtype.itemsize)


def _llmc_piece(path: Path) -> Piece:
    """Find the tokens of llm.c's and modded-nanogpt's .bin."""
    size = path.stat().st_size
    if size < Header.size:
        raise InputError(
            f"data: {path} (llm.c) ends at byte {size} within its header of {Header.size}; "
            "it is cut short: fetch or write it again"
        )
    with path.open("rb") as source:
        magic, version, count = struct.unpack("<3i", source.read(START))
    header = HEADERS[magic]
    if version != header.version:
        raise InputError(
            f"data: {path} (llm.c, magic {magic}) has version {version} at byte 4, and "
            f"{header.version} is known; write it again with llm.c's data scripts"
        )
    held = (size - Header.size) // header.dtype.itemsize
    if size != Header.size + count * header.dtype.itemsize:
        raise InputError(
            f"data: {path} (llm.c) says {count} tokens of {header.dtype.name} at byte 8 and holds "
            f"{held}: it ends at byte {size}, not {Header.size + count * header.dtype.itemsize}; "
            "fetch or write it again"
        )
    return Piece(path, header.dtype, Header.size, count)


def _numpy_piece(path: Path) -> Piece:
    """Find the tokens of a NumPy file of whole numbers; several axes are read row by row."""
    again = "save it with numpy.save as a little-endian array of whole numbers"
    with path.open("rb") as source:
        try:
            version = np.lib.format.read_magic(source)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, by_column, dtype = read(source)
        except (ValueError, KeyError, SyntaxError, tokenize.TokenError) as error:
            raise InputError(
                f"data: {path} (NumPy) has a header that cannot be read, up to byte "
                f"{source.tell()}; {again}"
            ) from error
        start = source.tell()
    if dtype.kind not in "iu":
        what = "Python objects" if dtype.hasobject else dtype.name
        raise InputError(f"data: {path} (NumPy) holds {what}, not tokens; {again}")
    if dtype.newbyteorder("<") != dtype or (by_column and len(shape) > 1):
        what = "column by column" if by_column else "big-endian"
        raise InputError(f"data: {path} (NumPy) is stored {what}; {again}, row by row")
    piece, size = Piece(path, dtype, start, int(np.prod(shape, dtype=object))), path.stat().st_size
    if piece.end > size:
        raise InputError(
            f"data: {path} (NumPy) says {piece.count} tokens of {dtype.name} from byte {start} on, "
            f"up to byte {piece.end}, and ends at byte {size}; fetch or write it again"
        )
    return piece
