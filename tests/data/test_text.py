from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mutransfer_cli.data.corpus import Corpus, check_size, eval_offsets, gather, train_offsets
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.data.text import stdlib_files
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.data import DataProtocol, StdlibData, TextData
from mutransfer_cli.spec.sweep import TrainSpec

TRAIN = TrainSpec(steps=5, batch=3, context=16, eval_batches=2)


def text_data(path: str, eval_fraction: float = 0.25) -> TextData:
    return TextData(source="text", path=path, eval_fraction=eval_fraction)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 8)
    return load_corpus(text_data("a.txt"), tmp_path)


def test_train_and_eval_are_disjoint_and_together_everything(corpus: Corpus) -> None:
    assert (corpus.train.size, corpus.eval.size) == (1536, 512)
    joined = np.concatenate([corpus.train, corpus.eval]).tobytes()
    assert joined == bytes(range(256)) * 8
    assert isinstance(corpus.protocol, DataProtocol)
    assert corpus.protocol.sha256 == hashlib.sha256(joined).hexdigest()
    assert corpus.protocol.bytes == 2048


def test_a_folder_is_its_files_in_order_of_path(tmp_path: Path) -> None:
    (tmp_path / "t" / "b").mkdir(parents=True)
    (tmp_path / "t" / "z.txt").write_bytes(b"last")
    (tmp_path / "t" / "b" / "x.txt").write_bytes(b"middle ")
    (tmp_path / "t" / "a.txt").write_bytes(b"first ")
    corpus = load_corpus(text_data("t"), tmp_path)
    assert np.concatenate([corpus.train, corpus.eval]).tobytes() == b"first middle last"


def test_the_standard_library_is_megabytes_of_python() -> None:
    corpus = load_corpus(StdlibData(source="stdlib"), Path())
    assert corpus.train.size + corpus.eval.size > 2_000_000
    files = stdlib_files()
    assert files == sorted(files)
    assert corpus.train[: files[0].stat().st_size].tobytes() == files[0].read_bytes()
    assert not any(re.match("_sysconfigdata", file.name) for file in files)


def test_offsets_stay_inside_their_part_and_follow_the_seed(corpus: Corpus) -> None:
    offsets = train_offsets(corpus, TRAIN, seed=1)
    assert offsets.shape == (5, 3)
    assert 0 <= int(offsets.min()) <= int(offsets.max()) <= corpus.train.size - 17
    assert torch.equal(offsets, train_offsets(corpus, TRAIN, seed=1))
    assert not torch.equal(offsets, train_offsets(corpus, TRAIN, seed=2))
    fixed = eval_offsets(corpus, TRAIN)
    assert fixed.shape == (2, 3)
    assert (int(fixed.min()), int(fixed.max())) == (0, corpus.eval.size - 17)


def test_every_offset_can_be_drawn(corpus: Corpus) -> None:
    many = TRAIN.model_copy(update={"steps": 20_000})
    offsets = train_offsets(corpus, many, seed=0)
    assert (int(offsets.min()), int(offsets.max())) == (0, corpus.train.size - 17)


def test_gather_reads_context_plus_one_tokens(corpus: Corpus) -> None:
    tokens = gather(torch.from_numpy(corpus.train), torch.tensor([[0, 100], [255, 7]]), context=3)
    assert tokens.tolist() == [
        [[0, 1, 2, 3], [100, 101, 102, 103]],
        [[255, 0, 1, 2], [7, 8, 9, 10]],
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.txt", None, "missing.txt does not exist; give a text file or a folder"),
        ("empty.txt", b"", "empty.txt is empty; give a file or folder with text"),
    ],
)
def test_a_text_that_cannot_be_used(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        load_corpus(text_data(name), tmp_path)


def test_an_empty_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none is empty"):
        load_corpus(text_data("none"), tmp_path)
    with pytest.raises(InputError, match="/dev/zero is neither a file nor a folder"):
        load_corpus(text_data("/dev/zero"), tmp_path)


@pytest.mark.parametrize(
    ("size", "eval_fraction", "sentence"),
    [
        (60, 0.2, "the train part has 48 bytes and needs at least 49 for batch 3 x context 16"),
        (200, 0.2, "the eval part has 40 bytes and needs at least 97"),
        (4, 0.2, "the train part has 4 bytes"),
    ],
)
def test_a_text_too_small_says_what_is_needed(
    tmp_path: Path, size: int, eval_fraction: float, sentence: str
) -> None:
    (tmp_path / "small.txt").write_bytes(b"x" * size)
    corpus = load_corpus(text_data("small.txt", eval_fraction), tmp_path)
    with pytest.raises(InputError, match=sentence):
        check_size(corpus, TRAIN)


def test_a_large_text_is_mapped_not_read(tmp_path: Path) -> None:
    """A sparse file of 1 GB is loaded and sampled within less memory than it has bytes."""
    big = tmp_path / "big.txt"
    with big.open("wb") as handle:
        handle.truncate(1 << 30)
    program = f"""
import torch
from pathlib import Path
from mutransfer_cli.data.corpus import gather, train_offsets
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.spec.data import DataProtocol, TextData
from mutransfer_cli.spec.sweep import TrainSpec
corpus = load_corpus(TextData(source="text", path={str(big)!r}), Path())
offsets = train_offsets(corpus, TrainSpec(steps=50, batch=8, context=64), seed=0)
gather(torch.from_numpy(corpus.train), offsets, 64)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(corpus.protocol.bytes, int(status["VmHWM"].split()[0]) // 1024)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(out[0]) == 1 << 30
    assert int(out[1]) < 1024
