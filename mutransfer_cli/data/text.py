"""Text as bytes."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.mapped import Mapped, Piece, map_pieces
from mutransfer_cli.data.paths import found_files
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.data import DataProtocol, StdlibData, TextData

BYTE_VOCAB = 256
PARQUET_MAGIC = b"PAR1"


def byte_corpus(spec: StdlibData | TextData, folder: Path) -> Corpus:
    """
    Raises:
        InputError: nothing there, not readable, or empty.
    """
    if isinstance(spec, StdlibData):
        files, where = stdlib_files(), "the standard library"
    else:
        path = folder / Path(spec.path).expanduser()
        files, where = found_files(path, "a text file"), str(path)
        refuse_parquet(files)
    text = map_bytes(files)
    if not text.tokens.size:
        raise InputError(f"data: {where} is empty; give a file or folder with text")
    protocol = DataProtocol(
        source=spec.source,
        sha256=text.sha256,
        bytes=text.tokens.size,
        eval_fraction=spec.eval_fraction,
    )
    return Corpus.split(text.tokens, BYTE_VOCAB, protocol)


def stdlib_files() -> list[Path]:
    """Top-level modules of Python's own library, sorted; not the file of build-time paths."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in library.glob("*.py") if not path.name.startswith("_sysconfig"))


def refuse_parquet(files: Sequence[Path]) -> None:
    for file in files:
        if is_parquet(file):
            raise InputError(
                f"data.path: {file} is Parquet, whose bytes are no text; give data.tokenizer, or "
                "source: tokens for a column of token ids"
            )


def is_parquet(path: Path) -> bool:
    with path.open("rb") as source:
        return source.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def map_bytes(files: Sequence[Path]) -> Mapped:
    """The bytes of all files in order."""
    byte = np.dtype(np.uint8)
    pieces = [Piece(file, byte, 0, file.stat().st_size) for file in files]
    return map_pieces(pieces, BYTE_VOCAB) if pieces else Mapped(np.empty(0, byte), "", -1)
