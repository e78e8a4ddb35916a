"""The user's own samples: a function's Dataset or tensors, made into a corpus.

The function runs in this process. Tensors are handed to worker processes as they are; a Dataset is
made anew in each, by calling the function again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from mutransfer_cli.data.corpus import Corpus, Part, size_of
from mutransfer_cli.data.items import Items, array_of, digest_of, item_tree, made
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import leaves, mapped
from mutransfer_cli.proxies.call import described
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.spec.data import OwnData, OwnDataProtocol
from mutransfer_cli.spec.model import FunctionSpec

PARTS = {"train", "eval"}
EXPECTED = (
    "expected a torch Dataset, tensors, a dict or tuple of tensors whose first axis counts the "
    "samples, or {'train': ..., 'eval': ...} of these"
)
NO_SAMPLES = "a part has no samples; return some"


def own_corpus(spec: OwnData) -> Corpus:
    """The corpus of the user's function.

    Raises:
        InputError: the function cannot be called, or returns something else than samples.
    """
    where = f"data.factory {spec.factory}"
    found = made(spec.factory, spec.args)
    if is_pair(found):
        given = (
            found if isinstance(found, dict) else dict(zip(("train", "eval"), found, strict=True))
        )
        if "eval_fraction" in spec.model_fields_set:
            raise InputError(
                f"{where}: returns an eval part, so that data.eval_fraction has no meaning; leave "
                "one of them out"
            )
        train, held_out = (part_of(given[key], key, spec, where) for key in ("train", "eval"))
    else:
        train, held_out = split(part_of(found, "", spec, where), spec.eval_fraction)
    parts = (train, held_out)
    if not all(map(size_of, parts)):
        raise InputError(f"{where}: {NO_SAMPLES}")
    refuse_other_samples(parts, where)
    digest = hashlib.sha256("".join(map(sha256_of, parts)).encode()).hexdigest()
    protocol = OwnDataProtocol(
        factory=spec.factory,
        args=spec.args,
        sha256=digest,
        samples=size_of(train),
        eval_samples=size_of(held_out),
    )
    note = (
        f"data: {spec.factory}: {size_of(train):,} samples to train on, {size_of(held_out):,} to "
        f"evaluate, each with {structure_of(train)}"
    )
    return Corpus(train, held_out, None, protocol, note)


def own_example(data: OwnDataProtocol, loss: FunctionSpec | None) -> Example:
    """A small batch of the samples of a protocol, made by calling the function again."""
    return own_corpus(OwnData(factory=data.factory, args=data.args)).example(1, loss)


def is_pair(found: Any) -> bool:
    """Whether a function returned a train and an eval part."""
    if isinstance(found, dict):
        return found.keys() == PARTS
    if not isinstance(found, tuple | list) or len(found) != 2:
        return False
    return all(is_dataset(part) for part in found)


def is_dataset(found: Any) -> bool:
    """Whether something is read item by item."""
    if isinstance(found, Dataset):
        return True
    plain = isinstance(found, Tensor | np.ndarray | dict | tuple | list | str)
    return not plain and hasattr(found, "__len__") and hasattr(found, "__getitem__")


def part_of(found: Any, key: str, spec: OwnData, where: str) -> Part:
    """One part as arrays, or as the items of a Dataset."""
    if isinstance(found, TensorDataset):
        found = found.tensors
    if isinstance(found, IterableDataset) or (
        isinstance(found, Dataset) and not hasattr(found, "__len__")
    ):
        raise InputError(
            f"{where}: returned {type(found).__name__}, whose samples have no numbers; return a "
            "Dataset with __len__ and __getitem__"
        )
    if is_dataset(found):
        items = Items(spec.factory, spec.args, key, 0, len(found), found)
        if not items.stop:
            raise InputError(f"{where}: {NO_SAMPLES}")
        return items.with_digest()
    arrays = mapped(lambda leaf: array_of(leaf, where, EXPECTED), item_tree(found))
    sizes = {place: len(x) if x.ndim else 0 for place, x in leaves(arrays)}
    if not sizes:
        raise InputError(f"{where}: returned {described(found)}, {EXPECTED}")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{place} {size}" for place, size in sizes.items())
        raise InputError(
            f"{where}: its tensors count different numbers of samples on their first axis "
            f"({listed}); give as many of each"
        )
    return arrays


def split(part: Part, share: float) -> tuple[Part, Part]:
    """The part without its end, and the end, which is the eval part."""
    size = size_of(part)
    at = size - int(size * share)
    if isinstance(part, Items):
        return replace(part, stop=at).with_digest(), replace(part, start=at).with_digest()
    return mapped(lambda x: x[:at], part), mapped(lambda x: x[at:], part)


def refuse_other_samples(parts: Iterable[Part], where: str) -> None:
    """Raise InputError unless the samples of both parts have the same structure."""
    train, held_out = map(structure_of, parts)
    if train != held_out:
        raise InputError(
            f"{where}: samples to train on have {train}, and those to evaluate {held_out}; give "
            "samples of one structure"
        )


def structure_of(part: Part) -> str:
    """The places, shapes and types of one sample."""
    if isinstance(part, Items):
        part = part.first()
    return ", ".join(
        f"{place or 'values'} {list(x.shape[1:])} {str(x.dtype).removeprefix('torch.')}"
        for place, x in leaves(part)
    )


def sha256_of(part: Part) -> str:
    """Hash of all samples of tensors, or of the first and last few of a Dataset."""
    return part.sha256 if isinstance(part, Items) else digest_of(part)
