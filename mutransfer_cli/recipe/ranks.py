"""Initial weights where several ranks hold copies or parts of a model.

Imported only where torch.distributed is initialised, as the imports here take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.initialise import SPLIT


def demand_unwrapped(model: nn.Module) -> None:
    """Refuse what FSDP1 wraps, under whatever names it has its parameters.

    Raises:
        InputError: a part of the model is wrapped in FullyShardedDataParallel.
    """
    for name, module in model.named_modules():
        if isinstance(module, FullyShardedDataParallel):
            raise InputError(
                f"the model ({name or 'as a whole'}) is wrapped in FullyShardedDataParallel, under "
                "which parameters are pieces of a flat one; call init_ before wrapping it"
            )


def draw_(tensor: Tensor, mean: float, std: float, generator: torch.Generator | None) -> None:
    """Draw a parameter in place; a distributed one as if it were whole, from its first rank.

    Every rank draws, so that random states that were equal stay so.
    """
    if not isinstance(tensor, DTensor):
        tensor.normal_(mean, std, generator=generator)
        return
    local = tensor.to_local()
    whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=local.device)
    whole.normal_(mean, std, generator=generator)
    local.copy_(distribute_tensor(whole, tensor.device_mesh, tensor.placements).to_local())


def copy_from_first_(model: nn.Module, drawn: Sequence[tuple[str, Tensor]]) -> None:
    """Give all ranks the values of the first, in the group of DistributedDataParallel or in all.

    Raises:
        InputError: the ranks hold different parameters.
    """
    wrapped = (m for m in model.modules() if isinstance(m, DistributedDataParallel))
    replicas = next(wrapped, None)
    group = dist.group.WORLD if replicas is None else replicas.process_group
    # a DTensor is equal already over its own mesh, but not over replicas of that
    local = [
        (name, tensor.to_local() if isinstance(tensor, DTensor) else tensor)
        for name, tensor in drawn
        if replicas is not None or not isinstance(tensor, DTensor)
    ]
    own = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in local]
    ranks: list[object] = [None] * dist.get_world_size(group)
    dist.all_gather_object(ranks, own, group=group)
    if any(other != own for other in ranks):
        raise InputError(
            "the ranks hold different parameters, so that none can be copied from the first (as "
            f"under pipeline or tensor parallelism); {SPLIT}, with the same seed on every rank"
        )
    for _, tensor in local:
        # nccl sends only what is on a GPU
        sent = tensor.cuda() if dist.get_backend(group) == "nccl" else tensor.detach()
        dist.broadcast(sent, group=group, group_src=0)
        if sent.data_ptr() != tensor.data_ptr():
            tensor.copy_(sent)
