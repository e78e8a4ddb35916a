"""Text as bytes, or tokenised by the `tokenizers` library in bounded memory.

Also finds the files that a path in a spec stands for.
"""

from __future__ import annotations

import glob
import hashlib
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.formats import texts
from mutransfer_cli.data.mapped import Mapped, Piece, map_pieces, smallest_dtype, spooled
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import PARQUET_MAGIC, DataProtocol, StdlibData, TextData

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTE_VOCAB = 256
COLUMN = "text"
PIECE = 1 << 16  # bytes that are encoded as one text
BATCH = 1 << 18  # characters encoded at a time; each may take a hundred bytes meanwhile


def found_files(path: Path, what: str, suffixes: Collection[str] = ()) -> list[Path]:
    """List the files of a path, folder or pattern, sorted, without hidden files of a folder.

    Args:
        what: the noun for such a file, in messages.
        suffixes: suffixes of the files to take from a folder; all if empty.

    Raises:
        InputError: there is no such file.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and (not suffixes or file.suffix in suffixes)
        ]
        if suffixes and not files:
            raise InputError(
                f"data.path: {path} holds no file named {', '.join(f'*{s}' for s in suffixes)}; "
                "give such a folder, or a pattern such as shards/*"
            )
        return files
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if files := [file for file in matches if file.is_file()]:
        return files
    if path.exists():
        problem = f"{path} is neither a file nor a folder"
    elif glob.has_magic(str(path)):
        problem = f"no file is named {path}"
    else:
        problem = f"{path} does not exist"
    raise InputError(f"data.path: {problem}; give {what} or a folder of them")


def byte_corpus(spec: StdlibData | TextData, folder: Path) -> Corpus:
    """Map text as bytes."""
    if isinstance(spec, StdlibData):
        files, where = stdlib_files(), "the standard library"
    else:
        path = folder / Path(spec.path).expanduser()
        files, where = found_files(path, "a text file"), str(path)
        if parquet := next(filter(is_parquet, files), None):
            raise InputError(
                f"data.path: {parquet} is Parquet, whose bytes are not text; give data.tokenizer, "
                "or source: tokens for a column of token ids"
            )
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
    """Top-level modules of Python's own library, sorted, without the file of build-time paths."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in library.glob("*.py") if not path.name.startswith("_sysconfig"))


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with path.open("rb") as source:
        return source.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def map_bytes(files: Sequence[Path]) -> Mapped:
    """The bytes of all files in order."""
    byte = np.dtype(np.uint8)
    pieces = [Piece(file, byte, 0, file.stat().st_size) for file in files]
    return map_pieces(pieces, BYTE_VOCAB) if pieces else Mapped(np.empty(0, byte), "", -1)


@dataclass(frozen=True)
class Encoder:
    """A tokenizer of the `tokenizers` library, with the facts that identify it."""

    path: Path
    tokenizer: Tokenizer
    vocab: int
    """The largest id plus one; ids may have gaps."""
    sha256: str
    """Hash of the file; hex."""

    @classmethod
    def load(cls, name: str, folder: Path) -> Encoder:
        """Read a tokenizer.json; a relative path counts from `folder`.

        Raises:
            InputError: the file is not a tokenizer, or the library is not installed.
        """
        path = folder / Path(name).expanduser()
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise InputError(
                "data.tokenizer: reading it needs tokenizers; run `pip install tokenizers`"
            ) from error
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"data.tokenizer: {path}: cannot be read ({error.strerror}); give a tokenizer.json"
            ) from error
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(
                f"data.tokenizer: {path} is not a tokenizer of the tokenizers library ({error}); "
                "give the tokenizer.json of a model"
            ) from error
        # the file may ask for truncation or padding
        tokenizer.no_truncation()
        tokenizer.no_padding()
        vocab = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if not vocab:
            raise InputError(f"data.tokenizer: {path} knows no tokens; give a trained one")
        return cls(path, tokenizer, vocab, hashlib.sha256(content).hexdigest())

    def encode(self, pieces: Iterable[str]) -> Iterator[npt.NDArray[Any]]:
        """Tokenise each piece on its own, many at a time."""
        dtype = smallest_dtype(self.vocab)
        for batch in batches(pieces):
            for encoded in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoded.ids, dtype)


def tokenized_corpus(spec: TextData, folder: Path) -> Corpus:
    """Map text as tokens."""
    assert spec.tokenizer is not None, "otherwise text is read as bytes"
    encoder = Encoder.load(spec.tokenizer, folder)
    path = folder / Path(spec.path).expanduser()
    files = found_files(path, "a text file")
    kind = text_kind(files)
    if kind == "parquet":
        pieces = (p for text in texts(files, spec.column or COLUMN) for p in cut([text.encode()]))
    elif spec.column is not None:
        raise InputError(
            f"data.column: {path} is not Parquet, and only Parquet has columns; leave it out"
        )
    else:
        pieces = (piece for file in files for piece in text_of(file))
    mapped = spooled(encoder.encode(pieces), smallest_dtype(encoder.vocab))
    if not mapped.tokens.size:
        raise InputError(f"data: {path} is empty; give a file or folder with text")
    protocol = mapped.protocol(spec.source, spec.eval_fraction, kind, encoder.sha256)
    note = (
        f"data: {path}: {len(files)} {kind} file{'s' if len(files) > 1 else ''}, "
        f"{mapped.tokens.size:,} tokens of {encoder.path.name}; vocabulary {encoder.vocab}"
    )
    return Corpus.split(mapped.tokens, encoder.vocab, protocol, note)


def text_kind(files: Sequence[Path]) -> str:
    """`parquet` or `text`.

    Raises:
        InputError: the files are of both kinds.
    """
    parquet = [file for file in files if is_parquet(file)]
    if parquet and len(parquet) < len(files):
        other = next(file for file in files if file not in parquet)
        raise InputError(
            f"data.path: {parquet[0]} is Parquet and {other} is not; give files of one kind, for "
            "example by a pattern such as *.parquet"
        )
    return "parquet" if parquet else "text"


def text_of(file: Path) -> Iterator[str]:
    """Read a text file in pieces.

    Raises:
        InputError: bytes that are not UTF-8, with their place.
    """
    with file.open("rb") as source:
        blocks = iter(lambda: source.read(PIECE), b"")
        try:
            yield from cut(blocks)
        except UnicodeDecodeError as error:
            raise InputError(
                f"data: {file}: is not UTF-8 text (byte {error.start}); save it as UTF-8, or "
                "leave data.tokenizer out to read bytes"
            ) from error


def cut(blocks: Iterable[bytes]) -> Iterator[str]:
    """Cut text into pieces of bounded size, because a tokenizer takes texts of any size.

    A piece ends after a line if possible, otherwise before a space or after a character.

    Raises:
        UnicodeDecodeError: `start` counts from the first block.
    """
    rest, begin = b"", 0
    for block in blocks:
        for start in range(0, len(block), PIECE):
            rest += block[start : start + PIECE]
            if len(rest) < PIECE:
                continue
            end = _last_end(rest)
            yield _decoded(rest[:end], begin)
            rest, begin = rest[end:], begin + end
    if rest:
        yield _decoded(rest, begin)


def _last_end(text: bytes) -> int:
    if line := text.rfind(b"\n") + 1:
        return line
    if (space := text.rfind(b" ")) > 0:
        return space
    end = len(text)
    while end > len(text) - 4 and text[end - 1] & 0xC0 == 0x80:  # inside a character
        end -= 1
    return end - 1


def _decoded(text: bytes, begin: int) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        error.start += begin
        raise


def batches(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Group pieces to about BATCH characters."""
    batch: list[str] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
