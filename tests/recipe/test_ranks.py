"""Initial weights are the same on all ranks, however a model is spread over them."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from tests.recipe.made import Net, loaded
from tests.recipe.test_initialise import with_init


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def on_a_rank(rank: int, port: int, path: str) -> None:
    """Each way to spread a model over two ranks, whose seeds differ."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    recipe = load_recipe(path)

    def drawn(model: Any, seed: int = rank) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        done = recipe.init_(model)
        assert len(done.drawn) == 5
        values = {n.removeprefix("module."): p.detach() for n, p in model.named_parameters()}
        return {n: v.full_tensor() if isinstance(v, DTensor) else v for n, v in values.items()}

    torch.manual_seed(0)
    alone = Net(gains=True)
    expected = {name: value.clone() for name, value in drawn(alone, seed=0).items()}
    mesh = init_device_mesh("cpu", (2,))
    for wrap in (
        lambda model: model,
        DistributedDataParallel,
        lambda model: fully_shard(model, mesh=mesh),
    ):
        found = drawn(wrap(Net(gains=True)))
        for name, value in expected.items():
            assert torch.equal(found[name], value), (name, "differs from what the first rank drew")
    parts: Any = fully_shard(Net(gains=True), mesh=mesh)
    drawn(parts, seed=0)
    halves: list[Any] = [None, None]
    dist.all_gather_object(halves, parts.layers[0].weight.to_local())
    assert not torch.equal(*halves), "equal seeds must not make equal parts"
    assert torch.equal(torch.cat(halves), expected["layers.0.weight"])
    state: list[Any] = [None, None]
    dist.all_gather_object(state, torch.get_rng_state())
    assert torch.equal(*state), "ranks with equal seeds stay in step"
    with pytest.raises(InputError, match="the ranks hold different parameters"):
        recipe.init_(Net(depth=1 + rank, gains=True))
    dist.destroy_process_group()


def test_one_rank_draws_as_without_torch_distributed(folded: Recipe) -> None:
    recipe = loaded(folded, edit=with_init({"init_mean": 1.0}))
    plain, parts = Net(gains=True), Net(gains=True)
    recipe.init_(plain, torch.Generator().manual_seed(0))
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        fully_shard(parts, mesh=init_device_mesh("cpu", (1,)))
        recipe.init_(parts, torch.Generator().manual_seed(0))
        for name, parameter in parts.named_parameters():
            assert isinstance(parameter, DTensor)
            assert torch.equal(parameter.full_tensor(), plain.get_parameter(name))
        with pytest.warns(UserWarning, match="NO_SHARD"):
            flat = FullyShardedDataParallel(plain, device_id=torch.device("cpu"))
        with pytest.raises(InputError, match="is wrapped in FullyShardedDataParallel, under which"):
            recipe.init_(flat)
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.processes
def test_all_ranks_have_what_the_first_drew(folded: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    edited = loaded(folded, edit=with_init({"init_mean": 1.0})).recipe
    path.write_text(dump(edited))
    spawn(on_a_rank, (free_port(), str(path)), nprocs=2)  # type: ignore[no-untyped-call]
