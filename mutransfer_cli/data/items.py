"""Samples of the user's Dataset, read one by one on the host and stacked to batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.proxies.batch import Batch, leaves, mapped
from mutransfer_cli.proxies.call import described
from mutransfer_cli.proxies.factory import import_function, message_of

LOOKED_AT = 4  # samples at each end of a Dataset that identify it
# few of torch's kernels take unsigned integers of more than a byte
WIDER = {np.uint16: np.int32, np.uint32: np.int64, np.uint64: np.int64}
ITEM = "give tensors, arrays or numbers, in dicts or tuples"


def made(factory: str, args: Mapping[str, Any]) -> Any:
    """The result of the user's function.

    Raises:
        InputError: it cannot be imported or called.
    """
    where = f"data.factory {factory}"
    function = import_function(factory, where)
    try:
        return function(**args)
    except MutransferError:
        raise
    except Exception as error:
        raise InputError(
            f"{where}: raised {type(error).__name__}: {message_of(error)}; see data.args"
        ) from error


@cache
def made_again(factory: str, args: str) -> Any:
    """The result of the user's function, once in each process that did not make it itself.

    Args:
        args: as JSON.
    """
    return made(factory, json.loads(args))


@dataclass(frozen=True)
class Items:
    """A range of the samples of a Dataset; another process makes the Dataset anew.

    Attributes:
        key: the part of what the function returned; empty if it returned one.
        dataset: None in a process that has not read any sample yet.
        sha256: hash of the length and of the first and last few samples.
    """

    factory: str
    args: Mapping[str, Any]
    key: str
    start: int
    stop: int
    dataset: Any = None
    sha256: str = ""

    device = torch.device("cpu")

    def __len__(self) -> int:
        return self.stop - self.start

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"dataset": None}

    def with_digest(self) -> Items:
        """The same with its hash.

        Raises:
            InputError: a sample is not the same when it is read again.
        """
        first, again = self.first(), self.first()
        if digest_of(first) != digest_of(again):
            raise InputError(
                f"data.factory {self.factory}: sample {self.start} is another one when it is read "
                "again; draw random numbers in a forward or a loss with a parameter named "
                "generator, which the tool seeds for each step"
            )
        ends = [*range(len(self))][:LOOKED_AT] + [*range(len(self))][-LOOKED_AT:]
        looked_at = self.batch(torch.tensor(ends))
        return replace(self, sha256=digest_of((looked_at, torch.tensor(len(self)))))

    def first(self) -> Batch:
        """A batch of the first sample."""
        return self.batch(torch.zeros(1, dtype=torch.int64))

    def batch(self, offsets: Tensor) -> Batch:
        """Samples by their indices, [*offsets, ...] each; a sample asked for twice is read once."""
        wanted, inverse = torch.unique(offsets, return_inverse=True)
        numbers = [self.start + index for index in wanted.tolist()]
        stack = stacked([self._item(number) for number in numbers], numbers, self._where)
        return mapped(lambda x: x[inverse], stack)

    @property
    def _where(self) -> str:
        return f"data.factory {self.factory}"

    def _item(self, number: int) -> Any:
        dataset = self._dataset()
        try:
            return item_tree(dataset[number])
        except Exception as error:
            raise InputError(
                f"{self._where}: sample {number}: raised {type(error).__name__}: "
                f"{message_of(error)}"
            ) from error

    def _dataset(self) -> Any:
        if self.dataset is None:
            found = made_again(self.factory, json.dumps(self.args))
            if self.key:
                found = found[self.key] if isinstance(found, dict) else found[self.key == "eval"]
            if replace(self, dataset=found).with_digest().sha256 != self.sha256:
                raise InputError(
                    f"{self._where}: gives other samples in a worker process; make it give the "
                    "same at every call, for example by seeding its random numbers"
                )
            object.__setattr__(self, "dataset", found)  # frozen for everybody else
        return self.dataset


def item_tree(item: Any) -> Any:
    """The item with lists as tuples and mappings as dicts."""
    if isinstance(item, Mapping):
        return {str(key): item_tree(value) for key, value in item.items()}
    if isinstance(item, tuple | list):
        items = [item_tree(value) for value in item]
        return type(item)(*items) if hasattr(item, "_fields") else tuple(items)
    return item


def stacked(items: Sequence[Any], numbers: Sequence[int], where: str) -> Batch:
    """Samples of one structure as a batch.

    Args:
        numbers: of the samples, for messages.
    """
    first = [place for place, _ in leaves(items[0])]
    columns: list[list[Tensor]] = []
    for number, item in zip(numbers, items, strict=True):
        found = list(leaves(item))
        if [place for place, _ in found] != first:
            raise InputError(
                f"{where}: sample {number} has {', '.join(p or 'a value' for p, _ in found)}, and "
                f"sample {numbers[0]} {', '.join(p or 'a value' for p in first)}; give samples of "
                "one structure"
            )
        columns.append([leaf_tensor(x, place, number, where) for place, x in found])
    for column, place in zip(zip(*columns, strict=True), first, strict=True):
        refuse_ragged(column, place, numbers, where)
    stacks = iter([torch.stack(column) for column in zip(*columns, strict=True)])
    return mapped(lambda _: next(stacks), items[0])


def refuse_ragged(column: Sequence[Tensor], place: str, numbers: Sequence[int], where: str) -> None:
    """Raise InputError unless all samples have one shape and type at a place."""
    for number, x in zip(numbers, column, strict=True):
        if x.shape != column[0].shape or x.dtype != column[0].dtype:
            raise InputError(
                f"{where}: {place or 'the value'} of sample {number} is {described(x)} of "
                f"{x.dtype}, and of sample {numbers[0]} {described(column[0])} of "
                f"{column[0].dtype}; give all samples one shape and type (pad or crop them)"
            )


def leaf_tensor(x: Any, place: str, number: int, where: str) -> Tensor:
    if isinstance(x, bool | int | float):
        return torch.tensor(x)
    at = f"{where}: {place or 'the value'} of sample {number}"
    return torch.from_numpy(array_of(x, at, ITEM, copy=True))


def array_of(x: Any, where: str, expected: str, copy: bool = False) -> Any:
    """A tensor or array as an array of a type that torch computes with."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    if isinstance(x, np.generic):
        x = np.asarray(x)
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biufc":
        kind = x.dtype if isinstance(x, np.ndarray) else described(x)
        raise InputError(f"{where}: found {kind}, {expected}")
    wider = WIDER.get(x.dtype.type)
    return x.astype(wider) if wider else x.copy() if copy else x


def digest_of(arrays: Any) -> str:
    """Hash of the places, types, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for place, x in leaves(arrays):
        array = x.numpy() if isinstance(x, Tensor) else x
        digest.update(f"{place}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
