"""The corpus of a spec: token files, text, or generated data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.formats import (
    MEGATRON_MAGIC,
    Kind,
    index_of,
    kind_of,
    piece_of,
    token_lists,
)
from mutransfer_cli.data.mapped import Mapped, map_pieces, smallest_dtype, spooled
from mutransfer_cli.data.own import own_corpus
from mutransfer_cli.data.synthetic import linear_teacher_corpus, markov_corpus
from mutransfer_cli.data.text import BYTE_VOCAB, Encoder, byte_corpus, found_files, tokenized_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import (
    DataSpec,
    LinearTeacherData,
    MarkovData,
    OwnData,
    TextData,
    TokenData,
)

SUFFIXES = (".bin", ".npy", ".parquet")
COLUMN = "input_ids"


def load_corpus(spec: DataSpec, folder: Path) -> Corpus:
    """Load the corpus of a spec; relative paths count from `folder`, that of the spec.

    Raises:
        InputError: the data are missing, unreadable, malformed, empty or outside the vocabulary.
        StorageError: the temporary folder is too small to join or tokenise in.
    """
    try:
        if isinstance(spec, OwnData):
            return own_corpus(spec)
        if isinstance(spec, LinearTeacherData):
            return linear_teacher_corpus(spec)
        if isinstance(spec, MarkovData):
            return markov_corpus(spec)
        if isinstance(spec, TokenData):
            return token_corpus(spec, folder)
        if isinstance(spec, TextData) and spec.tokenizer is not None:
            return tokenized_corpus(spec, folder)
        return byte_corpus(spec, folder)
    except OSError as error:
        raise InputError(f"data: {error.filename}: cannot be read ({error.strerror})") from error


def data_vocab(spec: DataSpec, folder: Path) -> int | None:
    """The vocabulary size of a spec's data, without reading them; None for samples.

    Raises:
        InputError: the tokenizer cannot be read.
    """
    if isinstance(spec, LinearTeacherData | OwnData):
        return None
    if isinstance(spec, TokenData | MarkovData):
        return spec.vocab
    if isinstance(spec, TextData) and spec.tokenizer is not None:
        return Encoder.load(spec.tokenizer, folder).vocab
    return BYTE_VOCAB


def token_corpus(spec: TokenData, folder: Path) -> Corpus:
    """Map the tokens of a file, folder or pattern."""
    path = folder / Path(spec.path).expanduser()
    files = _token_files(path)
    kind = _common_kind(files)
    mapped = _map_files(spec, files, kind)
    if not mapped.tokens.size:
        raise InputError(f"data: {path} holds no tokens; give files that do")
    protocol = mapped.protocol(spec.source, spec.eval_fraction, kind)
    what = "file of tokens alone" if kind == "raw" else f"{kind} file"
    note = (
        f"data: {path}: {len(files)} {what}{'s' if len(files) > 1 else ''}, "
        f"{mapped.tokens.size:,} tokens of {mapped.tokens.dtype.name}, the largest "
        f"{mapped.largest}; vocabulary {spec.vocab}"
    )
    return Corpus.split(mapped.tokens, spec.vocab, protocol, note)


def _token_files(path: Path) -> list[Path]:
    """The files that hold tokens: the .bin of a Megatron pair, which its prefix names too."""
    prefixed = path.with_name(path.name + ".bin")
    if path.name and not path.exists() and prefixed.is_file() and index_of(prefixed).is_file():
        return [prefixed]
    found = found_files(path, "a file of tokens", SUFFIXES)
    return list(dict.fromkeys(_tokens_beside(file) for file in found))


def _tokens_beside(path: Path) -> Path:
    if path.suffix != ".idx":
        return path
    tokens = path.with_suffix(".bin")
    if tokens.is_file():
        return tokens
    with path.open("rb") as source:
        if source.read(len(MEGATRON_MAGIC)) == MEGATRON_MAGIC:
            raise InputError(f"data: {path} (Megatron) has no {tokens.name} beside it; give both")
    return path


def _common_kind(files: Sequence[Path]) -> Kind:
    first = kind_of(files[0])
    for file in files[1:]:
        if (kind := kind_of(file)) != first:
            raise InputError(
                f"data.path: {files[0]} is {first} and {file} is {kind}; give files of one kind, "
                "for example by a pattern such as train_*.bin"
            )
    return first


def _map_files(spec: TokenData, files: Sequence[Path], kind: Kind) -> Mapped:
    if kind == "parquet":
        if spec.dtype is not None:
            raise InputError("data.dtype: Parquet states the type itself; leave data.dtype out")
        parts = token_lists(files, spec.column or COLUMN, spec.vocab)
        return spooled(parts, smallest_dtype(spec.vocab))
    if spec.column is not None:
        raise InputError(
            f"data.column: {files[0]} is {kind}, and only Parquet has columns; leave it out"
        )
    pieces = [piece_of(file, kind, spec.dtype) for file in files]
    for piece in pieces[1:]:
        if piece.dtype != pieces[0].dtype:
            raise InputError(
                f"data.path: {files[0]} holds {pieces[0].dtype.name} and {piece.path} "
                f"{piece.dtype.name}; give files of one type"
            )
    return map_pieces(pieces, spec.vocab)
