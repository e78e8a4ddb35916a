"""Corpora of the user's own functions: every form of samples, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutransfer_cli.data.corpus import Corpus, DeviceText, check_size, size_of
from mutransfer_cli.data.load import load_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import leaves
from mutransfer_cli.spec.data import OwnData, OwnDataProtocol
from mutransfer_cli.spec.sweep import TrainSpec
from tests.conftest import CPU

ROOM = "tests.data.own_samples"


def corpus(name: str, share: float | None = None, **args: Any) -> Corpus:
    given = {} if share is None else {"eval_fraction": share}
    return load_corpus(OwnData(factory=f"{ROOM}:{name}", args=args, **given), Path())


@pytest.mark.parametrize(
    ("name", "places", "sizes"),
    [
        ("as_tensor", [""], (216, 24)),
        ("as_tuple", ["0", "1"], (216, 24)),
        ("as_tensor_dataset", ["0", "1"], (216, 24)),
        ("as_dict", ["x", "label"], (216, 24)),
        ("as_dataset", ["x", "label", "number"], (216, 24)),
        ("nested", ["x.0", "x.1.0", "label"], (216, 24)),
        ("parts", ["x", "label"], (200, 40)),
        ("datasets", ["x", "label", "number"], (200, 40)),
    ],
)
def test_every_form_of_samples_is_read(
    name: str, places: list[str], sizes: tuple[int, int]
) -> None:
    found = corpus(name)
    assert (size_of(found.train), size_of(found.eval)) == sizes
    text = DeviceText.on(CPU, found)
    batch = text.batch(text.train, torch.tensor([[0, 3], [5, 3]]), 1)
    assert [place for place, _ in leaves(batch)] == places
    assert {tuple(x.shape[:2]) for _, x in leaves(batch)} == {(2, 2)}
    assert isinstance(found.protocol, OwnDataProtocol)
    assert (found.protocol.samples, found.protocol.eval_samples) == sizes
    assert found.vocab is None
    assert found.note.startswith(f"data: {ROOM}:{name}: {sizes[0]} samples to train on, ")


def test_a_dataset_has_the_samples_of_its_tensors() -> None:
    plain, items = (DeviceText.on(CPU, corpus(name)) for name in ("as_dict", "as_dataset"))
    numbers = torch.tensor([[3, 1], [200, 3]])
    for part in ("train", "eval"):
        within = numbers % 24
        one = plain.batch(getattr(plain, part), within, 1)
        other = items.batch(getattr(items, part), within, 1)
        assert torch.equal(one["x"], other["x"])
        assert torch.equal(one["label"], other["label"])
        first = 216 if part == "eval" else 0
        assert torch.equal(other["number"], within + first)


def test_the_share_of_the_eval_part_is_the_users() -> None:
    assert size_of(corpus("as_dict", share=0.5).eval) == 120
    with pytest.raises(InputError, match=r"returns an eval part, so that data.eval_fraction"):
        corpus("parts", share=0.5)


def test_the_hash_is_that_of_the_samples() -> None:
    hashes = [corpus("as_dict", size=size).protocol.sha256 for size in (240, 240, 239)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert corpus("as_tuple").protocol.sha256 != hashes[0], "with their places"
    assert corpus("as_dataset").protocol.sha256 == corpus("as_dataset").protocol.sha256


def test_types_that_torch_cannot_compute_with_are_widened() -> None:
    train = corpus("unsigned").train
    assert (train["x"].dtype, int(train["x"][0, 0])) == (np.int32, 60000)
    assert train["label"].dtype == np.float32


def test_a_mapped_file_is_not_copied(tmp_path: Path) -> None:
    found = corpus("mapped_file", folder=str(tmp_path))
    assert isinstance(found.train, np.memmap)
    assert np.array_equal(found.train, corpus("as_tensor").train)


@pytest.mark.parametrize(
    ("name", "args", "sentence"),
    [
        ("text", {}, r"found str, expected a torch Dataset, tensors, a dict or tuple of tensors"),
        ("nothing", {}, r"a part has no samples; return some$"),
        (
            "of_other_sizes",
            {},
            r"different numbers of samples .* \(x 5, label 4\); give as many",
        ),
        ("of_other_parts", {}, r"train on have values \[2\] float32, and .* values \[3\] float32;"),
        ("raises", {}, r"raised KeyError: 'no such file' \(.*own_samples.py:\d+\); see data.args"),
        ("stream", {}, r"returned Stream, whose samples have no numbers; return a Dataset with"),
        ("as_tuple", {"siz": 3}, r"unexpected keyword argument 'siz'"),
        ("absent", {}, r"own_samples.py has no function absent"),
        ("bad", {"form": "ragged"}, r"the value of sample 1 is a tensor of shape \[4\] .*pad or"),
        ("bad", {"form": "other keys"}, r"sample 1 has x, and sample 0 y; give samples of one"),
        ("bad", {"form": "random"}, r"sample 0 is another one when it is read again; draw random"),
        ("bad", {"form": "text"}, r"caption of sample 0: found str, give tensors, arrays or"),
        ("bad", {"form": "raises"}, r"sample 0: raised IndexError: .* \(.*own_samples.py:\d+\)$"),
    ],
)
def test_what_is_no_data_is_refused_in_a_sentence(
    name: str, args: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        corpus(name, **args)
    assert str(raised.value).startswith(f"data.factory {ROOM}:{name}: ")
    assert "\n" not in str(raised.value)


def test_both_parts_hold_a_batch() -> None:
    found = corpus("as_dict")
    check_size(found, TrainSpec(steps=1000, batch=24, context=1, eval_batches=1))
    with pytest.raises(InputError, match=r"eval part has 24 samples and needs at least 48 for ba"):
        check_size(found, TrainSpec(steps=1, batch=24, context=1, eval_batches=2))
