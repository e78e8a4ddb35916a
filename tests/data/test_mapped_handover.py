"""A corpus that another process gets through an open file is the corpus."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mutransfer_cli.data.corpus import Corpus
from mutransfer_cli.data.mapped import file_of, handed_over
from mutransfer_cli.sweep.prepare import Sweep

Prepare = Callable[[dict[str, Any]], Sweep]


def through_a_descriptor(corpus: Corpus) -> Corpus:
    with handed_over(corpus) as (handover, file):
        assert handover.corpus.train.size == handover.corpus.eval.size == 0
        return handover.taken(os.dup(file.fileno()))


def assert_same(found: Corpus, corpus: Corpus) -> None:
    for part in ("train", "eval"):
        ours, theirs = getattr(found, part), getattr(corpus, part)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    assert (found.vocab, found.protocol) == (corpus.vocab, corpus.protocol)


def test_text_and_samples_go_through_a_temporary_file(
    tiny: dict[str, Any], tiny_mlp: dict[str, Any], prepare: Prepare
) -> None:
    tiny["data"] = {"source": "stdlib"}
    for raw in (tiny, tiny_mlp):
        corpus = prepare(raw).corpus
        assert file_of(corpus.train) is None
        assert_same(through_a_descriptor(corpus), corpus)


@pytest.mark.parametrize("begin", [0, 100])
def test_mapped_tokens_stay_in_their_file(
    tiny: dict[str, Any], prepare: Prepare, tmp_path: Path, begin: int
) -> None:
    tokens = (np.arange(9000) % 300).astype(np.uint16)
    path = tmp_path / "tokens.bin"
    path.write_bytes(tokens.tobytes())
    tiny["data"] = {"source": "tokens", "path": "tokens.bin", "vocab": 300, "dtype": "uint16"}
    corpus = prepare(tiny).corpus
    assert file_of(corpus.train) == path
    assert_same(through_a_descriptor(corpus), corpus)
    part = replace(corpus, train=corpus.train[begin:], eval=corpus.eval[begin:])
    assert_same(through_a_descriptor(part), part)
