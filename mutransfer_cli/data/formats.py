"""Files of tokens: what each is, by its content, and where its tokens lie."""

from __future__ import annotations

import struct
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mutransfer_cli.data.mapped import Piece
from mutransfer_cli.data.megatron import index_of, indexed_piece
from mutransfer_cli.data.text import PARQUET_MAGIC
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.data import DtypeName

Kind = Literal["llm.c", "megatron", "numpy", "parquet", "raw"]
NUMPY_MAGIC = b"\x93NUMPY"
START = 12  # bytes that tell the kinds apart


@dataclass(frozen=True)
class Header:
    """Of llm.c: 256 int32, of which magic, version and token count are used."""

    version: int
    dtype: np.dtype[Any]
    size = 1024  # bytes


HEADERS = {20240520: Header(1, np.dtype("<u2")), 20240801: Header(7, np.dtype("<u4"))}


def kind_of(path: Path) -> Kind:
    """
    Raises:
        InputError: an empty file.
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
    """Where the tokens of a file lie.

    Args:
        dtype: of the spec; None where the file says it.

    Raises:
        InputError: a malformed file, one cut short, one of another type than said.
    """
    if kind == "raw":
        return raw_piece(path, dtype)
    if kind == "llm.c":
        piece = llmc_piece(path)
    elif kind == "numpy":
        piece = numpy_piece(path)
    else:
        piece = indexed_piece(path)
    if dtype is not None and piece.dtype != np.dtype(dtype):
        raise InputError(
            f"data.dtype: {dtype} is said and {path} ({kind}) holds {piece.dtype.name}; "
            "leave data.dtype out"
        )
    return piece


def raw_piece(path: Path, name: DtypeName | None) -> Piece:
    """Tokens and nothing else: nanoGPT's .bin, OLMo's .npy."""
    if name is None:
        *others, last = get_args(DtypeName)
        raise InputError(
            f"data.dtype is missing: {path} begins like no known format (llm.c, Megatron, NumPy, "
            f"Parquet), so it must be tokens alone; give {', '.join(others)} or {last} (nanoGPT "
            "and OLMo write uint16 for vocabularies up to 65536, else uint32)"
        )
    dtype, size = np.dtype(name), path.stat().st_size
    if over := size % dtype.itemsize:
        raise InputError(
            f"data: {path} has {size} bytes, no whole number of {name}: the last whole token ends "
            f"at byte {size - over}; the file is cut short, or give another data.dtype"
        )
    return Piece(path, dtype, 0, size // dtype.itemsize)


def llmc_piece(path: Path) -> Piece:
    """llm.c's and modded-nanogpt's .bin."""
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


def numpy_piece(path: Path) -> Piece:
    """A NumPy file of whole numbers; several axes are read row by row."""
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
        raise InputError(f"data: {path} (NumPy) holds {what}, no tokens; {again}")
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
