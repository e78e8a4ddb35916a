from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.data.synthetic import entropy_rate
from mutransfer_cli.spec.data import MarkovData
from tests.conftest import TINY
from tests.data.written import Array

Run = Callable[..., Any]


def tokens(**keys: int) -> Array:
    corpus = load_corpus(MarkovData.model_validate({"source": "markov", **keys}), Path())
    return np.concatenate([corpus.train, corpus.eval])


def test_it_is_the_same_everywhere_and_follows_the_seed() -> None:
    found = tokens(vocab=16, length=70_000, seed=3)
    assert found.shape == (70_000,)
    assert found[:12].tolist() == [0, 1, 14, 6, 12, 15, 6, 6, 12, 5, 9, 8]
    assert np.array_equal(found[:70_000], tokens(vocab=16, length=100_000, seed=3)[:70_000])
    assert not np.array_equal(found, tokens(vocab=16, length=70_000, seed=4))


def test_the_entropy_rate_is_that_of_the_pairs_counted() -> None:
    vocab = 8
    found = tokens(vocab=vocab, length=400_000).astype(np.int64)
    pairs = np.bincount(found[:-1] * vocab + found[1:], minlength=vocab**2).reshape(vocab, vocab)
    shares = pairs / pairs.sum()
    given = pairs / pairs.sum(1, keepdims=True)
    counted = -(shares * np.log(given, where=pairs > 0, out=np.zeros_like(given))).sum()
    assert counted == pytest.approx(entropy_rate(vocab), abs=0.005)
    once = shares.sum(1)
    assert -(once * np.log(once)).sum() > counted + 0.3, "there is something to learn"


def test_a_model_learns_it_down_to_its_entropy(
    write_spec: Callable[[Any], Path], run: Run, tmp_path: Path
) -> None:
    spec = copy.deepcopy(TINY)
    spec["data"] = {"source": "markov", "vocab": 8, "length": 40_000}
    spec["train"] = {"steps": 100, "batch": 8, "context": 16, "warmup": 10, "eval_batches": 8}
    spec["sweep"] = {"widths": [32], "axes": {"lr": ["2^-6"]}}
    found = run("sweep-proxy", write_spec(spec), "-o", tmp_path / "out")
    assert found.exit_code == 0, found.stderr
    assert "data: markov, 40,000 tokens, vocabulary 8; no loss stays below its ent" in found.stderr
    records = [json.loads(line) for line in found.stdout.splitlines()]
    (loss,) = (record["eval_loss"] for record in records if record["kind"] == "trial")
    assert entropy_rate(8) - 0.05 < loss < entropy_rate(8) + 0.15


@pytest.mark.parametrize(("vocab", "sentence"), [(1, "data.vocab"), (2000, "data.vocab")])
def test_a_vocabulary_out_of_bounds_is_refused(
    vocab: int, sentence: str, write_spec: Callable[[Any], Path], run: Run
) -> None:
    found = run("sweep-proxy", write_spec(TINY | {"data": {"source": "markov", "vocab": vocab}}))
    assert found.exit_code == 2
    assert sentence in found.stderr
