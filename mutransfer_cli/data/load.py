"""The corpus of a spec."""

from __future__ import annotations

from pathlib import Path

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.linear_teacher import linear_teacher_corpus
from mutransfer_cli.data.markov import markov_corpus
from mutransfer_cli.data.text import BYTE_VOCAB, byte_corpus
from mutransfer_cli.data.tokenized import Encoder, tokenized_corpus
from mutransfer_cli.data.tokens import token_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.data import DataSpec, LinearTeacherData, MarkovData, TextData, TokenData


def load_corpus(spec: DataSpec, folder: Path) -> Corpus:
    """The corpus of a spec; relative paths count from `folder`, the spec's own.

    Raises:
        InputError: nothing there, not readable, malformed, empty, or beyond the vocabulary.
        StorageError: no space to join or tokenise in.
    """
    try:
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
    """The vocabulary of a spec's data, without reading them; None of samples.

    Raises:
        InputError: a tokenizer that cannot be read.
    """
    if isinstance(spec, LinearTeacherData):
        return None
    if isinstance(spec, TokenData | MarkovData):
        return spec.vocab
    if isinstance(spec, TextData) and spec.tokenizer is not None:
        return Encoder.load(spec.tokenizer, folder).vocab
    return BYTE_VOCAB
