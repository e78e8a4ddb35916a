"""Text as bytes: mapped, never held as integers; train and eval parts are disjoint ranges."""

from __future__ import annotations

import hashlib
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.files.records import DataProtocol
from mutransfer_cli.files.spec import DataSpec, TrainSpec

BYTE_VOCAB = 256
CHUNK = 1 << 20


@dataclass(frozen=True)
class Corpus:
    """A text split into a train part and, after it, an eval part.

    Attributes:
        train: tokens [train tokens]; of a text its bytes, mapped.
        eval: the same of the eval part.
        protocol: what identifies the text.
    """

    train: npt.NDArray[np.uint8 | np.int32]
    eval: npt.NDArray[np.uint8 | np.int32]
    protocol: DataProtocol


@dataclass(frozen=True)
class DeviceText:
    """A corpus where it is trained on: on a CPU the mapping itself, on CUDA one copy of its bytes.

    Attributes:
        train, eval: both parts as tensors of their own type.
    """

    corpus: Corpus
    train: Tensor
    eval: Tensor

    @classmethod
    def on(cls, device: torch.device, corpus: Corpus) -> DeviceText:
        parts = (torch.from_numpy(part).to(device) for part in (corpus.train, corpus.eval))
        return cls(corpus, *parts)


def load_corpus(spec: DataSpec, folder: Path) -> Corpus:
    """The corpus of a spec; a relative path counts from `folder`, the spec's own.

    Raises:
        InputError: nothing there, not readable, or empty.
    """
    if spec.source == "stdlib":
        files, where = stdlib_files(), "the standard library"
    else:
        path = folder / Path(spec.path).expanduser()
        files, where = text_files(path), str(path)
    try:
        text, sha256 = map_bytes(files)
    except OSError as error:
        raise InputError(f"data: {error.filename}: cannot be read ({error.strerror})") from error
    if not text.size:
        raise InputError(f"data: {where} is empty; give a file or folder with text")
    split = text.size - int(text.size * spec.eval_fraction)
    protocol = DataProtocol(
        source=spec.source, sha256=sha256, bytes=text.size, eval_fraction=spec.eval_fraction
    )
    return Corpus(text[:split], text[split:], protocol)


def stdlib_files() -> list[Path]:
    """Top-level modules of Python's own library, sorted; not the file of build-time paths."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in library.glob("*.py") if not path.name.startswith("_sysconfig"))


def text_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(
            found
            for found in path.rglob("*")
            if found.is_file() and not any(p.startswith(".") for p in found.relative_to(path).parts)
        )
    if not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise InputError(f"data.path: {path} {what}; give a text file or a folder of them")
    return [path]


def map_bytes(files: Sequence[Path]) -> tuple[npt.NDArray[np.uint8], str]:
    """The bytes of all files in order as one mapped array, and their SHA-256.

    One file is mapped where it lies; several are streamed into an unnamed temporary file.
    """
    digest = hashlib.sha256()
    if len(files) == 1:
        with files[0].open("rb") as source:
            _stream(source, digest, None)
            return _map(source), digest.hexdigest()
    with tempfile.TemporaryFile() as joined:
        for file in files:
            with file.open("rb") as source:
                _stream(source, digest, joined)
        _flush(joined)
        return _map(joined), digest.hexdigest()


def _stream(source: IO[bytes], digest: hashlib._Hash, target: IO[bytes] | None) -> None:
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        if target is not None:
            try:
                target.write(chunk)
            except OSError as error:
                raise _temporary_folder_full(error) from error


def _flush(target: IO[bytes]) -> None:
    try:
        target.flush()
    except OSError as error:
        raise _temporary_folder_full(error) from error


def _temporary_folder_full(error: OSError) -> StorageError:
    return StorageError(
        f"data: {tempfile.gettempdir()}: cannot hold the joined text ({error.strerror}); "
        "set TMPDIR to a folder with more space, or give one file"
    )


def _map(source: IO[bytes]) -> npt.NDArray[np.uint8]:
    source.seek(0, 2)
    if not source.tell():
        return np.empty(0, np.uint8)
    # copy-on-write: torch refuses to share memory that it may not write, and nothing writes it
    return np.memmap(source, dtype=np.uint8, mode="c")


def check_size(corpus: Corpus, train: TrainSpec) -> None:
    """Refuses a text too small for one batch of each part.

    Raises:
        InputError: says what is needed.
    """
    parts = [
        ("train", corpus.train.size, train.batch * train.context + 1),
        ("eval", corpus.eval.size, train.eval_batches * train.batch * train.context + 1),
    ]
    for name, size, needed in parts:
        if size < needed:
            raise InputError(
                f"data: the {name} part has {size} bytes and needs at least {needed} for "
                f"batch {train.batch} x context {train.context}; give more text, smaller batches, "
                "or another data.eval_fraction or train.eval_batches"
            )


def stream_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each (seed, purpose): the same numbers on every device."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def train_offsets(corpus: Corpus, train: TrainSpec, seed: int) -> Tensor:
    """Where each sequence starts in the train part, int64 [steps, batch]; a function of the seed.

    Trials of one seed read the same data in the same order, so that the difference between two
    learning rates is not noise of the data.
    """
    last = corpus.train.size - train.context
    shape = (train.steps, train.batch)
    return torch.randint(last, shape, generator=stream_generator(seed, "data"))


def eval_offsets(corpus: Corpus, train: TrainSpec) -> Tensor:
    """Evenly spread starts in the eval part, int64 [eval_batches, batch]: the same for all."""
    count = train.eval_batches * train.batch
    last = corpus.eval.size - train.context - 1
    return torch.linspace(0, last, count, dtype=torch.float64).long().view(-1, train.batch)


def gather(text: Tensor, offsets: Tensor, context: int) -> Tensor:
    """Sequences of context + 1 tokens, int64 [..., context + 1], from a text of integers."""
    positions = offsets.unsqueeze(-1) + torch.arange(context + 1, device=offsets.device)
    return text[positions].long()
