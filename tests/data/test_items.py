"""Samples of a Dataset: read once each, handed to another process, and made anew there."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from mutransfer_cli.data import items as module
from mutransfer_cli.data.items import Items
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.data.mapped import handed_over
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import leaves
from mutransfer_cli.spec.data import OwnData
from tests.data.own_samples import Points

MADE = OwnData(factory="tests.data.test_items:made")


class Counted(Points):
    read: ClassVar[list[int]] = []
    salt = 0

    def __getitem__(self, number: int) -> Any:
        self.read.append(number)
        return {"x": torch.tensor([number, self.salt])}


def made() -> Any:
    return Counted()


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "read", [])
    module.made_again.cache_clear()


def part(name: str = "train") -> Items:
    found = getattr(load_corpus(MADE, Path()), name)
    assert isinstance(found, Items)
    return found


def test_a_sample_asked_for_twice_is_read_once() -> None:
    found = part("eval")
    Counted.read.clear()
    batch = found.batch(torch.tensor([[2, 0], [2, 2]]))
    assert Counted.read == [216, 218]
    assert batch["x"][..., 0].tolist() == [[218, 216], [218, 218]]


def test_another_process_makes_the_dataset_anew() -> None:
    sent = pickle.loads(pickle.dumps(part("eval")))
    assert sent.dataset is None
    assert sent.batch(torch.tensor([1]))["x"].tolist() == [[217, 0]]


def test_a_dataset_that_differs_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.loads(pickle.dumps(part()))
    monkeypatch.setattr(Counted, "salt", 1)
    for _ in range(2):
        with pytest.raises(InputError, match="gives other samples in a worker process; make it"):
            sent.batch(torch.tensor([1]))


@pytest.mark.parametrize("name", ["datasets", "parts", "as_tuple", "nested"])
def test_a_corpus_is_handed_over(name: str) -> None:
    spec = OwnData(factory=f"tests.data.own_samples:{name}")
    corpus = load_corpus(spec, Path())
    with handed_over(corpus) as (handover, file):
        sent = pickle.loads(pickle.dumps(handover))
        taken = sent.taken(os.dup(file.fileno()))
    assert taken.protocol == corpus.protocol
    numbers = torch.tensor([3, 0])
    for one, other in zip((taken.train, taken.eval), (corpus.train, corpus.eval), strict=True):
        one, other = (x.batch(numbers) if isinstance(x, Items) else x for x in (one, other))
        for (place, x), (again, y) in zip(leaves(one), leaves(other), strict=True):
            assert place == again
            assert torch.equal(torch.as_tensor(x), torch.as_tensor(y))
